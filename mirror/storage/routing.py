"""Where an operation is run: the rules, without I/O. Synchronous and asynchronous adapters follow the same steps.

====================  ==================================  =======================================================
``storage.backend``   writes                              reads
====================  ==================================  =======================================================
``sqlite``            SQLite                              SQLite
``dual``              SQLite; the mirror carries them     by ``readFrom``; from Postgres only what is proved fresh
``postgres``          Postgres                            Postgres
====================  ==================================  =======================================================

What only Postgres has (knowledge, jobs, keys, other agents' memories) is there with ``dual`` and ``postgres``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from msgspec import structs

from mirror.core.config.settings import StorageSettings
from mirror.core.errors import (
    BusyError,
    ConfigError,
    ControlError,
    MirrorError,
    MovedBackError,
    SealedError,
    SinkError,
    SourceError,
    StorageError,
    TokenError,
    UnsupportedError,
)
from mirror.storage.forks import Lock
from mirror.storage.freshness import Freshness
from mirror.storage.newest import NewestCommit
from mirror.storage.on_sqlite.drivers import BUSY_SECONDS
from mirror.storage.operations.base import Operation
from mirror.storage.proofs import PositionRow, Start, Unasked
from mirror.storage.reads import READS, Reason
from mirror.storage.sessions import Session, Token

Result = TypeVar("Result")

#: Handled by the program's own logging configuration.
logger = logging.getLogger("mirror")

#: Seconds for which Postgres is not asked again after it has failed, while SQLite can answer.
FAILED_SECONDS = 0.5
#: Seconds between two questions to Postgres where an answer was older than it should be (a standby).
_PAUSE = 0.002
#: Seconds for which a read that SQLite can answer, too, waits at least for a connection to Postgres.
_LEAST_PATIENCE = 0.005


class OnSqlite(NamedTuple):
    """A step: run the operation on SQLite, and be sent its result."""


class OnPostgres(NamedTuple):
    """A step: run the operation on Postgres, and be sent its result and position; or have the error thrown."""

    source: int | str | None
    """Of which source a position is wanted: its number, or its lineage; None: of none."""
    patience: float | None = None
    """Seconds to wait for a connection; None: as long as it is usual."""


class Owed(NamedTuple):
    """A step: ask what the session has seen, and be sent its token, or the mirror's error."""

    reads: SourceReads


class Position(NamedTuple):
    """A step: be sent the position of a source in Postgres, None if it is not there; or have the error thrown."""

    source: int | str
    """Its number, or the lineage of its copy."""


class Wait(NamedTuple):
    """A step: wait until Postgres has what the read needs, and be sent None or the reason why it has not."""

    freshness: Freshness
    start: Start
    deadline: float
    """Of ``time.monotonic``; one that has passed: do not wait."""


class Pause(NamedTuple):
    """A step: wait for so many seconds."""

    seconds: float


class Offer(NamedTuple):
    """A step: offer the read to the shadow reads, which run it on both stores later."""

    percent: float
    """Of the reads that are offered, how many are to be taken."""


Step = OnSqlite | OnPostgres | Owed | Position | Wait | Pause | Offer
Steps = Generator[Step, Any, Result]


def postgres_only(settings: StorageSettings) -> bool:
    """Whether the program's data is in Postgres alone: a dual backend that writes there only is no dual one."""
    return settings.backend == "postgres" or "sqlite" not in settings.write_to


class Health:
    """Whether Postgres has just failed, for all adapters over one pool. Thread: any."""

    def __init__(self) -> None:
        self._until = 0.0
        self._said: str | None = None
        """The error that was logged, since Postgres has answered."""

    @property
    def failed(self) -> bool:
        """Whether it failed less than :data:`FAILED_SECONDS` ago."""
        return time.monotonic() < self._until

    def has_failed(self, error: SinkError) -> None:
        """Note a failure; it is logged, unless the last one was the same."""
        self._until = time.monotonic() + FAILED_SECONDS
        if self._said != error.detail:
            self._said = error.detail
            logger.warning("reads go to SQLite for now: %s -- %s", error.detail, error.next_step)

    def has_answered(self) -> None:
        """Note that Postgres works."""
        if self._said is not None:
            self._said = None
            logger.info("Postgres answers reads again")


#: What the configuration says, in parts, once programs have moved; and when they have moved back.
_POSTGRES: dict[str, Any] = {"backend": "postgres", "read_from": "postgres", "write_to": ("postgres",)}
_BOTH: dict[str, Any] = {"backend": "dual", "read_from": "postgres", "write_to": ("sqlite", "postgres")}


@dataclass
class SourceReads:
    """Reads of one SQLite file from Postgres: what is known of it, and what this adapter has seen of it."""

    freshness: Freshness
    session: Session
    guard: Lock
    moved: bool = False
    """Postgres, which alone is used now, has all that the session had seen before; or nothing shows that it has not."""

    def owed(self) -> Token | MirrorError:
        """The token of what the session has seen; or why the mirror does not say it."""
        try:
            return self.session.token(guard=self.guard)
        except (ControlError, SealedError) as error:
            return error


def _path(source: SourceReads | None) -> str:
    return "" if source is None else source.freshness.path


class Routes:
    """The rules for one adapter. Thread: any."""

    def __init__(
        self, settings: Callable[[], StorageSettings], sources: dict[str, SourceReads], health: Health
    ) -> None:
        """``sources``: by name of operations' sources (memory, dashboard), where this host has the files."""
        self._settings = settings
        self._sources = sources
        self._health = health

    def steps(self, operation: Operation[..., Result]) -> Steps[Result]:
        """What to do for an operation, step by step; returns its result.

        What meets another writer in SQLite is tried again, for as long as programs usually wait; so is a write that
        Postgres refuses because programs are just moved back to the file. Each time the settings may be others.
        """
        deadline: float | None = None
        while True:
            try:
                return (yield from self._once(operation))
            except (SourceError, MovedBackError) as error:
                deadline = deadline or time.monotonic() + BUSY_SECONDS
                if not error.retryable or time.monotonic() > deadline:
                    raise
            yield Pause(_PAUSE)

    def _once(self, operation: Operation[..., Result]) -> Steps[Result]:
        settings = self._settings()
        source = self._sources.get(operation.source)
        moved = None if source is None else source.freshness.is_moved()
        if source is not None and (key := source.freshness.in_doubt()) is not None:
            row: PositionRow | None = yield Position(key)
            moved = moved if row is None else row.sealed
        if moved is not None and moved is not postgres_only(settings):
            # What the configuration says will follow.
            settings = structs.replace(settings, **(_POSTGRES if moved else _BOTH))
        if operation.source == "postgres" or operation.shared or postgres_only(settings):
            if settings.backend == "sqlite":
                raise UnsupportedError(
                    operation.name,
                    detail="SQLite does not have this; Postgres has",
                    next_step="set storage.backend to dual, and run `mirror up` for the program's files",
                )
            if operation.alone and not postgres_only(settings):
                raise UnsupportedError(
                    operation.name,
                    detail="it writes tasks to Postgres, and the mirror carries the dashboard's tasks there",
                    next_step="set storage.backend to postgres, or create the tasks with tasks.create",
                )
            if postgres_only(settings) and source is not None and not source.moved:
                if moved:
                    source.moved = True  # nothing was written to the file after Postgres had everything
                elif source.session.used:
                    yield from _moved(operation, source, settings)
                else:
                    yield from _not_behind(operation, source, settings)
            result, _ = yield OnPostgres(None)
            if operation.shared:
                READS.count("postgres", Reason.SHARED, _path(source))
            elif operation.reads and operation.source != "postgres":
                READS.count("postgres", Reason.SETTING, _path(source))
            return result  # type: ignore[no-any-return]  # a step's answer is of any type
        if source is not None:
            source.moved = False
        if not operation.reads:
            if source is not None:
                source.freshness.require_writable()
            result = yield OnSqlite()
            if source is not None:
                with source.guard:
                    source.session.saw_sqlite()
            return result  # type: ignore[no-any-return]
        if settings.reads.shadow_percent and settings.backend == "dual" and source is not None:
            yield Offer(settings.reads.shadow_percent)
        if settings.backend == "sqlite" or settings.read_from == "sqlite" or settings.reads.always_sqlite:
            reason = Reason.SETTING
        elif source is None:
            reason = Reason.NO_INDEX
        elif self._health.failed:
            reason = Reason.FAILED
        else:
            found = yield from self._fresh(source, settings)
            if not isinstance(found, Reason):
                READS.count("postgres", Reason.FRESH, _path(source))
                return found[0]  # type: ignore[no-any-return]
            reason = found
        result = yield OnSqlite()
        READS.count("sqlite", reason, _path(source))
        if source is not None:
            with source.guard:
                source.session.saw_sqlite()
        return result  # type: ignore[no-any-return]

    def _fresh(self, source: SourceReads, settings: StorageSettings) -> Steps[tuple[Any] | Reason]:
        """The answer of Postgres, in a tuple, if it is proved fresh in time; else the reason why not."""
        freshness = source.freshness
        start = source.session.begin()
        if start.reason is not None:
            return start.reason
        wait = 0.0 if settings.reads.never_wait else settings.reads.max_wait_ms / 1000
        deadline = time.monotonic() + wait
        while True:
            reason = freshness.at_once(start)
            if reason is Reason.BEHIND:
                reason = yield Wait(freshness, start, deadline)
            if reason is not None:
                return reason
            published = start.published
            if published is None:
                return Reason.NOT_FOLLOWED
            row: PositionRow | Unasked | None
            try:
                result, row = yield OnPostgres(published.source_id, max(wait, _LEAST_PATIENCE))
            except ConfigError:
                return Reason.ARGUMENTS  # what SQLite does not take, either, is its error
            except BusyError:
                return Reason.BUSY
            except SinkError as error:
                self._health.has_failed(error)
                return Reason.FAILED
            self._health.has_answered()
            if row is Unasked.UNASKED:
                return (result,)
            if row is None:
                return Reason.UNPROVED
            with source.guard:
                verdict = source.session.judge(start, row)
            if verdict is Reason.FRESH:
                return (result,)
            if verdict is Reason.INCOMPLETE or time.monotonic() + _PAUSE > deadline:
                return verdict
            yield Pause(_PAUSE)


def _moved(operation: Operation[..., Any], source: SourceReads, settings: StorageSettings) -> Steps[None]:
    """Wait until Postgres has what the session has seen, because it goes on there alone.

    The mirror says where that is; where it has ended, the WAL index may still show that it was applied to the end.
    Raises ``StorageError``, retryable, if it is not there in time.
    """
    deadline = time.monotonic() + settings.reads.max_wait_ms / 1000
    start = source.freshness.begin()
    owed = yield Owed(source)
    published = start.published
    keys: list[int | str] = [owed.lineage] if isinstance(owed, Token) else []
    keys += [published.source_id] if published is not None else []
    while True:
        for key in keys:
            row: PositionRow | None = yield Position(key)
            if row is not None and row.sealed:
                source.moved = True  # nothing was written to the file after Postgres had everything
                return
            if row is None or not row.complete:
                continue
            same = isinstance(owed, Token) and row.lineage == owed.lineage
            if (same and owed.reached_by(row)) or source.freshness.covers(start, row):
                source.moved = True
                return
        if time.monotonic() + _PAUSE > deadline:
            break
        yield Pause(_PAUSE)
    raise StorageError(
        operation.name,
        detail="it is not sure that Postgres has all that was read and written here before storage.backend was changed"
        + (f": {owed}" if isinstance(owed, MirrorError) else ""),
        next_step="let the mirror run until it has applied everything (`mirror status`, `mirror rejects list`) and"
        " try again; a program that is started again asks only for what its SQLite file still shows",
        retryable=True,
    )


def _not_behind(operation: Operation[..., Any], source: SourceReads, settings: StorageSettings) -> Steps[None]:
    """Refuse to go on in Postgres alone where the program's file shows commits that it does not have, or not whole.

    Where the WAL index is not there any more, or the mirror never was, nothing is known, and nothing refused; where the
    index cannot be read, or the mirror has only begun, it is refused. Raises ``StorageError``, retryable.
    """
    deadline = time.monotonic() + settings.reads.max_wait_ms / 1000
    newest: NewestCommit | None = None
    while (published := source.freshness.published()) is not None:
        start = source.freshness.begin()
        newest = newest or start.newest
        if (not newest.frame) if newest is not None else (start.reason is Reason.NO_INDEX):
            break
        row: PositionRow | None = None
        if published.source_id:
            row = yield Position(published.source_id)
            if row is None or row.sealed:
                break
        if newest is None:
            detail = "it is not known whether Postgres has all of the program's file: its WAL index cannot be read"
        elif row is None:
            detail = "it is not known whether Postgres has all of the program's file: its mirror has only begun"
        elif not row.complete:
            detail = "the program's file has rows that Postgres has rejected"
        elif (row.salt1, row.salt2) == newest.salts and row.frame >= newest.frame:
            break
        else:
            detail = "the program's file has commits that Postgres does not have: no mirror has brought them yet"
        if time.monotonic() + _PAUSE > deadline:
            raise StorageError(
                operation.name,
                detail=detail,
                next_step="run `mirror up` for it until all is applied (`mirror status`, `mirror rejects list`), and"
                " start this program again; or, if that may go, take the file out of `sources` of mirror.json",
                retryable=True,
            )
        yield Pause(_PAUSE)
    source.moved = True


class TokenRoutes:
    """The rules for reads at a token: of Postgres alone, on any host; no answer is older than the one before it.

    Thread: any.
    """

    def __init__(self, settings: Callable[[], StorageSettings], token: Token | None, source: str, text: str) -> None:
        """``token``: that of ``source`` (memory or dashboard) in ``text``; None: it is not of that source."""
        self._settings = settings
        self._token = token
        self._source = source
        self._text = text
        self._session = Session(source=source)
        self._guard = Lock()

    def steps(self, operation: Operation[..., Result]) -> Steps[Result]:
        """What to do for a read. Raises ``TokenError``, and ``StorageError``, retryable if it is not there in time."""
        token = self._token
        if token is None:
            step = "have the program that gives it use that source first"
            raise TokenError("read at a token", self._text, f"it is not of the {self._source} source", next_step=step)
        if not operation.reads or operation.source != self._source:
            raise StorageError(
                operation.name,
                detail=f"this adapter reads the {self._source} store at a token, and does nothing else",
                next_step="use the adapter that it was made from",
            )
        deadline = time.monotonic() + self._settings().reads.max_wait_ms / 1000
        while True:
            row: PositionRow | Unasked | None
            result, row = yield OnPostgres(token.lineage)
            if row is Unasked.UNASKED:
                return result  # type: ignore[no-any-return]
            if row is None:
                raise TokenError(
                    "read at a token",
                    self._text,
                    "Postgres does not have this copy of the source, or not for this agent",
                    next_step="read without the token, and take a new one",
                )
            with self._guard:
                verdict = self._session.judge_at(token, row)
            if verdict is Reason.TOKEN:
                READS.count("postgres", Reason.SHARED if operation.shared else Reason.TOKEN)
                return result  # type: ignore[no-any-return]
            if time.monotonic() + _PAUSE > deadline:
                older = "than the token" if verdict is Reason.BEHIND else "than an answer before"
                raise StorageError(
                    "read at a token",
                    self._text,
                    f"Postgres is at {row.lsn}, which is older {older}",
                    next_step="try again, or look at `mirror status`",
                    retryable=True,
                )
            yield Pause(_PAUSE)
