"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from mirror.config import Settings
from mirror.postgres.embedded import start_embedded

_OPTIONS = (
    click.argument("sources", nargs=-1, metavar="[SOURCE]...", type=click.Path()),
    click.option("--postgres", metavar="DSN", help="Postgres to mirror into; without any: an embedded one."),
    click.option("--state-dir", metavar="DIR", help="Where the mirror keeps its files."),
    click.option("--schema", default="public", show_default=True, help="Postgres schema of the tables."),
    click.option("--config", metavar="FILE", help="argent.json to read."),
    click.option("--debug", is_flag=True, help="Show tracebacks."),
)


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every command on sources takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@contextmanager
def postgres_of(settings: Settings) -> Iterator[str]:
    """The DSN to use; an embedded server is started, and stopped afterwards unless others use it."""
    if settings.dsn is not None:
        yield settings.dsn
        return
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    with start_embedded(settings.state_dir) as server:
        yield server.dsn
