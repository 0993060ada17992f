"""What the change feed costs a transaction in Postgres: without a feed, with one in memory, and with its log.

The very sink that a mirror uses, with one source a kind, by turns in one run: single rows, each with its position, in
one transaction each; and transactions of many rows. Publishing itself has a thread of its own, and is not among it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from common import Figures, median, parser, workbench

from mirror.core.positions import Lsn, Position, Salts
from mirror.core.rows import Batch, RowChange, SchemaChange, TableChanges
from mirror.core.tables import Column, Table
from mirror.postgres.profiles import PROFILES
from mirror.postgres.sink import Sink
from mirror.sidecar.changes.feed import SourceFeed
from mirror.sidecar.changes.log import ChangeLog

KINDS = {"no feed": None, "a feed": False, "a feed and its log": True}
ITEM = Table(
    "item",
    2,
    (Column("id", "INTEGER", "INTEGER"), Column("body", "TEXT", "TEXT"), Column("n", "INTEGER", "INTEGER")),
    ("id",),
    "id",
    without_rowid=False,
    storage=(0, 1, 2),
)


class Source:
    """One sink, and the batches that it is given."""

    def __init__(self, dsn: str, number: int, logged: bool | None) -> None:
        log = ChangeLog(dsn, 1_000_000)
        feed = None if logged is None else SourceFeed(f"/{number}.db", log, logged=logged, ring=lambda feed: None)
        self._sink = Sink.open(dsn, f"/{number}.db", f"source{number}", PROFILES, changes=feed)
        self._frame = 0
        self._sink.apply(self._batch([], SchemaChange("create", None, ITEM)))

    def _batch(self, rows: list[RowChange], *schema: SchemaChange) -> Batch:
        self._frame += 1
        position = Position(Lsn(1, self._frame), Salts(1, 2), time.time())
        return Batch(position, 1, schema, [TableChanges(ITEM, iter(rows))])

    def apply(self, begin: int, end: int) -> None:
        """A transaction that inserts rows, or writes them again."""
        self._sink.apply(self._batch([RowChange(at, None, (at, f"row {at}", at)) for at in range(begin, end)]))

    def close(self) -> None:
        """Leave Postgres."""
        self._sink.close()


def turns(rounds: int, names: list[str]) -> Iterator[list[str]]:
    """Each kind comes first as often as the others."""
    for number in range(rounds):
        at = number % len(names)
        yield names[at:] + names[:at]


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--singles", type=int, default=2000, help="transactions of one row in a round")
    made.add_argument("--rows", type=int, default=50_000, help="rows of a large transaction")
    made.add_argument("--rounds", type=int, default=9, help="how often each is measured")
    options = made.parse_args()
    figures = Figures("the change feed")
    with workbench(options) as bench:
        sources = {name: Source(bench.dsn, number, logged) for number, (name, logged) in enumerate(KINDS.items())}
        single: dict[str, list[float]] = {name: [] for name in KINDS}
        large: dict[str, list[float]] = {name: [] for name in KINDS}
        for names in turns(options.rounds, list(KINDS)):
            for name in names:
                begun = time.perf_counter()
                for at in range(options.singles):
                    sources[name].apply(at, at + 1)
                single[name].append((time.perf_counter() - begun) / options.singles)
        for names in turns(options.rounds, list(KINDS)):
            for name in names:
                begun = time.perf_counter()
                sources[name].apply(0, options.rows)
                large[name].append((time.perf_counter() - begun) / options.rows)
        for source in sources.values():
            source.close()
    for what, took in (("a transaction of one row", single), ("a row of many", large)):
        base = median(took["no feed"]) * 1e6
        for name in KINDS:
            figures.add(f"{what}, {name}", median(took[name]) * 1e6, "us", "no feed", base)
    figures.finish(options)


if __name__ == "__main__":
    main()
