"""``mirror top``: lag and throughput as they move."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from mirror.cli.looking import Looking
from mirror.cli.options import common_even_if_broken, help_end
from mirror.cli.status import status_of
from mirror.cli.top_view import Moment, View
from mirror.core.config.settings import Settings
from mirror.core.control import ControlClient
from mirror.core.errors import ConfigError, ControlError
from mirror.core.folders import source_folder
from mirror.core.recorded_load import RecordedLoad

#: What terminals send for keys that are no characters.
_SEQUENCES = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1bOA": "up", b"\x1bOB": "down", b"\x1b": "escape"}
_CHARACTERS = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace"}


@click.command(
    short_help="Watch lag and throughput as they move.",
    epilog=help_end("mirror top", "mirror top memory.db --every 0.5", codes={0: "it was ended with q"}),
)
@common_even_if_broken
@click.option(
    "--every",
    metavar="SECONDS",
    type=click.FloatRange(0.2, 60.0),
    default=1.0,
    show_default=True,
    help="Between two looks.",
)
def top(settings: Settings, debug: bool, every: float) -> None:
    """Watch what the mirror of each source does, in a terminal, until q.

    Without SOURCE it shows the sources that mirror.json lists, or else all that the state directory knows. Keys: q
    ends, p pauses, s changes the order, r reverses it, / filters by a part of the path, the arrows choose a source,
    and Enter shows its tables. Only the status is read.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        step = "use it in a terminal; for scripts there is `mirror status --json`"
        raise ConfigError("show what moves", detail="this is no terminal", next_step=step)
    view, console = View(), Console()
    loads: dict[str, RecordedLoad] = {}
    with (
        Looking(settings, partial(status_of, settings=settings)) as looking,
        _keys() as descriptor,
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        due = 0.0
        while not view.ended:
            if time.monotonic() >= due:
                began = time.monotonic()
                seen = looking.look()
                if (opened := view.opened()) is not None:
                    loads = _load(settings, Path(opened))
                view.take(Moment(time.monotonic(), seen.reports, loads, seen.around))
                due = looking.again(every, began)
            live.update(view.render(loads, console.width, console.height), refresh=True)
            if select.select([descriptor], [], [], max(0.0, due - time.monotonic()))[0]:
                for key in _read(descriptor):
                    view.key(key)
                    if key == "enter":
                        due = 0.0  # its tables are to be there at once


def _load(settings: Settings, source: Path) -> dict[str, RecordedLoad]:
    with suppress(ControlError), ControlClient(source_folder(settings.state_dir, source)) as client:
        return {str(source): client.load()}
    return {}


@contextmanager
def _keys() -> Iterator[int]:
    """Keys come one by one, and are not shown; at the end the terminal is as it was."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _read(descriptor: int) -> list[str]:
    """The keys that have been pressed."""
    data = os.read(descriptor, 1024)
    if data in _SEQUENCES:
        return [_SEQUENCES[data]]
    if data.startswith(b"\x1b"):
        return [name for part in data.split(b"\x1b")[1:] if (name := _SEQUENCES.get(b"\x1b" + part))]
    return [_CHARACTERS.get(each, each) for each in data.decode(errors="ignore")]
