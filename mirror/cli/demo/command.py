"""``mirror demo``: the whole story in a minute."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from mirror.cli.demo.story import Story
from mirror.cli.output import BAD, GOOD, print_line
from mirror.core.errors import ConfigError


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@click.command()
@click.option("--keep", metavar="DIR", help="Keep database and state in this new folder.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def demo(keep: str | None, debug: bool) -> None:
    """Write a memory store, mirror it live, kill the mirror, recover, and prove that all is equal."""
    console = Console()
    signal.signal(signal.SIGTERM, _interrupt)  # so that nothing that was started stays behind
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mirror-", ignore_cleanup_errors=True) as temporary:
        folder = Path(keep).resolve() if keep else Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError("run the demo", str(folder), "the folder is not empty", next_step="name a new one")
        outcome = Story(folder, console).tell()
    for claim, holds in outcome.claims:
        print_line(console, GOOD if holds else BAD, f" {claim}")
    verdict = "All of it held" if outcome.held else "Not all of it held"
    print_line(console, f"{verdict}; {time.monotonic() - begun:.0f} s.")
    print_line(console, "Next: `mirror up YOUR.db` does the same for your file.")
    sys.exit(0 if outcome.held else 1)
