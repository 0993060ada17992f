"""Sessions: each answer is at least as new as the one before it; and tokens, which carry that to other hosts.

A token is text, ``m1.LINEAGE.GENERATION.FRAME`` for the memory source, ``d1...`` for the dashboard; of both, joined by
``+``. Treat it as opaque: what it says is that whoever holds it has seen the source up to this position of this
lineage. A lineage is one copy of the source in Postgres, with the numbers of its own, so positions of two lineages are
never compared: a token of another one is an error. A source gets another lineage when it is copied whole again.
"""

from __future__ import annotations

import re
import time
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Self

from mirror.core.errors import ControlError, TokenError
from mirror.core.positions import Lsn
from mirror.storage.freshness import Freshness
from mirror.storage.proofs import PositionRow, Start
from mirror.storage.reads import Reason

_FORM = re.compile(r"([md])1\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.([0-9]{1,18})\.([0-9]{1,18})", re.ASCII)


#: What the sources of tokens are called in them.
_SIGNS = {"memory": "m", "dashboard": "d"}
_SOURCES = {sign: source for source, sign in _SIGNS.items()}
#: Seconds that a token may take.
TOKEN_SECONDS = 1.0


class Token(NamedTuple):
    """A position of a lineage of one source."""

    lineage: str
    lsn: Lsn
    source: str = "memory"

    def __str__(self) -> str:
        return f"{_SIGNS[self.source]}1.{self.lineage}.{self.lsn.generation}.{self.lsn.frame}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The token of one source in a text; raises ``TokenError``."""
        found = _FORM.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise TokenError("read a token", detail=f"not one: {text!r:.100}", next_step="use what token() gave")
        sign, lineage, generation, frame = found.groups()
        return cls(lineage, Lsn(int(generation), int(frame)), _SOURCES[sign])

    @classmethod
    def parse_all(cls, text: str) -> dict[str, Self]:
        """The tokens in what an adapter gave, by source. Raises ``TokenError``."""
        parts = text.split("+") if isinstance(text, str) else [text]
        tokens = {token.source: token for token in map(cls.parse, parts)}
        if len(tokens) < len(parts):
            raise TokenError("read a token", detail=f"not one: {text!r:.300}", next_step="use what token() gave")
        return tokens

    def reached_by(self, row: PositionRow) -> bool:
        """Whether an answer with this position row has all that the token stands for.

        Raises ``TokenError`` if they are of different lineages.
        """
        if row.lineage != self.lineage:
            raise TokenError(
                "read at a token",
                str(self),
                f"Postgres has another copy of the source now (lineage {row.lineage})",
                next_step="read without the token, and take a new one",
            )
        return row.lsn >= self.lsn


_NO_GUARD = nullcontext()


class Session:
    """One user's reads, one after another. Thread: one at a time.

    A read is ``start = begin()``; then, unless that has a reason, the freshness's ``wait`` and the question to
    Postgres; then ``judge(start, row)``. An answer from SQLite is noted with :meth:`saw_sqlite`, and so is a write.
    """

    def __init__(self, freshness: Freshness | None = None, source: str = "memory") -> None:
        """``freshness``: of the source; None on a host without the source, where only tokens count."""
        self._freshness = freshness
        self._source = source
        self._last: Token | None = None
        self._saw_sqlite = False
        self._on_sqlite = 0

    @property
    def used(self) -> bool:
        """Whether there was an answer or a write."""
        return self._last is not None or self._saw_sqlite

    def begin(self) -> Start:
        """Begin a read."""
        on_sqlite = self._on_sqlite
        if self._freshness is None:
            return Start(None, Reason.NO_INDEX)
        start = self._freshness.begin()
        return start._replace(on_sqlite=on_sqlite) if on_sqlite else start

    def judge(self, start: Start, row: PositionRow | None) -> Reason:
        """``FRESH`` if the answer may be given, which it then counts as; else the reason why not."""
        if self._freshness is None or row is None or not self._freshness.proves(start, row):
            return start.reason or Reason.OLDER
        if not row.complete:
            return Reason.INCOMPLETE
        last = self._last
        if last is not None and row.lineage == last.lineage and row.lsn < last.lsn:
            return Reason.SESSION  # of two reads at one time: any earlier answer was committed when this read began
        self._last = Token(row.lineage, row.lsn, self._source)
        if start.on_sqlite == self._on_sqlite:  # else something was written while this was read, which it may not have
            self._saw_sqlite = False
        return Reason.FRESH

    def judge_at(self, token: Token, row: PositionRow) -> Reason:
        """``TOKEN`` if an answer is neither older than a token nor than an earlier answer; else the reason why not.

        Only the position row counts: this works on any host. After an answer from SQLite :meth:`token` has to be called
        first, as it is not known where that was. Raises ``TokenError`` for another lineage.
        """
        if not token.reached_by(row):
            return Reason.BEHIND
        if self._saw_sqlite or (self._last is not None and not self._last.reached_by(row)):
            return Reason.SESSION
        self._last = Token(row.lineage, row.lsn, self._source)
        return Reason.TOKEN

    def saw_sqlite(self) -> None:
        """An answer came from SQLite, or something was written there."""
        self._saw_sqlite = True
        self._on_sqlite += 1

    def token(self, timeout: float = TOKEN_SECONDS, guard: AbstractContextManager[None] = _NO_GUARD) -> Token:
        """A token for all that the session has seen and written.

        After an answer of Postgres it is at hand. After something on SQLite the mirror is asked where that is, which
        takes a millisecond and needs no waiting until it is applied; ``timeout``: seconds that it may take. Raises
        ``ControlError`` (retryable) if the mirror does not say, or does not follow the source.

        ``guard``: what keeps other threads from the session; it is not held while the mirror is asked.
        """
        with guard:
            last, on_sqlite = self._last, self._on_sqlite
            if last is not None and not self._saw_sqlite:
                return last
        if self._freshness is None:
            raise TokenError("give a token", detail="nothing has been read yet", next_step="read first")
        now = Token(*self._freshness.mark(time.monotonic() + timeout), self._source)
        if last is not None and last.lineage == now.lineage and last.lsn > now.lsn:
            raise ControlError("give a token", str(last), f"the source is at {now.lsn} by now", retryable=True)
        with guard:
            if self._last is last:  # else there was a later answer meanwhile, which counts
                self._last = now
                self._saw_sqlite = on_sqlite != self._on_sqlite
        return now
