"""``mirror mcp``: tools for an assistant, by the Model Context Protocol."""

from __future__ import annotations

import click

from mirror.cli.mcp_tools import Given
from mirror.cli.options import common_as, help_end
from mirror.core.errors import ConfigError

#: The packages of the extra ``mcp`` that are imported here.
_OF_THE_EXTRA = frozenset(("anyio", "mcp"))


@click.command(
    short_help="Offer read-only tools to an assistant.",
    epilog=help_end(
        "mirror mcp",
        "mirror mcp memory.db --config /etc/mirror.json",
        codes={0: "the program that started it has closed standard input"},
    ),
)
@common_as(Given)
def mcp(settings: Given, debug: bool) -> None:
    """Offer read-only tools to an assistant, by the Model Context Protocol on standard input and output.

    status, cutover_plan, parity and rejects answer what those commands print with --json, for the sources that
    are named here, or else all. Nothing is changed, repaired or started; contents of rows are not in the answers. The
    settings are read for each call. The assistant's program starts this command. It needs `pip install 'mirror[mcp]'`.
    """
    try:
        from mirror.cli.mcp_server import serve
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _OF_THE_EXTRA:
            raise
        detail = "the package mcp is not installed, or is another version"
        raise ConfigError("serve tools", detail=detail, next_step="pip install 'mirror[mcp]'") from error
    serve(settings)
