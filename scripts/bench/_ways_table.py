"""What ``peers.py`` has found, as two tables: the short one of the project's README.md, and the whole one beside this.

Both stand between the lines ``<!-- peers.py -->`` and ``<!-- end -->``, below a line that says on what was measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common import BENCH, ROOT, shown

EVENTS = ("VACUUM", "a row changed twice", "another program's SQL", "kill -9", "ADD COLUMN")
_LOST = tuple(f"lost: {event}" for event in EVENTS)
_MARKED = re.compile(r"(?<=^<!-- peers\.py -->\n).*?(?=^<!-- end -->$)", re.MULTILINE | re.DOTALL)


@dataclass(slots=True)
class Found:
    """What one way costs and loses; microseconds a commit, milliseconds."""

    name: str
    alone: float = 0.0
    commit: float = 0.0
    writer: float = 0.0
    copier: float = 0.0
    postgres: float = 0.0
    lag: tuple[float, float] | None = None
    inexact: bool | None = None
    """Whether numbers differ behind the twelfth digit."""
    lost: dict[str, int] = field(default_factory=dict)
    """Rows that differ, after each event."""

    @property
    def spent(self) -> float:
        """Processor time of all together."""
        return self.writer + self.copier + self.postgres


@dataclass(frozen=True, slots=True)
class Measured:
    """On what was measured: MB of the file, seconds of each measurement, and versions by what has them."""

    cores: int
    load: float
    rate: float
    size: float
    seconds: float
    versions: Mapping[str, str]

    def __str__(self) -> str:
        named = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"Measured on {self.cores} cores (load {self.load:.1f}) at {self.rate:,g} commits/s for {self.seconds:g} s,"
            f" into a file of {self.size:g} MB; {named}."
        )


def short(found: Sequence[Found]) -> str:
    """What matters to who chooses a way; "no mirror" is none."""
    heads = ("way", "the writer beside it", "lag, p50", "processor time a commit", *_LOST)
    rows = [
        (
            one.name, f"{one.commit / one.alone:.2f} × alone", "–" if one.lag is None else f"{shown(one.lag[0])} ms",
            f"{one.spent:.0f} µs", *_lost(one),
        )
        for one in found if one.lost
    ]  # fmt: skip
    return _table(heads, rows)


def whole(found: Sequence[Found]) -> str:
    """All that was measured."""
    heads = (
        "way", "the writer beside it, p50", "lag, p50 and p99", "processor time a commit",
        "of it writer, copier, Postgres", "numbers", *_LOST,
    )  # fmt: skip
    rows = [
        (
            one.name, f"{one.commit:.0f} µs, {one.commit / one.alone:.2f} × alone",
            "–" if one.lag is None else f"{shown(one.lag[0])} and {shown(one.lag[1])} ms", f"{one.spent:.0f} µs",
            ", ".join(f"{part:.0f}" for part in (one.writer, one.copier, one.postgres)),
            "–" if one.inexact is None else "cut" if one.inexact else "exact", *_lost(one),
        )
        for one in found
    ]  # fmt: skip
    return _table(heads, rows)


#: Where each table is shown.
TABLES = {ROOT / "README.md": short, BENCH / "README.md": whole}


def fill(found: Sequence[Found], measured: Measured) -> None:
    """Put the tables into the files that show them."""
    for path, table in TABLES.items():
        before, after = _MARKED.split(path.read_text())
        path.write_text(f"{before}{measured}\n\n{table(found)}\n{after}")


def filled(text: str) -> str:
    """What such a file has there."""
    (found,) = _MARKED.findall(text)
    return str(found)


def _lost(one: Found) -> list[str]:
    return [_told(one.lost.get(event)) for event in EVENTS]


def _told(lost: int | None) -> str:
    if lost is None:
        return "–"
    return f"**{lost:,} {'row' if lost == 1 else 'rows'}**" if lost else "nothing"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
