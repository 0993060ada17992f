"""``python -m scripts.apps.writers``: run the fleet, keep what it came to, and make the table."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mirror.postgres.embedded import start_embedded
from scripts.apps.writers.beside import database
from scripts.apps.writers.entry import Writer, fleet
from scripts.apps.writers.install import NotInstalledError, install
from scripts.apps.writers.table import OUTCOMES, TABLE, Outcomes, load, save, table
from scripts.apps.writers.trial import try_out


def main() -> int:
    """Run what was asked for; 1 if an outcome is not among those that its writer expects."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        writers = fleet(options.only)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if options.list:
        for writer in writers:
            print(f"{writer.name}: {writer.title}; {', '.join(mode.name for mode in writer.modes)}")
        return 0
    outcomes = {} if options.fresh else load(options.results)
    if not options.table:
        with _server() as dsn:
            for writer in writers:
                _run(writer, options, outcomes, dsn)
    _keep(outcomes, options)
    chosen = {name: made for name, made in outcomes.items() if name.split("/")[0] in {w.name for w in writers}}
    if options.json:
        print(json.dumps(chosen, indent=1, ensure_ascii=False))
    return 1 if any(_unexpected(writer, outcomes) for writer in writers) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.apps.writers", description=__doc__)
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help="this writer (may be repeated)")
    parser.add_argument("--mode", metavar="MODE", action="append", default=[], help="this mode (may be repeated)")
    parser.add_argument("--fresh", action="store_true", help="forget earlier outcomes; without it a run is resumed")
    parser.add_argument("--apt", action="store_true", help="install Debian packages that are missing (as root)")
    parser.add_argument("--results", type=Path, default=OUTCOMES, metavar="FILE", help="where outcomes are kept")
    parser.add_argument("--json", action="store_true", help="print the outcomes as JSON")
    parser.add_argument("--table", action="store_true", help="run nothing: make the table of what was kept")
    parser.add_argument("--list", action="store_true", help="run nothing: list the writers and their modes")
    return parser.parse_args()


@contextmanager
def _server() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="mirror-writers-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)  # the server may run as a user of its own
        with start_embedded(Path(name)) as server:
            yield server.dsn


def _run(writer: Writer, options: argparse.Namespace, outcomes: Outcomes, dsn: str) -> None:
    """Run a writer in all modes that have no outcome yet, or in those asked for."""
    modes = [mode for mode in writer.modes if not options.mode or mode.name in options.mode]
    if not options.only and not options.mode:
        modes = [mode for mode in modes if f"{writer.name}/{mode.name}" not in outcomes]
    if not modes:
        return
    outcomes.pop(writer.name, None)
    try:
        installed = install(writer, options.apt)
    except NotInstalledError as error:
        outcomes[writer.name] = {"title": writer.title, "absent": str(error)}
        _keep(outcomes, options)
        print(f"{writer.name}: not installed: {error}", file=sys.stderr)
        return
    for mode in modes:
        begun = time.monotonic()
        with database(dsn) as own:
            made = try_out(writer, mode, installed, own)
        outcomes[f"{writer.name}/{mode.name}"] = made.to_json()
        _keep(outcomes, options)
        mark = "" if made.word in mode.expected else f"   (expected: {' or '.join(sorted(mode.expected))})"
        harm = f"   HARM {made.harm}" if made.harm else ""
        took = time.monotonic() - begun
        print(f"{writer.name} {mode.name}: {made.outcome}{harm}{mark} [{took:.0f} s]", file=sys.stderr, flush=True)


def _keep(outcomes: Outcomes, options: argparse.Namespace) -> None:
    """Write down what is known so far, so that nothing is lost if the run is ended."""
    save(outcomes, options.results)
    if options.results == OUTCOMES:
        TABLE.write_text(table(outcomes))


def _unexpected(writer: Writer, outcomes: Outcomes) -> bool:
    return any(
        made["word"] not in mode.expected
        for mode in writer.modes
        if (made := outcomes.get(f"{writer.name}/{mode.name}")) is not None
    )


if __name__ == "__main__":
    sys.exit(main())
