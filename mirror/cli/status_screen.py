"""What `mirror status` shows to people: once, or again and again.

:mod:`mirror.cli.status_view` has the form; this needs a console.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from mirror.cli.looking import Seen
from mirror.cli.output import print_line
from mirror.cli.status_view import console_of, show
from mirror.core.config.settings import Settings
from mirror.core.folders import known_sources


def show_seen(seen: Seen, settings: Settings, console: Console | None = None) -> None:
    """Print what was found at one moment. ``console``: None: stdout."""
    known = known_sources(settings.state_dir)
    show(console or console_of(), seen.reports, seen.around, settings.problem, known, settings.options)


def watch(looks: Iterable[Seen], settings: Settings) -> None:
    """Show each look: in place on a terminal, one after the other elsewhere."""
    console = console_of()
    if not console.is_terminal:
        for seen in looks:
            print_line(console, time.strftime("%Y-%m-%d %H:%M:%S%z"))
            show_seen(seen, settings, console)
            sys.stdout.flush()
    else:
        from rich.live import Live  # only a terminal needs it

        shown = Text()
        try:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                for seen in looks:
                    shown = _as_text(seen, settings, console)
                    live.update(_cut(shown, console.height), refresh=True)
        finally:
            print_line(console, shown)


def _as_text(seen: Seen, settings: Settings, console: Console) -> Text:
    """What would be printed, with the time in front."""
    made = console_of(console.width)
    with made.capture() as captured:
        print_line(made, time.strftime("mirror status  %H:%M:%S  (Ctrl-C ends)"))
        show_seen(seen, settings, made)
    return Text.from_ansi(captured.get())


def _cut(shown: Text, height: int) -> Text:
    """As many of the lines as fit on the screen; the last one says how many more there are."""
    lines = shown.split("\n")
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    if len(lines) <= height:
        return Text("\n").join(lines)
    more = Text(f"… {len(lines) - height + 1:,} more lines: make the window higher, or name fewer sources", "dim")
    return Text("\n").join([*lines[: height - 1], more])
