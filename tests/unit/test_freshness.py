"""Proofs of freshness: a stale row is never proved fresh, in whatever order things happen; sessions and tokens."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import pytest

from mirror.core.positions import Lsn, Salts
from mirror.core.published import Published
from mirror.storage.newest import NewestCommit
from mirror.storage.proofs import PositionRow, Proofs, Start
from tests.support.fresh_model import READY, StaleReadError, World, after, explore, ready, walk


@pytest.mark.slow
def test_every_order_of_a_few_steps() -> None:
    """From a reader that can prove what it reads: all sequences of five steps."""
    assert explore(ready(Proofs()), 5) > 1000


@pytest.mark.few(1)
@pytest.mark.parametrize("seed", range(4))
def test_long_walks(seed: int) -> None:
    chance = random.Random(seed)
    assert sum(walk(ready(Proofs()), chance, 80) for _ in range(1500)) > 200


# Weaker rules, each with an order of events in which it proves a stale row. The rule itself must not.


class AnyFrame(Proofs):
    """Equal salts count whatever the frame."""

    def covers(self, start: Start, row: PositionRow) -> bool:
        return super().covers(start, row._replace(frame=1 << 40))


class NoFloor(Proofs):
    """Equal salts count whatever the generation."""

    def covers(self, start: Start, row: PositionRow) -> bool:
        return super().covers(start, row._replace(generation=1 << 40))


class AnyLineage(Proofs):
    """Another copy of the source counts as well."""

    def covers(self, start: Start, row: PositionRow) -> bool:
        return super().covers(start, row._replace(lineage=start.floor.lineage if start.floor else ""))


class ByGeneration(Proofs):
    """A later generation than the known one of the index's salts counts as later."""

    def covers(self, start: Start, row: PositionRow) -> bool:
        floor, newest = start.floor, start.newest
        known = floor is not None and newest is not None and floor.salts == newest.salts
        later = known and floor is not None and row.generation > floor.generation
        return super().covers(start, row) or (later and newest is not None and row[2:4] != newest.salts)


class Trusting(Proofs):
    """Once asked, never again, unless other files are there."""

    def _is_another(self, before: NewestCommit, newest: NewestCommit) -> bool:
        return before.files != newest.files


class Blind(Proofs):
    """Other files are not noticed."""

    def look(self, newest: NewestCommit) -> None:
        super().look(newest._replace(files=(0, 0, 0, 0)))


class Hasty(Proofs):
    """What was said about the files counts, whatever became of them meanwhile."""

    def confirm(self, asked: Start, now: NewestCommit, *said: Any) -> bool:
        self.look(now)
        return super().confirm(self.begin(now), now, *said)


READ = " begin query prove"
ASK = " ask answer_mark confirm"
APPLY = " commit capture apply publish"
WEAKER: list[tuple[type[Proofs], str]] = [
    (AnyFrame, "commit" + READ),
    # A file from a backup, with the salts and the number of frames that the WAL had. Capture has noticed it.
    (NoFloor, APPLY + " replace_file look ask capture attach capture answer_mark confirm" + READ),
    # A power cut, and everything begins with new numbers; then Postgres comes back from a backup of before.
    (
        AnyLineage,
        APPLY + " save_postgres cut_power lose_state lose_postgres start_mirror attach agree publish" + ASK
        + " commit begin restore_postgres query prove",
    ),
    # The index is built again from a WAL that was reset and not written yet: its old salts are back, and it grows.
    (ByGeneration, "restart capture apply recover commit" + READ),
    (Trusting, "restart look capture apply recover commit" + READ),
    # An empty WAL, twice: what was written in between is in the file.
    (Trusting, "truncate recover look capture compare publish" + ASK + " commit truncate recover" + READ),
    (Blind, "recover look capture" + ASK + " begin replace_file" + READ),
    (Hasty, "ask answer_mark replace_file confirm" + READ),
]  # fmt: skip


@pytest.mark.parametrize(("weaker", "trail"), WEAKER)
def test_each_condition_is_needed(weaker: type[Proofs], trail: str) -> None:
    with pytest.raises(StaleReadError):
        after(ready(weaker()), trail.split())
    after(ready(Proofs()), trail.split())  # proves nothing, or does not even try to


def test_a_generation_that_was_compared_raises_the_floor() -> None:
    """A standby may still have the rows of before the comparison, with the same salts."""
    salts = Salts(7, 8)
    proofs, newest = Proofs(), NewestCommit((1, 2, 3, 4), (5, 6), salts, 10, 10)
    published = Published(True, True, 1, 2, 3, 4, 5, 10, *salts, 0.0, 0.0, "one")
    assert proofs.confirm(proofs.begin(newest), newest, Lsn(5, 10), "one", published.mirror)
    row = PositionRow(5, 10, *salts, "one")
    assert proofs.covers(proofs.begin(newest, published), row)
    assert proofs.covers(proofs.begin(newest, published._replace(generation=6, salt1=9)), row)
    start = proofs.begin(newest, published._replace(generation=6))
    assert not proofs.covers(start, row) and proofs.covers(start, row._replace(generation=6))
    assert not proofs.covers(proofs.begin(newest, published), row)


def test_the_row_as_postgres_gives_it() -> None:
    lineage = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
    row = PositionRow(1, 2, 3, 4, str(lineage))
    assert PositionRow.of((1, 2, 3, 4, lineage, "more")) == PositionRow.of([1, 2, 3, 4, str(lineage)]) == row
    assert PositionRow.of(None) is None
    assert PositionRow.of((None, None, None, None, None, "more")) is None


def test_what_is_published_is_heeded() -> None:
    """A mirror that has not agreed with Postgres yet may be in the generation of commits that a power cut took."""
    trail = APPLY + " cut_power_and_spool start_mirror attach commit capture" + ASK + READ
    world = World(Proofs(), heeds=False)
    with pytest.raises(StaleReadError):
        after(after(world, READY), trail.split())
