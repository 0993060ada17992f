"""A small model of a source, its mirror and a reader, whose steps come in any order: can a stale row be proved fresh?

Everything is as coarse as it may be without losing an order of events that matters. A *label* names a state of the
source; its ancestors are the states that it contains. The index, the WAL file, the mirror's spool and the row in
Postgres say where they are by salts, frames and generations, as the real ones do, and carry the label of what they
really have. The reader decides by the former, with the real :class:`~mirror.storage.proofs.Proofs`; the model knows
the latter.

Steps that a machine does once in years (a program that dies while it writes the index, a power cut, a backup that is
put back) are as likely here as a commit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field, replace

from mirror.core.positions import Lsn, Salts
from mirror.storage.newest import NewestCommit
from mirror.storage.proofs import PositionRow, Proofs, Start

_ZERO = Salts(0, 0)


class StaleReadError(AssertionError):
    """A row was proved fresh and lacks a commit that was made before the read began."""


@dataclass(frozen=True)
class Wal:
    """The WAL's file: the frames that a recovery would find."""

    salts: Salts
    frames: tuple[int, ...]
    """The label of the state after each."""


@dataclass(frozen=True)
class Place:
    """A position, with what is really there."""

    generation: int
    salts: Salts
    frame: int
    label: int
    lineage: str = ""

    def row(self) -> PositionRow:
        return PositionRow(self.generation, self.frame, *self.salts, self.lineage)

    @property
    def lsn(self) -> Lsn:
        return Lsn(self.generation, self.frame)


@dataclass(frozen=True)
class Said:
    """What is published."""

    following: bool
    mirror: tuple[object, ...]
    lineage: str


@dataclass
class World:
    """All of it. :meth:`steps` are those that are possible now."""

    proofs: Proofs
    heeds: bool = True
    """Whether the reader heeds that the mirror does not follow the source."""
    trail: tuple[str, ...] = ()

    # the source
    parents: dict[int, int] = field(default_factory=lambda: {0: -1})
    numbers: int = 0
    database: int = 1
    index: int = 2
    stamp: int = 0
    base: int = 0
    """The label of the database file without the WAL."""
    salts: Salts = _ZERO
    frames: tuple[int, ...] = ()
    changes: int = 0
    file: Wal | None = None

    # the mirror: its own files, its process, Postgres
    spool: tuple[Place, ...] = ()
    """What was captured and is not applied."""
    cursor: Place | None = None
    followed: tuple[int, int] | None = None
    """The files that capture has open; None: not attached."""
    followed_changes: int = 0
    recovered: bool = False
    """The index was built again since capture looked. (That it counts well is not what is modelled here.)"""
    known_database: int = 0
    """The database file that the cursor is in."""
    lineage: str = ""
    run: int = 0
    agreed: bool = False
    gap: bool = False
    """Pages have to be compared before anything is applied."""
    row: Place | None = None
    backup: Place | None = None
    said: Said | None = None

    # the reader
    start: Start | None = None
    start_label: int = 0
    answer: Place | None = None
    asked: Start | None = None
    asked_said: Said | None = None
    mark: Lsn | None = None
    proved: int = 0

    def copy(self) -> World:
        twin = copy(self)
        twin.proofs = copy(self.proofs)
        twin.proofs._seen = dict(self.proofs._seen)
        twin.parents = dict(self.parents)
        return twin

    # -- the source --------------------------------------------------------------------------------

    @property
    def label(self) -> int:
        """The state that the source has now."""
        return self.frames[-1] if self.frames else self.base

    def _new(self) -> int:
        self.numbers += 1
        return self.numbers

    def _new_label(self) -> int:
        before, label = self.label, self._new()
        self.parents[label] = before
        return label

    def _contains(self, label: int, wanted: int) -> bool:
        while label >= 0 and label != wanted:
            label = self.parents[label]
        return label == wanted

    def newest(self) -> NewestCommit:
        files = 1, self.database, 1, self.index
        return NewestCommit(files, (self.stamp, 1), self.salts, len(self.frames), self.changes)

    def commit(self) -> None:
        if self.salts == _ZERO:
            self.salts = Salts(self._new(), 1)
        self.frames = (*self.frames, self._new_label())
        self.file = Wal(self.salts, self.frames)
        self.changes += 1

    def _checkpoint(self) -> None:
        self.base, self.stamp = self.label, self._new()
        self.salts, self.frames = Salts(self._new(), 1), ()

    def restart(self) -> None:
        """A checkpoint that resets the WAL; its file has the old frames until the first new one."""
        self._checkpoint()

    def truncate(self) -> None:
        self._checkpoint()
        self.file = None

    def recover(self) -> None:
        """A program dies while it writes the index; the next one builds it again from the WAL's file."""
        self.changes, self.recovered = 0, True
        self.salts, self.frames = (self.file.salts, self.file.frames) if self.file else (_ZERO, ())

    def cut_power(self) -> None:
        """Whatever was not synced is lost: here the last frame. Nothing runs any more, the reader included."""
        if self.file is not None and self.file.salts == self.salts:
            self.file = replace(self.file, frames=self.file.frames[:-1])
        self.recover()
        self.index = self._new()
        self.kill()
        self._read_no_more()
        self.proofs = type(self.proofs)()

    def cut_power_and_spool(self) -> None:
        """The mirror's spool loses the same."""
        self.cut_power()
        if self.cursor is not None:
            if self.spool:
                self.spool = self.spool[:-1]
            frame = min(self.cursor.frame, len(self.frames)) if self.cursor.salts == self.salts else 0
            label = self.frames[frame - 1] if frame else self.base
            self.cursor = replace(self.cursor, frame=frame, label=label)

    def replace_file(self) -> None:
        """Another file at the path, with a WAL that has the salts of the one before, as a backup has."""
        label = self._new_label()
        self.database, self.index = self._new(), self._new()
        if self.frames:
            self.frames = (*self.frames[:-1], label)
            self.file = Wal(self.salts, self.frames)
        else:
            self.base, self.salts, self.file = label, _ZERO, None
        self.changes, self.stamp = 0, self._new()

    # -- the mirror --------------------------------------------------------------------------------

    @property
    def mirror(self) -> tuple[object, ...]:
        return self.run, self.lineage

    def start_mirror(self) -> None:
        self.run = self._new()
        self.said = Said(False, self.mirror, self.lineage)

    def kill(self) -> None:
        self.run, self.followed, self.agreed = 0, None, False

    def lose_state(self) -> None:
        """The state directory is deleted while no mirror runs."""
        self.spool, self.cursor, self.lineage, self.gap, self.said = (), None, "", False, None

    def attach(self) -> None:
        cursor = self.cursor
        known = (
            cursor is not None
            and self.known_database == self.database
            and cursor.salts == self.salts != _ZERO
            and cursor.frame <= len(self.frames)
            and (not cursor.frame or self.frames[cursor.frame - 1] == cursor.label)
        )
        if not known:
            self._begin_gap()
        assert self.cursor is not None
        self.followed, self.recovered, self.known_database = (self.database, self.index), False, self.database
        self.followed_changes = self.changes - (len(self.frames) - self.cursor.frame)

    def _begin_gap(self) -> None:
        generation = 1 + max([place.generation for place in (self.cursor, self.row) if place], default=0)
        self.cursor = Place(generation, self.salts, 0, self.base)
        self.spool, self.gap = (), True

    def _is_replaced(self) -> bool:
        return self.followed != (self.database, self.index)

    def capture(self) -> None:
        """Capture looks at the index and spools what is new."""
        cursor = self.cursor
        assert cursor is not None
        if self._is_replaced():
            self.followed, self.known_database = None, 0
            return
        if self.salts != cursor.salts or len(self.frames) < cursor.frame:
            missed = self.changes - self.followed_changes - len(self.frames)
            if self.salts in (_ZERO, cursor.salts) or missed or self.recovered:
                self._begin_gap()
            else:
                self.cursor = replace(cursor, generation=cursor.generation + 1, salts=self.salts, frame=0)
                if not self.gap:
                    self.spool = (*self.spool, self.cursor)
        elif len(self.frames) > cursor.frame:
            self.cursor = replace(cursor, frame=len(self.frames), label=self.frames[-1])
            if not self.gap:
                self.spool = (*self.spool, self.cursor)
        assert self.cursor is not None
        self.recovered = False
        self.followed_changes = self.changes - (len(self.frames) - self.cursor.frame)

    def agree(self) -> None:
        """The mirror compares its state with Postgres, and copies the source if that does not fit."""
        row, cursor = self.row, self.cursor
        assert cursor is not None
        known = row is not None and self.lineage and row.lineage == self.lineage and row.lsn <= cursor.lsn
        if known and row is not None and row.lsn == cursor.lsn:
            known = row.label == cursor.label
        if not known:
            self.lineage = f"lineage {self._new()}"
            self._begin_gap()
            self.compare()
        self.agreed = True

    def compare(self) -> None:
        """Pages were compared, or copied: Postgres has what the source has, at once."""
        assert self.cursor is not None
        frame = len(self.frames)
        self.cursor = replace(self.cursor, salts=self.salts, frame=frame, label=self.label)
        self.row = replace(self.cursor, lineage=self.lineage)
        self.spool, self.gap = (), False

    def apply(self) -> None:
        """Postgres has the next commit; the mirror is killed before it publishes that, or not."""
        place, *rest = self.spool
        self.row, self.spool = replace(place, lineage=self.lineage), tuple(rest)

    def publish(self) -> None:
        self.said = Said(not self.gap, self.mirror, self.lineage)

    def withdraw(self) -> None:
        assert self.said is not None
        self.said = replace(self.said, following=False)

    def lose_postgres(self) -> None:
        """Postgres is another one, empty."""
        self.row = None
        self.agreed = False

    def save_postgres(self) -> None:
        self.backup = self.row

    def restore_postgres(self) -> None:
        """From a backup; the mirror notices, because its connection ended with that, some time later."""
        self.row = self.backup
        self.agreed = False

    # -- the reader --------------------------------------------------------------------------------

    def _read_no_more(self) -> None:
        self.start = self.answer = self.asked = self.asked_said = self.mark = None

    def begin(self) -> None:
        start, said = self.proofs.begin(self.newest()), self.said
        self.answer = None
        floor = start.floor
        usable = said is not None and floor is not None and floor.mirror == said.mirror
        usable = usable and said is not None and (said.following or not self.heeds)
        self.start, self.start_label = (start if usable else None), self.label

    def look(self) -> None:
        self.proofs.look(self.newest())

    def ask(self) -> None:
        self.asked, self.asked_said, self.mark = self.proofs.begin(self.newest()), self.said, None

    def answer_mark(self) -> None:
        assert self.cursor is not None
        self.mark = Lsn(self.cursor.generation, len(self.frames))

    def confirm(self) -> None:
        asked, before, said, mark = self.asked, self.asked_said, self.said, self.mark
        assert asked is not None and mark is not None
        now = self.newest()
        same = before is not None and said is not None and said.mirror == before.mirror
        if same and said is not None and (said.following or not self.heeds):
            self.proofs.confirm(asked, now, mark, said.lineage, said.mirror)
        self.asked = self.asked_said = self.mark = None

    def query(self) -> None:
        self.answer = self.row

    def prove(self) -> None:
        start, answer = self.start, self.answer
        assert start is not None and answer is not None
        good = self.proofs.covers(start, answer.row())
        if not good:
            self.proofs.look(self.newest())
            good = self.proofs.covers(start, answer.row())
        self.answer = None
        if not good:
            return
        self.proved += 1
        if not self._contains(answer.label, self.start_label):
            raise StaleReadError(f"{answer} lacks state {self.start_label}: {' '.join(self.trail)}")

    # -- steps -------------------------------------------------------------------------------------

    def steps(self) -> Iterator[Callable[[], None]]:
        """What can happen now."""
        yield from (self.commit, self.recover, self.replace_file, self.cut_power, self.cut_power_and_spool)
        if self.frames:
            yield from (self.restart, self.truncate)
        up = bool(self.run)
        if up:
            yield self.kill
            if self.followed is None:
                yield self.attach
            else:
                yield self.capture
                current = not self._is_replaced() and self.cursor is not None and self.cursor.salts == self.salts
                if current and not self.agreed:
                    yield self.agree
                if current and self.agreed and self.gap:
                    yield self.compare
                if self.agreed and self.spool:
                    yield self.apply
                if self.agreed:
                    yield self.publish
                if current and self.cursor is not None and self.cursor.frame == len(self.frames) and self.asked:
                    yield self.answer_mark
            if self.said is not None and self.said.following:
                yield self.withdraw
        else:
            yield from (self.start_mirror, self.lose_state)
        yield from (self.save_postgres, self.lose_postgres)
        if self.backup is not None:
            yield self.restore_postgres
        yield from (self.begin, self.look)
        if not self.heeds or (self.said is not None and self.said.following):
            yield self.ask
        if self.mark is not None:
            yield self.confirm
        if self.start is not None and self.row is not None:
            yield self.query
            if self.answer is not None:
                yield self.prove

    def take(self, step: str) -> None:
        """Take a step by its name."""
        self.trail = (*self.trail, step)
        getattr(self, step)()


#: What leads to a reader that can prove what it reads.
READY = ("commit", "start_mirror", "attach", "agree", "capture", "publish", "ask", "answer_mark", "confirm", "begin")


def ready(proofs: Proofs) -> World:
    """A world in which a read has begun that can be proved."""
    return after(World(proofs), READY)


def after(world: World, steps: Iterable[str]) -> World:
    """The world after these steps, up to one that is not possible. Raises :class:`StaleReadError`."""
    for step in steps:
        if step not in {each.__name__ for each in world.steps()}:
            break
        world.take(step)
    return world


#: Steps after which it takes several others until a read can be proved again.
_RARE = frozenset(("recover", "replace_file", "cut_power", "cut_power_and_spool", "lose_state", "restore_postgres"))
_RARE |= frozenset(("kill", "withdraw", "save_postgres", "lose_postgres"))


def walk(world: World, chance: random.Random, length: int) -> int:
    """Take steps at random; returns how many rows were proved. Raises :class:`StaleReadError`."""
    for _ in range(length):
        steps = [step.__name__ for step in world.steps()]
        world.take(chance.choices(steps, [1 if step in _RARE else 8 for step in steps])[0])
    return world.proved


def explore(world: World, depth: int) -> int:
    """Take all sequences of so many steps; returns how many rows were proved. Raises :class:`StaleReadError`."""
    if not depth:
        return 0
    found = 0
    for step in [step.__name__ for step in world.steps()]:
        twin = world.copy()
        twin.take(step)
        found += twin.proved - world.proved + explore(twin, depth - 1)
    return found
