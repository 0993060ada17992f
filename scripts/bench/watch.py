"""What the triggers cost that tell which rows others write in Postgres (``mirror.others_wrote``).

The mirror's own statements, in a session that says it is the mirror's: single rows, each with the position, and one
statement of many rows. Beside them those of a copy of the table without the triggers, by turns in one run, and single
updates of another program. All without waiting for the disk, which would hide it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from common import Conn, Figures, Mirror, median, parser, workbench, write

TABLES = ("item", "plain")
#: What the mirror sends for a row, with the position; what it sends for many; what another program sends.
ROW = (
    "WITH change AS (INSERT INTO {0} SELECT * FROM {0} WHERE id = $1::bigint"
    " ON CONFLICT (id) DO UPDATE SET id = excluded.id) UPDATE place SET at = at + 1"
)
MANY, OTHERS = "UPDATE {0} SET id = id", "UPDATE {0} SET id = id WHERE id = $1::bigint"


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def singles(conn: Conn, statement: str, table: str, number: int) -> None:
    """One statement after another, by id."""
    text = statement.format(table).encode()
    for at in range(number):
        conn.execute(text, (str(at % 500 + 1),), prepare=True)


def by_turns(rounds: int, work: Callable[[str], object]) -> tuple[float, float]:
    """Median seconds of each: with the triggers, and without."""
    took: dict[str, list[float]] = {table: [] for table in TABLES}
    for number in range(rounds):
        for table in TABLES if number % 2 else TABLES[::-1]:
            took[table].append(timed(partial(work, table)))
    return median(took["item"]), median(took["plain"])


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=100_000, help="rows of the table")
    made.add_argument("--updates", type=int, default=2000, help="single statements of a round")
    made.add_argument("--rounds", type=int, default=11, help="how often each is measured")
    options = made.parse_args()
    figures = Figures(f"watched tables, {options.rows:,} rows")
    with workbench(options) as bench:
        source = bench.source("source")
        write("build", path=source, table="wide", rows=options.rows)
        with Mirror(bench, source) as mirror:
            mirror.ready()
        with bench.connect() as conn:
            conn.execute("CREATE TABLE plain (LIKE item INCLUDING ALL)")
            conn.execute("INSERT INTO plain SELECT * FROM item")
            conn.execute("CREATE TABLE place AS SELECT 0::bigint AS at")
            conn.execute("ANALYZE item, plain; SET synchronous_commit = off; SET mirror.writer = 'on'")
            number, rounds = options.updates, options.rounds
            with_, without = by_turns(rounds, lambda table: singles(conn, ROW, table, number))
            figures.add(
                "the mirror, a row and its position", with_ / number * 1e6, "us", "unwatched", without / number * 1e6
            )
            with_, without = by_turns(rounds, lambda table: conn.execute(MANY.format(table).encode()))
            rows = options.rows
            figures.add("the mirror, a row of many", with_ / rows * 1e6, "us", "unwatched", without / rows * 1e6)
            conn.execute("RESET mirror.writer")
            with_, without = by_turns(rounds, lambda table: singles(conn, OTHERS, table, number))
            figures.add("others, a row", with_ / number * 1e6, "us", "unwatched", without / number * 1e6)
    figures.finish(options)


if __name__ == "__main__":
    main()
