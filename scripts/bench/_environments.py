"""Environments of their own: another revision of this project, and the packages that it is compared with."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import ROOT, compiled, median

_INSTALL_SECONDS = 300

#: By the name of a figure: this build's and the other's, pair by pair.
Pairs = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Build:
    """A checkout, and the Python that has what it needs."""

    name: str
    python: str
    root: Path


THIS = Build("this build", sys.executable, ROOT)


def of_revision(revision: str, folder: Path) -> Build:
    """Make a checkout of ``revision`` and its environment in ``folder``. Raises ``CalledProcessError``."""
    checkout = folder / "checkout"
    subprocess.run(["git", "clone", "--quiet", "--no-checkout", str(ROOT), str(checkout)], check=True)
    subprocess.run(["git", "-C", str(checkout), "checkout", "--quiet", revision], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = str(folder / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-e", f"{checkout}[embedded]"], check=True)
    compiled(checkout)
    return Build(revision, python, checkout)


def installed(folder: Path, packages: Sequence[str]) -> str:
    """The interpreter of an environment with packages of PyPI; empty, and said why, if they cannot be installed."""
    python = str(folder / "bin" / "python")
    if Path(python).exists():
        return python
    try:
        for command in ([sys.executable, "-m", "venv", str(folder)], [python, "-m", "pip", "install", "-q", *packages]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
            if done.returncode:
                print(f"{folder.name}: left out, {(done.stderr.strip() or done.stdout.strip()).splitlines()[-1]}")
                return ""
    except subprocess.TimeoutExpired:
        print(f"{folder.name}: left out, could not be installed within {_INSTALL_SECONDS} s")
        return ""
    return python


def in_pairs(rounds: int, other: Build, measure: Callable[[Build, int], Mapping[str, float]]) -> Pairs:
    """Measure this build and another in turn, so that whatever else the machine does meets both.

    ``measure`` gets the build and the number of the pair, and returns figures by name; those that both have are paired.
    """
    pairs: Pairs = defaultdict(list)
    for number in range(rounds):
        turn = (THIS, other) if number % 2 == 0 else (other, THIS)
        found = {build: measure(build, number) for build in turn}
        for name in found[THIS]:
            if name in found[other]:
                pairs[name].append((found[THIS][name], found[other][name]))
        print(f"pair {number + 1} of {rounds} done", file=sys.stderr, flush=True)
    return pairs


def print_pairs(pairs: Pairs, other: str, units: Mapping[str, str] | None = None) -> None:
    """Print the ratio of each figure as a table that is also Markdown: the median of the pairs, and the range."""
    print(f"| what | this build | {other} | ratio | of the pairs |\n|---|---|---|---|---|")
    for name, values in pairs.items() if units else sorted(pairs.items()):
        ratios = sorted(mine / theirs for mine, theirs in values if theirs)
        if ratios:
            mine, theirs = (median([pair[side] for pair in values]) for side in (0, 1))
            unit = f" {units[name]}" if units and units[name] else ""
            spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
            print(f"| {name} | {mine:,.4g}{unit} | {theirs:,.4g}{unit} | {median(ratios):.2f} | {spread} |")
