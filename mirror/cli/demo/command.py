"""``mirror demo``: everything the mirror does, in a minute."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from mirror.cli.demo.story import LOG, STATE, Story
from mirror.cli.options import help_end
from mirror.cli.output import BAD, GOOD, print_line
from mirror.core.errors import ConfigError


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@click.command(
    short_help="See it work, with a crash, in a minute.",
    epilog=help_end(
        "mirror demo", "mirror demo --keep demo-files", codes={0: "every claim was true", 1: "a claim was not true"}
    ),
)
@click.option(
    "--keep",
    metavar="DIR",
    help="Keep the database and the state directory in this new folder.  [default: a temporary one]",
)
@click.option("--debug", is_flag=True, help="Show the Python traceback of an error.")
def demo(keep: str | None, debug: bool) -> None:
    """Write a SQLite database, mirror it live, kill the mirror, recover, and prove that all is equal.

    It starts a Postgres of its own and removes everything at the end, unless --keep names a folder.
    """
    console = Console()
    signal.signal(signal.SIGTERM, _interrupt)  # so that no process that was started is left running
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mirror-", ignore_cleanup_errors=True) as temporary:
        folder = Path(keep).resolve() if keep else Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError("run the demo", str(folder), "the folder is not empty", next_step="name a new one")
        outcome = Story(folder, console).run()
    for claim, holds in outcome.claims:
        print_line(console, GOOD if holds else BAD, f" {claim}")
    verdict = "All of it is true" if outcome.all_true else "Not all of it is true"
    print_line(console, f"{verdict}; {time.monotonic() - begun:.0f} s.")
    for line in _left(folder if keep else None):
        print_line(console, line)
    print_line(console, "Next: `mirror up YOUR.db` does the same for your file.")
    sys.exit(0 if outcome.all_true else 1)


def _left(folder: Path | None) -> list[str]:
    """What is left of the demo; ``folder``: where its files were kept."""
    if folder is None:
        return ["Its files are removed, and its Postgres is gone; `mirror demo --keep DIR` keeps them, to look at."]
    state, database = shlex.quote(str(folder / STATE)), shlex.quote(str(folder / "memory.db"))
    return [
        f"Its files are kept in {folder}: memory.db, {LOG}, and {STATE} with Postgres, which has stopped. To look:",
        f"  mirror psql --state-dir {state}",
        f"  mirror parity {database} --state-dir {state}",
        f"  mirror up {database} --state-dir {state}",
    ]
