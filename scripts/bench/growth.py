"""How the cost of a commit grows: with the size of the file, the number of sources, and the pace.

For each: processor time a commit of the mirror with its capture, and of Postgres; and the lag from a commit until
another process sees the row. At 10 MB and 1 GB at 1,000 commits a second; at 10, 100, 1,000 and 5,000 commits a
second on 10 MB; and over 1, 10 and 100 sources of 1 MB that share 1,000 commits a second. Processor time and lag are
measured one after the other, as looking takes processor time itself. At a slow pace what the mirror takes at rest is a
part of it. The charts are written as SVG; a series without a value (``--rates --sources``) is left out. ``--sizes 10
1000 10000`` needs 45 GB of disk where ``TMPDIR`` says: for the file, the mirror's copy, and the rows in Postgres.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from _processes import Meter, Up
from _sight import await_newest, await_table, lags
from _svg import Chart, draw
from common import BENCH, Figures, Workbench, parser, workbench, write

#: What is on the x axes, with the unit; the order of the charts.
AXES = {"size": "MB of the file", "sources": "sources", "rate": "commits/s"}
_PACE, _MEGABYTES, _MANY_MEGABYTES = 1000.0, 10.0, 1.0
#: A larger file has the rows of one of this size, many times.
_MULTIPLIED_MEGABYTES = 100.0
_FOLLOW_SECONDS = 1200.0


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured once; ``axes``: the charts that show it."""

    axes: tuple[str, ...]
    size: float = _MEGABYTES
    sources: int = 1
    rate: float = _PACE

    @property
    def name(self) -> str:
        """For the table."""
        sources = "1 source" if self.sources == 1 else f"{self.sources} sources"
        return f"{self.size:,g} MB, {sources}, {self.rate:,g}/s"


@dataclass(frozen=True, slots=True)
class Found:
    """What a setting costs: microseconds of processor time a commit, milliseconds; and seconds until it followed."""

    followed: float
    mirror: float
    postgres: float
    p50: float
    p99: float


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--sizes", type=float, nargs="*", default=[_MEGABYTES, 1000.0], help="sizes of the file in MB")
    made.add_argument("--sources", type=int, nargs="*", default=[1, 10, 100], help="numbers of sources")
    made.add_argument("--rates", type=float, nargs="*", default=[10, 100, _PACE, 5000], help="commits a second")
    made.add_argument("--seconds", type=float, default=5, help="length of each of the two measurements")
    made.add_argument("--svg", type=Path, default=BENCH / "growth.svg", metavar="FILE", help="where the charts go")
    options = made.parse_args()
    figures = Figures("how the cost of a commit grows, text key")
    points: dict[str, list[tuple[float, Found]]] = defaultdict(list)
    for setting in _settings(options):
        with workbench(options) as bench:
            found = _measure(bench, setting, options)
        figures.add(f"{setting.name}: start until it follows", found.followed, "s")
        figures.add(f"{setting.name}: processor time a commit", found.mirror + found.postgres, "µs")
        figures.add(f"{setting.name}: of it mirror and capture", found.mirror, "µs")
        figures.add(f"{setting.name}: lag, p50", found.p50, "ms")
        figures.add(f"{setting.name}: lag, p99", found.p99, "ms")
        for axis in setting.axes:
            points[axis].append((getattr(setting, axis), found))
        print(f"{setting.name}: done", flush=True)
    options.svg.write_text(_charts(points))
    figures.finish(options)


def _settings(options: argparse.Namespace) -> Sequence[Setting]:
    sizes = sorted(set(options.sizes))
    made = [Setting(("size",), size=size) for size in sizes if size != _MEGABYTES]
    for rate in sorted(set(options.rates)):
        shared = rate == _PACE and _MEGABYTES in sizes
        made.append(Setting(("size", "rate") if shared else ("rate",), rate=rate))
    if _MEGABYTES in sizes and _PACE not in options.rates:
        made.append(Setting(("size",)))
    return [*made, *(Setting(("sources",), _MANY_MEGABYTES, number) for number in sorted(set(options.sources)))]


def _measure(bench: Workbench, setting: Setting, options: argparse.Namespace) -> Found:
    base = bench.source("s0")
    _make(bench, base, setting.size)
    paths = [base, *(bench.source(f"s{at}", base) for at in range(1, setting.sources))]
    schemas = [f"s{at}" for at in range(setting.sources)]
    tables = [f"{schema}.item" for schema in schemas]
    count = int(setting.rate * options.seconds)
    job = {"path": base, "others": [str(path) for path in paths[1:]], "table": "text", "rate": setting.rate}
    with ExitStack() as stack:
        begun = time.monotonic()
        up = stack.enter_context(Up(bench.dsn, bench.state_dir, paths, schemas=schemas, log=bench.show_log))
        conn = stack.enter_context(bench.connect())
        for path, table in zip(paths, tables, strict=True):
            await_table(conn, path, _FOLLOW_SECONDS, up, table)
        followed = time.monotonic() - begun
        time.sleep(2.0)
        meter = Meter(up.groups(bench.server_pid))
        write("commits", **job, seed=1, commits=count)
        for path, table in zip(paths, tables, strict=True):
            await_newest(conn, path, table=table)
        taken = {part: seconds / count * 1e6 for part, seconds in meter.taken().items()}
        p50, p99 = lags(
            bench, bench.dsn, paths, rate=setting.rate, seconds=options.seconds, seed=2, tables=tables,
        )  # fmt: skip
    return Found(followed, taken["mirror"] + taken["capture"], taken["Postgres"], p50, p99)


def _make(bench: Workbench, path: Path, megabytes: float) -> None:
    times = round(megabytes / _MULTIPLIED_MEGABYTES)
    if times < 2:
        write("build", path=path, table="text", megabytes=megabytes)
        return
    base = bench.source("base")
    write("build", path=base, table="text", megabytes=_MULTIPLIED_MEGABYTES)
    write("multiply", path=path, base=base, times=times)


def _charts(points: dict[str, list[tuple[float, Found]]]) -> str:
    """Processor time in the first row, lag in the second."""
    rows: list[list[Chart]] = [[], []]
    for axis, unit in AXES.items():
        if not (found := sorted(points[axis], key=lambda point: point[0])):
            continue
        cost = {
            "mirror": [(x, max(one.mirror, 1.0)) for x, one in found],
            "Postgres": [(x, max(one.postgres, 1.0)) for x, one in found],
        }
        lag = {"p99": [(x, one.p99) for x, one in found], "p50": [(x, one.p50) for x, one in found]}
        rows[0].append(Chart("processor time, µs a commit", unit, cost))
        rows[1].append(Chart("lag, ms", unit, lag))
    return draw(rows)


if __name__ == "__main__":
    main()
