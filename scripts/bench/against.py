"""This checkout against another revision: the same benchmarks with both builds in turn, and the ratio of each figure.

``against.py REVISION decode lag`` makes a checkout and an environment of that revision in a temporary directory, then
runs ``all.py`` of each build with the benchmarks named (none: all), in turn, so that whatever else the machine does
meets both. The ratio is this build's figure by the other's, as the median of the pairs; beside it the smallest and the
largest.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from functools import partial
from pathlib import Path

from _environments import Build, in_pairs, of_revision, print_pairs
from common import parser


def run(build: Build, number: int, *, names: list[str], result: Path) -> dict[str, float]:
    """Run the benchmarks of one build; return its figures by name."""
    command = [build.python, str(build.root / "scripts" / "bench" / "all.py"), *names, "--json", str(result)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {name: value for name, value, *_ in json.loads(result.read_text())}


def main() -> None:
    """Run both builds in turn and print the ratios."""
    made = parser(__doc__)
    made.add_argument("revision", help="what to compare with: a commit, a tag, a branch")
    made.add_argument("names", nargs="*", metavar="NAME", help="only these benchmarks of all.py")
    made.add_argument("--rounds", type=int, default=3, help="pairs to run (default 3)")
    options = made.parse_args()
    with tempfile.TemporaryDirectory(prefix="mirror-against-") as temporary:
        folder = Path(temporary)
        measure = partial(run, names=options.names, result=folder / "figures.json")
        pairs = in_pairs(options.rounds, of_revision(options.revision, folder), measure)
    print_pairs(pairs, options.revision)
    if options.json:
        Path(options.json).write_text(json.dumps(pairs))


if __name__ == "__main__":
    main()
