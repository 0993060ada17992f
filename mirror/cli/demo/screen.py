"""What the demo shows: lines of what has happened, and below them, on a terminal, what is going on.

The table keeps its place and its width, whatever the figures are, and fits into 80 columns.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Column, Table
from rich.text import Text

from mirror.cli.output import print_line, text
from mirror.core.status import Phase, StatusReport

#: Columns of a table's name, and of what is said of it.
_NAME, _SAID = 24, 40
#: Phases in other words than their names.
_WORDS = {
    Phase.SNAPSHOT: "copying the file",
    Phase.CATCHING_UP: "catching up",
    Phase.REDIFF: "catching up: comparing the whole file",
}


def doing(status: StatusReport) -> str:
    """What the mirror does, in a few words."""
    if status.phase is not Phase.FOLLOWING:
        return _WORDS.get(status.phase, str(status.phase))
    lag = status.lag_seconds
    if lag is None:
        return "following"
    return f"following, {lag * 1000:.0f} ms behind" if lag < 1 else f"following, {lag:.1f} s behind"


class Screen:
    """The lines and the table of one run; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = time.monotonic()
        self._table: Table | None = None
        self._waiting: Spinner | None = None
        self._live = Live(console=console, refresh_per_second=8, transient=True, get_renderable=self._shown)

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _shown(self) -> RenderableType:
        return Group(*(part for part in (self._table, self._waiting) if part is not None))

    def event(self, line: str, *more: str) -> None:
        """Print what has happened, and when; ``more``: lines below."""
        at = f"{time.monotonic() - self._begun:5.1f} s"
        print_line(self._console, Text(at, "dim"), f"  {line}")
        for each in more:
            print_line(self._console, " " * len(at), f"  {each}")

    @contextmanager
    def waiting_for(self, what: str) -> Iterator[None]:
        """Say what is waited for in the block."""
        self._waiting = Spinner("dots", text(f" {what} …"))
        self._live.refresh()
        try:
            yield
        finally:
            self._waiting = None

    def show(self, rows: Mapping[str, int], mirror: str) -> None:
        """Show how many rows the tables have in Postgres, and what the mirror does."""
        table = Table(Column("in Postgres", width=_NAME), Column("rows", width=_SAID))
        for name, number in rows.items():
            table.add_row(text(name), f"{number:,}")
        table.add_section()
        table.add_row("the mirror", text(mirror))
        self._table = table
        self._live.refresh()

    def clear(self) -> None:
        """Show no table any more."""
        self._table = None
