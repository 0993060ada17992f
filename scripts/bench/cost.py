"""What a commit costs: processor time, and what the program beside it notices; this build alone or against another.

One file with a text key. Processor time (user and system) of the mirror's process, of capture and of all processes of
Postgres, divided by the commits, from before the first until Postgres has the last: at a pace, and as fast as the
writer goes. The writer's own p99 and rate beside the mirror and alone, on a copy of the same file; the commits a
second from the first until Postgres has the last. Idle: what they take while nobody writes, and what they hold, with
one source and with many. How long ``mirror status`` and ``mirror wait`` take. Postgres itself is asked for what it has.

``--against REVISION`` makes a checkout and an environment of it, and measures both builds in turn, pair by pair, by
their command lines alone and with the same server; a build that does not follow the many sources has no figures of
them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from _environments import THIS, Build, in_pairs, of_revision, print_pairs
from _processes import Meter, Up, resident
from _sight import await_key, await_newest, await_table
from common import Conn, Figure, Figures, Workbench, environment, median, parser, percentile, workbench, write
from fleet import create

#: Seconds that a build has to follow one source, and the many.
_ONE, _MANY = 60.0, 180.0


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--against", metavar="REVISION", help="compare with this commit, tag or branch")
    made.add_argument("--rounds", type=int, default=3, help="rounds, or pairs (default 3)")
    made.add_argument("--size", type=float, default=10, help="MB of the database")
    made.add_argument("--rate", type=float, default=1000, help="commits a second when paced")
    made.add_argument("--seconds", type=float, default=5, help="length of a paced measurement")
    made.add_argument("--unpaced", type=int, default=30_000, help="commits of an unpaced measurement")
    made.add_argument("--idle", type=float, default=20, help="seconds for which the idle processes are watched")
    made.add_argument("--sources", type=int, default=100, help="number of the many sources; 0: leave that out")
    made.add_argument("--starts", type=int, default=10, help="how often a command is started")
    options = made.parse_args()
    with workbench(options) as bench:
        base = bench.source("base")
        write("build", path=base, table="text", megabytes=options.size)
        measure = partial(_measure, options=options, bench=bench, base=base)
        if not options.against:
            _middle([measure(THIS, number) for number in range(options.rounds)]).finish(options)
            return
        units: dict[str, str] = {}
        with tempfile.TemporaryDirectory(prefix="mirror-against-") as folder:
            other = of_revision(options.against, Path(folder))
            pairs = in_pairs(options.rounds, other, lambda build, number: _values(measure(build, number), units))
    print_pairs(pairs, options.against, units)
    if options.json:
        Path(options.json).write_text(json.dumps(pairs))


def _values(figures: Figures, units: dict[str, str]) -> dict[str, float]:
    units.update({line.name: line.unit for line in figures.lines})
    return {line.name: line.value for line in figures.lines}


def _middle(rounds: list[Figures]) -> Figures:
    """The median of each figure, and of its ratio, over the rounds."""
    made = Figures(rounds[0].title)
    for at, line in enumerate(rounds[0].lines):
        each = [figures.lines[at] for figures in rounds]
        ratios = [one.ratio for one in each if one.ratio is not None]
        ratio = median(ratios) if ratios else None
        made.lines.append(Figure(line.name, median([one.value for one in each]), line.unit, line.against, ratio))
    return made


def _measure(build: Build, number: int, *, options: argparse.Namespace, bench: Workbench, base: Path) -> Figures:
    """All figures of a build, once."""
    figures = Figures(f"cost of a commit, text key, {options.size:g} MB")
    with tempfile.TemporaryDirectory(prefix="build-", dir=bench.folder) as name:
        folder = Path(name)
        _one(build, number, options, figures, bench, base, folder)
        if options.sources:
            _many(build, options, figures, bench, folder)
    return figures


def _one(
    build: Build, number: int, options: argparse.Namespace, figures: Figures, bench: Workbench, base: Path, folder: Path
) -> None:
    source, plain = bench.source(f"{folder.name}/source", base), bench.source(f"{folder.name}/plain", base)
    dsn = bench.database("one")
    # Alone before the mirror starts in one round and after it has ended in the next.
    alone = _writing(bench, plain, options, number) if number % 2 else None
    with Up(dsn, folder / "state", [source], build=build, log=bench.show_log) as up, bench.connect(dsn) as conn:
        await_table(conn, source, _ONE, up)
        time.sleep(2.0)
        _at_rest(figures, bench, up, options.idle, "one source")
        found = {}
        for how, job in _jobs(options).items():
            time.sleep(0.5)
            meter = Meter(up.groups(bench.server_pid))
            result = _write(bench, source, number, job)
            seen = await_newest(conn, source)
            took = {part: seconds / result["commits"] * 1e6 for part, seconds in meter.taken().items()}
            figures.add(f"{how}: processor time a commit", sum(took.values()), "µs")
            for part, micros in took.items():
                figures.add(f"{how}: of it {part}", micros, "µs")
            found[how] = result | {"sustained": result["commits"] / (seen - result["begun"])}
        _starts(figures, up, source, options)
    alone = alone or _writing(bench, plain, options, number)
    paced, unpaced = _jobs(options)
    figures.add(f"{paced}: writer's p99 alone", alone[paced]["p99"], "µs")
    figures.add(f"{paced}: writer's p99 beside", found[paced]["p99"], "µs", "alone", alone[paced]["p99"])
    figures.add("unpaced: writer alone", alone[unpaced]["rate"], "commits/s")
    figures.add("unpaced: writer beside", found[unpaced]["rate"], "commits/s", "alone", alone[unpaced]["rate"])
    figures.add("unpaced: sustained", found[unpaced]["sustained"], "commits/s", "the writer", found[unpaced]["rate"])


def _jobs(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """What is written, by the name that it has in the table."""
    return {
        f"at {options.rate:g}/s": {"rate": options.rate, "commits": int(options.rate * options.seconds)},
        "unpaced": {"commits": options.unpaced},
    }


def _writing(bench: Workbench, path: Path, options: argparse.Namespace, number: int) -> dict[str, dict[str, Any]]:
    return {how: _write(bench, path, number, job) for how, job in _jobs(options).items()}


def _write(bench: Workbench, path: Path, number: int, job: dict[str, float]) -> dict[str, Any]:
    """Have the writer do a job; what it says, and when it began, its p99 in µs and its commits a second."""
    stamps = bench.folder / "stamps"
    seed = number * 2 + ("rate" in job)
    result = write("commits", path=path, table="text", seed=seed, stamps=stamps, **job)
    begins, ends = bench.stamps(stamps)
    took = [(end - begin) * 1e6 for begin, end in zip(begins, ends, strict=True)]
    rate = result["commits"] / result["seconds"]
    return result | {"begun": begins[0], "p99": percentile(took, 0.99), "rate": rate}


def _at_rest(figures: Figures, bench: Workbench, up: Up, seconds: float, what: str) -> None:
    """What is taken and held while nobody writes."""
    groups = up.groups(bench.server_pid)
    meter = Meter(groups)
    time.sleep(seconds)
    taken = meter.taken()
    figures.add(
        f"idle, {what}: mirror and capture", (taken["mirror"] + taken["capture"]) / seconds * 100, "% of a core"
    )
    for part in ("capture", "Postgres"):
        figures.add(f"idle, {what}: {part}", taken[part] / seconds * 100, "% of a core")
    held = {part: resident(groups[part]()) for part in ("mirror", "capture")}
    figures.add(f"memory, {what}: mirror and capture", sum(held.values()), "MB")
    figures.add(f"memory, {what}: capture", held["capture"], "MB")


def _starts(figures: Figures, up: Up, source: Path, options: argparse.Namespace) -> None:
    """How long commands take that ask the running mirror."""
    for command in ("status", "wait"):
        took = []
        for _ in range(options.starts):
            words = [up.build.python, "-m", "mirror", command, str(source), *up.options]
            begun = time.monotonic()
            root = up.build.root
            subprocess.run(words, env=environment(root), cwd=root, check=True, stdout=subprocess.DEVNULL)
            took.append((time.monotonic() - begun) * 1e3)
        figures.add(f"mirror {command}", median(took), "ms")


def _many(build: Build, options: argparse.Namespace, figures: Figures, bench: Workbench, folder: Path) -> None:
    """At rest with many sources; their number may be more than the build can do."""
    paths = [bench.source(f"{folder.name}/s{at}") for at in range(options.sources)]
    for at, path in enumerate(paths):
        create(path, at).close()
    dsn = bench.database("many")
    with Up(dsn, folder / "many", paths, build=build, log=bench.show_log) as up, bench.connect(dsn) as conn:
        try:
            for at in range(options.sources):
                await_key(partial(_has_row, conn, f"item_{at}"), f"the table of source {at}", _MANY, up)
        except SystemExit as error:
            print(f"{build.name}: {options.sources} sources are left out: {error}")
            return
        time.sleep(min(options.idle, 10.0))
        _at_rest(figures, bench, up, options.idle, f"{options.sources} sources")


def _has_row(conn: Conn, table: str) -> bool:
    there = conn.execute("SELECT to_regclass($1)", (table,)).fetchone() != (None,)
    return there and conn.execute(f"SELECT 1 FROM {table}".encode()).fetchone() is not None


if __name__ == "__main__":
    main()
