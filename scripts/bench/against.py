"""This checkout against another revision: the same benchmarks with both builds in turn, and the ratio of each figure.

``against.py REVISION decode lag`` makes a checkout and an environment of that revision in a temporary directory, then
runs ``all.py`` of each build with the benchmarks named (none: all), in turn, so that whatever else the machine does
meets both. The ratio is this build's figure by the other's, as the median of the pairs; beside it the smallest and the
largest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from common import ROOT, median, parser


def build(revision: str, folder: Path) -> Path:
    """Make a checkout of ``revision`` and its environment in ``folder``; return its Python."""
    checkout = folder / "checkout"
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(ROOT), str(checkout)], check=True)
    subprocess.run(["git", "-C", str(checkout), "checkout", "--quiet", revision], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-e", f"{checkout}[embedded]"], check=True)
    return python


def run(python: str | Path, root: Path, names: list[str], result: Path) -> dict[str, float]:
    """Run the benchmarks of one build; return its figures by name."""
    command = [str(python), str(root / "scripts" / "bench" / "all.py"), *names, "--json", str(result)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return {name: value for name, value, *_ in json.loads(result.read_text())}


def main() -> None:
    """Run both builds in turn and print the ratios."""
    made = parser(__doc__)
    made.add_argument("revision", help="what to compare with: a commit, a tag, a branch")
    made.add_argument("names", nargs="*", metavar="NAME", help="only these benchmarks of all.py")
    made.add_argument("--rounds", type=int, default=3, help="pairs to run (default 3)")
    options = made.parse_args()
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="mirror-against-") as temporary:
        folder = Path(temporary)
        theirs = build(options.revision, folder)
        builds = [(sys.executable, ROOT), (theirs, folder / "checkout")]
        for number in range(options.rounds):
            turn = builds if number % 2 == 0 else builds[::-1]
            found = {root: run(python, root, options.names, folder / "figures.json") for python, root in turn}
            mine, other = found[ROOT], found[folder / "checkout"]
            for name in mine.keys() & other.keys():
                pairs[name].append((mine[name], other[name]))
            print(f"pair {number + 1} of {options.rounds} done", file=sys.stderr, flush=True)
    print(f"| what | this build | {options.revision} | ratio | of the pairs |\n|---|---|---|---|---|")
    for name, values in sorted(pairs.items()):
        ratios = sorted(mine / other for mine, other in values if other)
        if ratios:
            mine, other = (median([pair[side] for pair in values]) for side in (0, 1))
            spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
            print(f"| {name} | {mine:.4g} | {other:.4g} | {median(ratios):.2f} | {spread} |")
    if options.json:
        Path(options.json).write_text(json.dumps(pairs))


if __name__ == "__main__":
    main()
