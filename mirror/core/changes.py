"""The change feed's entries: what each transaction that was applied to Postgres did. Pure.

An entry is one JSON document, the same in Redis, in Postgres' log, as a server-sent event and to a webhook:

==================  ================================================================================================
``version``         1
``kind``            ``rows``: a transaction. ``copy``: Postgres was made equal to a whole copy: everything may have
                    changed. ``gap``: what was committed after ``after``, up to ``lsn``, is not known any more
``source``          absolute path of the SQLite file
``lsn``             position after it, ``generation:frame``; with a hyphen it is the id of the entry in Redis
``after``           position before it; null: there was none. Entries of one lineage are a chain: who has seen
                    everything up to a position from ``after`` to ``lsn`` misses nothing by going on with this one
``lineage``         of which whole copy of the source ``lsn`` is: with another one, numbers begin again, and lower ones
                    may be later. Left out of a gap, where it is not known
``committed_at``    of the newest commit in it, in seconds since the epoch
``commits``         how many commits of the source were applied together
``writers``         ``agent`` (as ``as_agent`` says; or left out), ``program``, ``commits``: what hooks told of them by
                    then. Left out, with no hook; commits that no hook told of are in no writer's count
``tables``          of each table what happened, see :class:`TableChange`
``tables_left_out`` tables that are not among them, because there were too many
``reason``          of a copy or a gap
==================  ================================================================================================

Values of keys are in the lossless JSON of ``mirror.rejects``: an integer, a number with a fraction, a string,
``{"blob": base64}``, null.

Who keeps how far it has come keeps a :class:`Mark`: a position with its lineage.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from mirror.core.positions import Lsn

#: Version of the document; it grows when a field changes its meaning or is removed.
VERSION = 1
#: Keys in one entry, characters of their JSON together, and tables. What is more is counted.
MOST_KEYS, MOST_KEY_CHARACTERS, MOST_TABLES = 500, 16_384, 500

Kind = Literal["rows", "copy", "gap"]
Operation = Literal["inserted", "updated", "deleted"]

#: A lineage in a mark. It is sent back in headers and lines: so it has no character that ends one.
_LINEAGE = re.compile(r"[0-9A-Za-z-]{1,64}")


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a reader has come: ``generation:frame@lineage``.

    Without a lineage it is a mere position, ``generation:frame``, and equal numbers of another copy cannot be told.
    """

    lsn: Lsn
    lineage: str | None = None

    def __str__(self) -> str:
        return str(self.lsn) if self.lineage is None else f"{self.lsn}@{self.lineage}"

    @classmethod
    def parse(cls, text: str) -> Mark:
        """Of its text, or that of a position; raises ``ValueError`` for any other."""
        lsn, at, lineage = text.partition("@")
        if at and not _LINEAGE.fullmatch(lineage):
            raise ValueError(f"not a mark (generation:frame@lineage): {text!r}")
        return cls(Lsn.parse(lsn), lineage if at else None)

    def is_of(self, lineage: str | None) -> bool:
        """Whether it may be of a lineage: one of the two is not known, or they are equal."""
        return self.lineage is None or lineage is None or self.lineage == lineage


class WriterReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who made commits of an entry, as hooks have told."""

    agent: Annotated[str | None, Meta(description="as as_agent says; null: it said nothing")] = None
    program: str
    commits: int


class TableChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a transaction did to one table. A row that gets another key counts as one deleted and one inserted."""

    table: str
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    key: Annotated[list[str], Meta(description="columns of the keys, as Postgres names them")] = []
    keys: Annotated[dict[str, list[list[Any]]], Meta(description="by operation: the key's values of each row")] = {}
    keys_left_out: Annotated[int, Meta(description="rows that are counted, and whose keys are not there")] = 0
    rejected: Annotated[int, Meta(description="of the rows: so many Postgres could not hold")] = 0
    refused: Annotated[bool, Meta(description="Postgres does not take the table: it has none of this")] = False
    definition: Annotated[str, Meta(description="create, drop, rename, columns or rebuild: all rows may differ")] = ""
    before: Annotated[str, Meta(description="of a table that was renamed: the name before")] = ""


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An entry, as readers get it."""

    version: int
    kind: Kind
    source: str
    lsn: str
    after: str | None = None
    lineage: str | None = None
    committed_at: float | None = None
    commits: int = 0
    writers: list[WriterReport] = []
    tables: list[TableChange] = []
    tables_left_out: int = 0
    reason: str = ""

    @property
    def position(self) -> Lsn:
        """:attr:`lsn` as a value. Raises ``ValueError``."""
        return Lsn.parse(self.lsn)

    @property
    def mark(self) -> str:
        """What to keep, to go on after this one: :attr:`lsn` with its lineage."""
        return self.lsn if self.lineage is None else f"{self.lsn}@{self.lineage}"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry on its way: the document, and what is needed of it without decoding it."""

    lsn: Lsn
    after: Lsn | None
    kind: Kind
    lineage: str | None
    text: str
    """The document. It is made once, so that two texts of one entry are equal."""

    @property
    def mark(self) -> Mark:
        """Where who has read it is."""
        return Mark(self.lsn, self.lineage)

    def follows(self, mark: Mark | None) -> bool:
        """Whether who has seen everything up to ``mark`` (None: nothing) misses nothing by going on with this entry.

        A position whose lineage is not known must be the one before: any other may be of another copy.
        """
        if self.kind == "copy" or mark is None or self.after is None:
            return self.kind == "copy" or (mark is None and self.after is None)
        if self.kind == "gap" or mark.lineage is None:
            return self.after == mark.lsn
        return self.lineage == mark.lineage and self.after <= mark.lsn < self.lsn


_decode = msgspec.json.Decoder(Change).decode
_encode = msgspec.json.Encoder().encode


def decode(text: str | bytes) -> Change:
    """An entry of its document; raises ``ValueError`` for anything else."""
    found = _decode(text)
    Lsn.parse(found.lsn)
    if found.after is not None:
        Lsn.parse(found.after)
    return found


def entry(text: str) -> Entry:
    """An entry on its way, of its document. Raises ``ValueError``."""
    found = decode(text)
    return _entry(found, text)


def encode(change: Change) -> Entry:
    """The entry of a value."""
    return _entry(change, _encode(change).decode())


def _entry(change: Change, text: str) -> Entry:
    after = None if change.after is None else Lsn.parse(change.after)
    return Entry(change.position, after, change.kind, change.lineage, text)


def gap(source: str, after: Lsn | None, to: Mark, reason: str) -> Entry:
    """The entry that stands for what is not known: after one position (None: any), up to another."""
    before, lsn = None if after is None else str(after), str(to.lsn)
    change = Change(
        version=VERSION, kind="gap", source=source, lsn=lsn, after=before, lineage=to.lineage, reason=reason
    )
    return encode(change)


def filtered(document: Entry, tables: Collection[str]) -> str | None:
    """The document with only these tables; None: it has none of them. Copies and gaps concern all."""
    if not tables or document.kind != "rows":
        return document.text
    change = decode(document.text)
    chosen = [each for each in change.tables if each.table in tables or each.before in tables]
    if not chosen and not change.tables_left_out:
        return None
    return _encode(msgspec.structs.replace(change, tables=chosen)).decode()


class Announcing(Protocol):
    """Who is told, by the sink, what Postgres has committed. Neither method waits for anybody, or raises."""

    logged: bool
    """Whether each entry is written to ``mirror.changes`` in the transaction that it tells of."""

    def begins(self, source_id: int, epoch: int, database: str, mark: Mark | None) -> None:
        """A mirror has taken the source, in this database, with this epoch, and Postgres is at this mark."""

    def put(self, document: Entry) -> None:
        """It has been committed."""
