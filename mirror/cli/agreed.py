"""Whether a person agrees to what deletes data for good: asked on a terminal, and else said by ``--yes``."""

from __future__ import annotations

import shlex
import sys

import click

from mirror.core.errors import ConfigError

yes_option = click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal, and with --json.")


def has_to_ask(operation: str, *, yes: bool, as_json: bool) -> bool:
    """Whether a question is due, before anything is changed.

    Raises ``ConfigError`` where it cannot be asked and was not answered by ``--yes``.
    """
    if yes:
        return False
    if as_json or not sys.stdin.isatty():
        given = shlex.join(sys.argv[1:])
        raise ConfigError(
            operation,
            detail="it deletes data for good, and there is nobody to ask",
            next_step=f"`mirror {given} --dry-run` says what would go; --yes instead of it agrees",
        )
    return True


def agrees(question: str) -> bool:
    """Ask; no is what an empty answer means."""
    return click.confirm(question, default=False)
