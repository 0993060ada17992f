"""Counting the differences of one table: of a slice in key order, or of the table as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from mirror.core.adopted import is_adopted
from mirror.core.positions import Lsn
from mirror.parity.adopted import Losses
from mirror.parity.adopted_selected import shown
from mirror.parity.adopted_terms import Unfit
from mirror.parity.plan import MappedColumn, Plan, key_of
from mirror.parity.report import ColumnDifference, ColumnReport, Difference, Status, TableReport
from mirror.parity.shown import key_of_cells, key_of_text, value_of, values_apart
from mirror.parity.source import digest
from mirror.parity.values import Cell, Cells, differing, image, key_text, stand_in

#: Rows that are kept as examples, of each table.
EXAMPLES = 10

#: Returns those of the given keys that ``mirror.rejects`` has.
Rejected = Callable[[Collection[str]], set[str]]


#: Size of a table's digest.
DIGEST_BYTES = 16


class Digests:
    """The digests of all rows of one table, one for each side."""

    def __init__(self) -> None:
        self._source = blake2b(digest_size=DIGEST_BYTES)
        self._target: blake2b | None = None
        """None while both sides are equal."""
        self._sums: tuple[int, int] | None = None

    def same(self, data: bytes) -> None:
        """Add rows that both sides have next."""
        self._source.update(data)
        if self._target is not None:
            self._target.update(data)

    def differ(self) -> None:
        """From now on the sides differ, and each adds its own rows."""
        if self._target is None:
            self._target = self._source.copy()

    def source(self, data: bytes) -> None:
        """Add rows that the source has next; after :meth:`differ`."""
        self._source.update(data)

    def target(self, data: bytes) -> None:
        """Add rows that Postgres has next; after :meth:`differ`."""
        assert self._target is not None
        self._target.update(data)

    def sums(self, source: int, target: int) -> None:
        """Set the sums of the rows' digests, for rows in no order."""
        self._sums = source, target

    def hexadecimal(self) -> tuple[str, str]:
        """The digests of the source and of Postgres, in hexadecimal."""
        if self._sums is not None:
            mine, theirs = (value.to_bytes(2 * DIGEST_BYTES, "big")[DIGEST_BYTES:].hex() for value in self._sums)
            return mine, theirs
        return self._source.hexdigest(), (self._target or self._source).hexdigest()


@dataclass(slots=True)
class Tally:
    """What has been found of one table so far."""

    source_rows: int = 0
    target_rows: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    rejected: int = 0
    first_lsn: Lsn | None = None
    last_lsn: Lsn | None = None
    examples: list[Difference] = field(default_factory=list)
    digests: Digests = field(default_factory=Digests)
    losses: Losses = field(default_factory=Counter)
    """Of an application's own table: what is lost of its values."""
    _kinds: Counter[str] = field(default_factory=Counter)
    """How many examples there are of each kind."""
    _differing: Counter[int] = field(default_factory=Counter)
    """In how many rows each column differs, by its place in a row."""

    def at(self, lsn: Lsn) -> None:
        """Note the position at which a slice was compared."""
        if self.first_lsn is None:
            self.first_lsn = lsn
        self.last_lsn = lsn

    def add_equal(self, rows: list[Cells]) -> None:
        """Count rows of a key range that were proved equal by a digest."""
        self.source_rows += len(rows)
        self.target_rows += len(rows)
        self.digests.same(stand_in(rows))

    def add_slice(
        self,
        plan: Plan,
        rows: list[Cells],
        theirs: Iterable[list[Cells]],
        rejected: Rejected,
        read: Sequence[Cells] | None = None,
    ) -> None:
        """Compare the source's rows of a key range with Postgres' rows of the same range.

        ``read``: the same rows as SQLite has them, where ``rows`` are the canonical ones of an adopted table.

        While both have the same rows, whole batches are compared at once. From the first batch that is not
        identical, the rest of the slice is compared by key.
        """
        positions = plan.key_positions
        self.source_rows += len(rows)
        read = rows if read is None else read
        done = 0
        left: dict[Cells, int] | None = None
        missing: list[Cells] = []
        for batch in theirs:
            self.target_rows += len(batch)
            if left is None:
                mine = image(rows[done : done + len(batch)])
                if mine is not None and mine == image(batch):
                    self.digests.same(mine)
                    done += len(batch)
                    continue
                self._differ(rows[done:])
                left = {}
                for at in range(done, len(rows)):
                    key = key_of(rows[at], positions)
                    # Keys that Postgres cannot hold may occur more than once: NULL does.
                    if plan.fits(key):
                        left[key] = at
                    else:
                        missing.append(key_of(read[at], positions))
            self.digests.target(stand_in(batch))
            for row in batch:
                key = key_of(row, positions)
                found = left.pop(key, None)
                if found is None:
                    self._extra(plan, key)
                elif columns := differing(rows[found], row):
                    self._different(plan, read[found], row, columns)
        if left is None and done < len(rows):
            self._differ(rows[done:])
        missing += (key_of(read[at], positions) for at in (range(done, len(rows)) if left is None else left.values()))
        self._missing([key_text(key) for key in missing], rejected)

    def add_extra(self, number: int) -> None:
        """Count rows of Postgres with NULL in their key."""
        self.target_rows += number
        self.extra += number
        if number:
            self.digests.differ()
            self.digests.target(f"{number} NULL keys".encode())
            self._example(Difference("extra", [None]))

    def add_rejects(self, keys: Sequence[str], rejected: Rejected) -> None:
        """Count rows of the source that can only be among the rejects."""
        self.source_rows += len(keys)
        self._missing(list(keys), rejected)

    def add_whole(
        self,
        plan: Plan,
        digests: dict[str, bytes],
        source_rows: int,
        theirs: Iterable[list[Cells]],
        rejected: Rejected,
    ) -> None:
        """Compare all rows of a table by the digests of the source's rows."""
        positions = plan.key_positions
        self.source_rows += source_rows
        sums = [_sum(digests.values()), 0]
        # Rows that share a key cannot all be in Postgres.
        self.missing += source_rows - len(digests)
        for batch in theirs:
            self.target_rows += len(batch)
            for row in batch:
                key = key_of(row, positions)
                mine, theirs_ = digests.pop(key_text(key), None), digest(row)
                sums[1] += int.from_bytes(theirs_, "big")
                if mine is None:
                    self._extra(plan, key)
                elif mine != theirs_:
                    self.different += 1
                    self._example(Difference("different", key_of_cells(key)))
        self.digests.sums(*sums)
        self._missing(list(digests), rejected)

    def add_together(
        self,
        plan: Plan,
        rows: list[Cells],
        theirs: Iterable[list[Cells]],
        rejected: Rejected,
        read: Sequence[Cells],
    ) -> None:
        """Compare all rows of an adopted table without an order; ``read`` as in :meth:`add_slice`.

        Several of SQLite's keys may be one in Postgres: then one of their rows is there, and the others are rejects.
        """
        positions = plan.key_positions
        self.source_rows += len(rows)
        sums = [_sum(map(digest, rows)), 0]
        waiting: dict[Cells, list[int]] = {}
        missing: list[int] = []
        for at, row in enumerate(rows):
            key = key_of(row, positions)
            if any(cell is None or isinstance(cell, Unfit) for cell in key):
                missing.append(at)
            else:
                waiting.setdefault(key, []).append(at)
        for batch in theirs:
            self.target_rows += len(batch)
            for row in batch:
                sums[1] += int.from_bytes(digest(row), "big")
                key = key_of(row, positions)
                candidates = waiting.get(key)
                if not candidates:
                    self._extra(plan, key)
                    continue
                apart = [(differing(rows[at], row), at) for at in candidates]
                columns, at = min(apart, key=lambda found: len(found[0]))
                candidates.remove(at)
                if columns:
                    self._different(plan, read[at], row, columns)
        self.digests.sums(*sums)
        missing += [at for candidates in waiting.values() for at in candidates]
        self._missing([key_text(key_of(read[at], positions)) for at in missing], rejected)

    def columns(self, plan: Plan) -> tuple[ColumnReport, ...]:
        """The columns of an adopted table."""
        return tuple(
            ColumnReport(
                column.name,
                tuple(sorted((how, number) for (place, how), number in self.losses.items() if place == at)),
                self._differing[at],
            )
            for at, column in enumerate(plan.row_columns)
            if is_adopted(column.codec)
        )

    def report(self, table: str, status: Status | None, reason: str, seconds: float) -> TableReport:
        """The table's report; ``status`` None: by the counts."""
        if status is None:
            wrong = self.missing or self.extra or self.different
            status = "different" if wrong else "equal except rejects" if self.rejected else "equal"
        mine, theirs = self.digests.hexadecimal() if self.first_lsn is not None else ("", "")
        return TableReport(
            table=table,
            status=status,
            reason=reason,
            source_rows=self.source_rows if self.first_lsn is not None else None,
            target_rows=self.target_rows if self.first_lsn is not None else None,
            missing=self.missing,
            extra=self.extra,
            different=self.different,
            rejected=self.rejected,
            seconds=seconds,
            first_lsn=self.first_lsn,
            last_lsn=self.last_lsn,
            source_digest=mine,
            target_digest=theirs,
            examples=self._chosen(),
        )

    def _differ(self, rows: list[Cells]) -> None:
        self.digests.differ()
        self.digests.source(stand_in(rows))

    def _missing(self, keys: list[str], rejected: Rejected) -> None:
        held = rejected(keys)
        for key in keys:
            if key in held:
                self.rejected += 1
            else:
                self.missing += 1
                if self._kinds["missing"] < EXAMPLES:
                    self._example(Difference("missing", key_of_text(key)))

    def _extra(self, plan: Plan, key: Cells) -> None:
        self.extra += 1
        if self._kinds["extra"] < EXAMPLES:
            columns = [plan.row_columns[at] for at in plan.key_positions]
            self._example(Difference("extra", [_shown(*each) for each in zip(columns, key, strict=True)]))

    def _different(self, plan: Plan, mine: Cells, theirs: Cells, columns: Sequence[int]) -> None:
        self.different += 1
        self._differing.update(columns)
        if self._kinds["different"] < EXAMPLES:
            found = (_difference(plan.row_columns[at], mine[at], theirs[at]) for at in columns)
            key = key_of_cells(key_of(mine, plan.key_positions))
            self._example(Difference("different", key, tuple(found)))

    def _example(self, example: Difference) -> None:
        if self._kinds[example.kind] < EXAMPLES:
            self._kinds[example.kind] += 1
            self.examples.append(example)

    def _chosen(self) -> tuple[Difference, ...]:
        """At most :data:`EXAMPLES`, with some of each kind: many of one kind must not hide the others."""
        left, chosen = EXAMPLES, set[int]()
        for most in (EXAMPLES // 3, EXAMPLES):
            kinds = Counter[str]()
            for index, example in enumerate(self.examples):
                kinds[example.kind] += 1
                if left and index not in chosen and kinds[example.kind] <= most:
                    chosen.add(index)
                    left -= 1
        return tuple(self.examples[index] for index in sorted(chosen))


def _difference(column: MappedColumn, mine: Cell, theirs: Cell) -> ColumnDifference:
    """A value as SQLite has it, and the one of Postgres, canonical in an adopted column."""
    if is_adopted(column.codec):
        return ColumnDifference(column.name, value_of(mine), shown(column.codec, theirs))
    return ColumnDifference(column.name, *values_apart(mine, theirs))


def _shown(column: MappedColumn, cell: Cell) -> Any:
    return shown(column.codec, cell) if is_adopted(column.codec) else value_of(cell)


def _sum(digests: Iterable[bytes]) -> int:
    return sum(int.from_bytes(digest_, "big") for digest_ in digests)
