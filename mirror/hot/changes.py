"""The change feed of a mirror in the stream ``stream:changes:{source}``: one entry for each transaction in Postgres.

The id of an entry is its position, ``generation-frame``: so the server itself refuses what is there already or comes
too late, and ``XRANGE (position +`` is what comes after a position. The field ``change`` has the document that
:mod:`mirror.core.changes` describes. Each says after which position it comes, so that who follows the feed notices
whatever is missing, for whatever reason it is: trimmed, deleted, lost with the server's memory, never published.

What may be relied on: an entry comes after its transaction was committed in Postgres; every one comes once, in order;
or :class:`~mirror.core.errors.TooOldError` is raised. That holds for who keeps :attr:`Following.mark` (or that of the
last entry) and begins with it again, too.

A mark is a position with its lineage. When a source is copied anew by a mirror that knows nothing of the old one,
positions begin again, and the feed may pass through equal ones. So who keeps a mere position, without the lineage, may
begin only right at the end of an entry, and is refused elsewhere; that the entry is one of another copy, whose position
happens to be the same, cannot be noticed then.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mirror.core.changes import Change, Entry, Mark, decode
from mirror.core.errors import ConfigError, HotAwayError, HotStateError, TooOldError
from mirror.core.folders import resolve
from mirror.core.positions import Lsn
from mirror.hot.names import Names
from mirror.hot.requests import Command, Script, Steps, Value

_FOLLOW, _PUBLISH = "follow the changes", "publish changes"
#: Seconds that one command blocks at most: so long a wait that is cut without a word is noticed.
LONGEST_BLOCK = 5.0
#: Seconds for which a follower may be ahead of the feed.
AHEAD_SECONDS = 30.0
#: Entries of one read.
_COUNT = 100


def stream_of(names: Names, source: Path | str) -> str:
    """The stream of a source, by its path, whose links are followed."""
    return names.changes.replace("{id}", str(resolve(source)))


def id_of(position: Lsn | None) -> str:
    """The id of a position's entry; of none, that of a stream without entries."""
    return "0-0" if position is None else f"{position.generation}-{position.frame}"


def position_of(id: str) -> Lsn:  # noqa: A002
    """The position of an entry's id."""
    return Lsn.parse(id.replace("-", ":"))


def end_of(names: Names, source: Path | str) -> Steps[Lsn]:
    """The position of the last entry of a source; ``0:0``: there is no stream."""
    found = yield Script("find the end of the changes", "changes_end", (stream_of(names, source),))
    return position_of(str(found))


class Following:
    """The state of one follower, and what it asks."""

    def __init__(self, names: Names, source: Path | str, from_lsn: Mark | Lsn | str | None) -> None:
        """``from_lsn``: a mark, or a position; None: from now on. Raises ``ConfigError`` for what is neither."""
        self._names = names
        self._source = str(source)
        self._stream = stream_of(names, source)
        try:
            begin = Mark.parse(from_lsn) if isinstance(from_lsn, str) else from_lsn
        except ValueError as error:
            step = "give the mark of a change, or its lsn, as in 12:345"
            raise ConfigError(_FOLLOW, self._source, str(error), next_step=step) from error
        self.lsn = begin.lsn if isinstance(begin, Mark) else begin
        self._lineage = begin.lineage if isinstance(begin, Mark) else None
        self._ahead_since: float | None = None

    @property
    def mark(self) -> str | None:
        """What to keep, to go on from here; None: from now on, and nothing was read yet."""
        return None if self.lsn is None else str(Mark(self.lsn, self._lineage))

    def read(self, wait: float = 0.0) -> Steps[list[Change]]:
        """What comes next, in order; empty after ``wait`` seconds without anything.

        :attr:`mark` is that of the last one then. Raises ``HotStateError``: where it is retryable, the next read goes
        on with nothing lost; ``TooOldError``.
        """
        until = time.monotonic() + wait
        if self.lsn is None:
            self.lsn = yield from end_of(self._names, self._source)
        while not (found := (yield from self._after())):
            last = yield from end_of(self._names, self._source)
            if last > self.lsn and not (found := (yield from self._after())):
                raise self._too_old(f"what came after {self.lsn}, up to {last}, was deleted", str(last))
            if found:
                break
            yield from self._require_end(last)
            if (left := until - time.monotonic()) <= 0:
                return []
            if found := (yield from self._await(min(left, LONGEST_BLOCK))):
                break
        return self._in_order(found)

    def _after(self) -> Steps[list[tuple[str, dict[str, str]]]]:
        args = ("XRANGE", self._stream, f"({id_of(self.lsn)}", "+", "COUNT", _COUNT)
        found: list[tuple[str, dict[str, str]]] = yield Command(_FOLLOW, args)
        return found

    def _require_end(self, last: Lsn) -> Steps[None]:
        """Raise ``TooOldError`` where the feed has begun again, and so will not come to our position, or not to ours.

        The lineage of its last entry shows that. Where it does not, the server may merely have restarted with less
        than it had: then the mirror soon publishes what is missing. No stream at all is no error: what comes next says
        after which position it comes.
        """
        assert self.lsn is not None
        args = ("XREVRANGE", self._stream, id_of(last), "-", "COUNT", 1)
        newest: list[tuple[str, dict[str, str]]] = yield Command(_FOLLOW, args)
        if newest and last <= self.lsn:
            change = self._change(*newest[0])
            if not Mark(self.lsn, self._lineage).is_of(change.lineage):
                detail = f"it is at {change.mark}, not at {self.mark}: the source was copied anew"
                raise self._too_old(detail, change.mark)
            if change.position == self.lsn:
                self._lineage = self._lineage or change.lineage
        now = time.monotonic()
        if last == Lsn(0, 0) or last >= self.lsn:
            self._ahead_since = None
        elif self._ahead_since is None:
            self._ahead_since = now
        elif now - self._ahead_since > AHEAD_SECONDS:
            raise self._too_old(f"the feed is at {last}, before {self.lsn}: it has begun again", str(last))

    def _await(self, seconds: float) -> Steps[list[tuple[str, dict[str, str]]]]:
        block = max(1, round(seconds * 1000))
        args = ("XREAD", "COUNT", _COUNT, "BLOCK", block, "STREAMS", self._stream, id_of(self.lsn))
        try:
            answer = yield Command(_FOLLOW, args, waits=True)
        except HotAwayError:
            return []  # what is asked next is asked again and again for some seconds
        return [entry for _, entries in answer or () for entry in entries]

    def _in_order(self, found: Sequence[tuple[str, dict[str, str]]]) -> list[Change]:
        """The entries that follow each other. Raises ``TooOldError`` if already the first one does not."""
        read: list[Change] = []
        for id, fields in found:  # noqa: A001
            position, change = position_of(id), self._change(id, fields)
            if problem := self._problem(change):
                if read:
                    break  # they come first, and this is raised by the next read
                resume = change.mark
                if change.kind != "gap" and change.after is not None:
                    resume = str(Mark(Lsn.parse(change.after), change.lineage))
                raise self._too_old(problem, resume)
            read.append(change)
            self.lsn, self._lineage = position, change.lineage
        return read

    def _change(self, id: str, fields: dict[str, str]) -> Change:  # noqa: A002
        try:
            change = decode(fields["change"])
        except (KeyError, ValueError) as error:
            step = "keep other programs from writing to the stream; delete the entry, and the feed has a gap there"
            detail = f"the entry {id} is none of the mirror's"
            raise HotStateError(_FOLLOW, self._stream, detail, next_step=step) from error
        if change.position != position_of(id):
            raise HotStateError(_FOLLOW, self._stream, f"the entry {id} says that it is {change.lsn}")
        return change

    def _problem(self, change: Change) -> str:
        """Why a follower that is where this one is must not go on with an entry; empty: it may."""
        assert self.lsn is not None
        if change.kind == "copy":
            return ""
        if change.kind == "gap":
            begin = change.after or "the begin"
            return f"what was committed after {begin}, up to {change.lsn}, is lost: {change.reason}"
        after = Lsn(0, 0) if change.after is None else Lsn.parse(change.after)
        if self._lineage is not None and change.lineage != self._lineage:
            return f"the positions are of another copy of the source than {self.mark}"
        if after > self.lsn:
            return f"what was committed after {self.lsn}, up to {after}, is not in the feed any more"
        if self._lineage is None and after != self.lsn:
            return f"{self.lsn} is not where an entry ends, so it may be of another copy of the source"
        return ""

    def _too_old(self, detail: str, resume: str) -> TooOldError:
        step = f"read from Postgres what you need, then follow from {resume}"
        return TooOldError(_FOLLOW, self._source, detail, resume=resume, next_step=step)


@dataclass(frozen=True, slots=True)
class Added:
    """What became of entries that were to be published."""

    ends: Lsn
    """The position with which the stream ends now."""
    done: bool = False
    """Whether they are there. If not: it did not end where it was said to."""
    fenced: bool = False
    """Whether another publishes there now: another mirror of the source, or one of another database."""
    others: bool = False
    """Whether what is there was published from another database."""


def add(
    names: Names,
    source: str,
    database: str,
    epoch: int,
    ends: Lsn | None,
    entries: Sequence[Entry],
    keep: int,
    how: str = "on",
) -> Steps[Added]:
    """Append entries to the stream of a source, if it ends with the position ``ends``.

    ``how``: ``on``; ``take``: as one who has begun; ``over``: also where a later one seems to have; ``anew``: empty it
    first. It may be sent again where its answer was lost: then the stream does not end where it was said to, but with
    the last of the entries. Raises ``HotStateError``.
    """
    keys = (names.changes.replace("{id}", source), names.changes_owner.replace("{id}", source))
    flat: list[Value] = [text for entry in entries for text in (id_of(entry.lsn), entry.text)]
    args: tuple[Value, ...] = (database, epoch, how, id_of(ends), keep, *flat)
    said, last, other = yield Script(_PUBLISH, "changes_add", keys, args)
    return Added(position_of(str(last)), said == "added", said == "fenced", bool(other))


def document_at(names: Names, source: str, position: Lsn) -> Steps[str | None]:
    """The document of the entry at a position; None: there is none."""
    at = id_of(position)
    found = yield Command(_PUBLISH, ("XRANGE", names.changes.replace("{id}", source), at, at))
    return cast("str | None", found[0][1].get("change")) if found else None
