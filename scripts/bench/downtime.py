"""After downtime: one percent of the rows were changed while no mirror ran, and the WAL was reset since.

Nothing proves any more what was written, so the mirror compares the file's pages with its own copy and decodes
those that differ. Measured from starting its process until it follows the source, as the first copy of the same
file is before it; and once more with nothing changed, which is the cost of comparing alone.
"""

from __future__ import annotations

from common import Figures, Mirror, median, parser, workbench, write


def main() -> None:
    """Run the benchmark."""
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=1_000_000, help="rows of the table")
    made.add_argument("--share", type=float, default=0.01, help="which part of them is changed")
    made.add_argument("--rounds", type=int, default=3, help="how often it is changed and compared")
    options = made.parse_args()
    changed = int(options.rows * options.share)
    figures = Figures(f"downtime, {changed:,} of {options.rows:,} rows changed")
    with workbench(options) as bench:
        source = bench.source("source")
        built = write("build", path=source, table="wide", rows=options.rows)
        with Mirror(bench, source) as mirror:
            first = mirror.ready()
            mirror.stop()
        spread: list[float] = []
        together: list[float] = []
        unchanged: list[float] = []
        for number in range(options.rounds):
            for found, how in ((spread, "spread"), (together, "together"), (unchanged, "none")):
                write("touch", path=source, rows=0 if how == "none" else changed, seed=number, spread=how == "spread")
                with Mirror(bench, source) as mirror:
                    found.append(mirror.ready())
                    mirror.stop()
        figures.add("size of the SQLite file", built["bytes"] / 1e6, "MB")
        figures.add("first copy, start to following", first, "s")
        figures.add("changed at random places, start to following", median(spread), "s", "first copy", first)
        figures.add("changed one behind the other, start to following", median(together), "s", "first copy", first)
        figures.add("nothing changed, start to following", median(unchanged), "s", "first copy", first)
    figures.finish(options)


if __name__ == "__main__":
    main()
