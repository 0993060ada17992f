"""Transactions of many rows on a narrow table: from the commit to all of it being visible in Postgres.

One transaction inserts the rows, one updates them all, one deletes them all. Against it, in the same run: the same
rows inserted into a like table, in one transaction too, by psycopg's `executemany`, which is what a program's
dual write would use.
"""

from __future__ import annotations

import time

from common import Figures, Mirror, median, parser, workbench, write


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=100_000, help="rows of each transaction")
    made.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    options = made.parse_args()
    figures = Figures(f"bulk, transactions of {options.rows:,} rows of two columns")
    took: dict[str, list[float]] = {"insert": [], "update": [], "delete": []}
    direct = []
    with workbench(options) as bench:
        source = bench.source("source")
        write("build", path=source, table="narrow", rows=1)
        with Mirror(bench, source) as mirror, bench.connect() as conn:
            mirror.ready()
            conn.execute("CREATE TABLE direct (LIKE public.item INCLUDING ALL)")
            for _ in range(options.rounds):
                for op, seconds in took.items():
                    done = write("narrow", path=source, rows=options.rows, op=op)
                    mirror.wait()
                    seconds.append(time.monotonic() - done["committed"])
                begun = time.monotonic()
                with conn.transaction(), conn.cursor() as cursor:
                    rows = ((number, number * 7) for number in range(options.rows))
                    cursor.executemany("INSERT INTO direct VALUES ($1, $2)", rows)
                direct.append(time.monotonic() - begun)
                conn.execute("TRUNCATE direct")
        base = options.rows / median(direct)
        figures.add("executemany in one transaction", base, "rows/s")
        for op, seconds in took.items():
            figures.add(
                f"mirror, {op}: commit to visible", options.rows / median(seconds), "rows/s", "executemany", base
            )
    figures.finish(options)


if __name__ == "__main__":
    main()
