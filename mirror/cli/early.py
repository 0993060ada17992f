"""What ``mirror up`` says before it has loaded what it needs, which takes a second or more: that it starts.

Who asks meanwhile, as ``mirror status``, is answered by the mark of :mod:`mirror.core.beginnings`.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from mirror.cli.completing import made_up
from mirror.core.beginnings import Beginning
from mirror.core.errors import MirrorError


def early_mark(words: Sequence[str]) -> Beginning | None:
    """The mark of a `mirror up` with these arguments, for a ``with`` block; None if they name no source.

    What is wrong with them, the command itself says.
    """
    from mirror.core.config.settings import load_settings

    command = made_up().get_command(click.Context(click.Group()), "up")
    assert command is not None
    try:
        given = command.make_context("up", [*words], resilient_parsing=True).params
        settings = load_settings(given["sources"], None, given["state_dir"], None, given["config"], lenient=True)
    except (MirrorError, click.ClickException, OSError):
        return None
    return Beginning(settings.state_dir, settings.sources) if settings.sources else None
