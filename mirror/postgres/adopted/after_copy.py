"""SQL of the user's that fills in Postgres what cannot be mirrored: full-text search, above all.

It is a part of what was decided when a source was adopted. It is run once the first copy of the source is in Postgres,
and again by the switch of a move, because rows have come meanwhile: so it must be such that it can run twice.

It is run inside a transaction of the mirror's, as one string that PL/pgSQL executes. There Postgres itself refuses
whatever begins or ends a transaction (SQLSTATE 0A000, in a procedure 2D000), so nothing of it is ever committed without
the mark that it was run, which is the last statement of that transaction. Killed anywhere before, all of it is undone,
and it is begun again; killed after, it is not. One that ends its session or the mirror each time is begun three times.

Foreign keys and triggers act on what it writes, as far as they are not set aside (:mod:`.guards`): its session is not
the one that writes rows of the source. An error is kept, and the mirror goes on: rows are what matters.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from loguru import logger
from psycopg.sql import SQL, Composed, Identifier, Literal

from mirror.core.errors import SinkError
from mirror.core.faults import Faults, no_fault
from mirror.core.words import one_line
from mirror.postgres.adopted import decisions as decided
from mirror.postgres.adopted.script import line_of
from mirror.postgres.failures import sink_error
from mirror.postgres.sessions import Session, connect
from mirror.postgres.target import Conn

_OPERATION = "run the SQL for after the copy"
#: How often it is begun at most, where its session or the mirror ends before it does.
_MOST = 3
#: Seconds between two looks at whether the mirror is to stop.
_LOOK_SECONDS = 0.2
#: Serialization failures and deadlocks: it may go through if it is run again.
_AGAIN = "40"
#: What a script may have set for its session, and is as it was afterwards, and whether only in this transaction; the
#: role first, which the others need.
_KEPT = {
    "role": False,
    "search_path": False,
    "session_replication_role": False,
    "statement_timeout": True,
    "lock_timeout": True,
}
#: Whether it is to be run in the session that writes rows.
_DUE = (
    "SELECT decisions ->> 'after_copy', decisions ->> 'after_copy_file', after_copy_begun FROM mirror.adoptions"
    " WHERE source_id = $1::bigint AND decisions ->> 'after_copy' <> '' AND after_copy_at IS NULL"
    " AND after_copy_error IS NULL"
)


@dataclass(frozen=True, slots=True)
class State:
    """What became of the script of a source."""

    file: str
    """That it was read from."""
    at: str = ""
    """When it was run; empty: it was not."""
    error: str = ""
    """Why it could not be; empty: it was, or is still to be."""


def read(conn: Conn, source_id: int) -> State | None:
    """What became of it; None: there is no script. ``conn``: raw, and the schema ``mirror`` is of this version. Raises
    psycopg's errors.
    """
    row = conn.execute(
        "SELECT decisions ->> 'after_copy_file', coalesce(date_trunc('second', after_copy_at)::text, ''),"
        " coalesce(after_copy_error, '') FROM mirror.adoptions"
        " WHERE source_id = $1::bigint AND decisions ->> 'after_copy' <> ''",
        (str(source_id),),
    ).fetchone()
    return None if row is None else State(*map(str, row))


def forget(conn: Conn, source_id: int) -> None:
    """It was given anew, in the caller's transaction: it is to be run, whatever became of the one before."""
    conn.execute(
        "UPDATE mirror.adoptions SET after_copy_begun = 0, after_copy_at = NULL, after_copy_error = NULL"
        " WHERE source_id = $1::bigint",
        (str(source_id),),
    )


class AfterCopy:
    """The script of one source, for the mirror that has its lock in Postgres. Thread: the sink's."""

    def __init__(self, conn: Conn, dsn: str, source_id: int, schema: str, name: str) -> None:
        """``conn``: raw, in autocommit mode. ``name``: of the source, for the log."""
        self._conn, self._dsn, self._source_id, self._schema, self._name = conn, dsn, str(source_id), schema, name

    def error(self) -> str:
        """Why it could not be run, with its file; empty: it was, is still to be, or there is none."""
        state = read(self._conn, int(self._source_id))
        return f"{state.file}: {state.error}" if state is not None and state.error else ""

    def run(self, epoch: int, check: Callable[[], None], faults: Faults = no_fault) -> None:
        """Run it if that is due; an error of it is kept, and told.

        ``epoch``: of this mirror, that has the source. ``check``: called while Postgres works; what it raises ends the
        work, and is raised. Raises psycopg's errors, and ``SinkError`` where it is to be tried again.
        """
        row = self._conn.execute(_DUE, (self._source_id,)).fetchone()
        if row is None:
            return
        text, file, begun = str(row[0]), str(row[1]), int(row[2])
        if begun >= _MOST:
            why = f"it was begun {begun} times, and its session in Postgres or the mirror ended before it did"
            self._fail(text, file, why)
            return
        self._count(text, begun + 1)
        faults("after-copy:begun")
        logger.info("{}: running {} in Postgres (--after-copy); commits are kept meanwhile", self._name, file)
        try:
            with connect(self._dsn, name="mirror after copy", raw=True) as conn:
                self._run(conn, text, epoch, check, faults)
        except (psycopg.Error, SinkError) as error:
            problem, why = _told(error, file, text)
            if problem.retryable and begun + 1 < _MOST:
                raise problem from error.__cause__
            self._fail(text, file, why)
            return
        except BaseException:  # the mirror was to stop: that does not count
            with suppress(psycopg.Error):
                self._count(text, begun)
            raise
        faults("after-copy:done")
        logger.info("{}: {} was run in Postgres", self._name, file)

    def _run(self, conn: Session, text: str, epoch: int, check: Callable[[], None], faults: Faults) -> None:
        with conn.transaction():
            execute(conn, self._schema, text, lambda query: _awaited(conn, query, check))
            faults("after-copy:before-commit")
            marked = conn.execute(
                "UPDATE mirror.adoptions a SET after_copy_at = now() FROM mirror.sources s"
                " WHERE a.source_id = $1::bigint AND s.source_id = a.source_id AND s.epoch = $2::bigint"
                " AND a.decisions ->> 'after_copy' = $3::text AND a.after_copy_at IS NULL",
                (self._source_id, str(epoch), text),
            )
            if not marked.rowcount:
                why = "the source was adopted anew meanwhile, or another mirror has taken it"
                raise SinkError(_OPERATION, self._name, why, retryable=True)

    def _count(self, text: str, begun: int) -> None:
        """``text``: of the script that is meant; another one may have been given meanwhile."""
        self._conn.execute(
            "UPDATE mirror.adoptions SET after_copy_begun = $3::int WHERE source_id = $1::bigint"
            " AND decisions ->> 'after_copy' = $2::text",
            (self._source_id, text, str(begun)),
        )

    def _fail(self, text: str, file: str, why: str) -> None:
        self._conn.execute(
            "UPDATE mirror.adoptions SET after_copy_error = $3::text WHERE source_id = $1::bigint"
            " AND decisions ->> 'after_copy' = $2::text",
            (self._source_id, text, why),
        )
        logger.warning("{}: {} could not be run in Postgres (--after-copy): {}", self._name, file, why)


def run_at_switch(conn: Session, source_id: int) -> str:
    """Run the script of a source, if it has one, in the transaction of the connection; returns what to say of it.

    Raises :class:`SinkError` where Postgres does not take it; psycopg's errors of locks as they are.
    """
    decisions = decided.load(conn, source_id)
    if decisions is None or not decisions.after_copy:
        return ""
    try:
        execute(conn, decisions.schema, decisions.after_copy, conn.execute)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        raise
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise  # the connection is lost
        step = "put it right, and `mirror adopt` again with it and the same options; then begin the move again"
        detail = shown(error, decisions.after_copy)
        raise SinkError(_OPERATION, decisions.after_copy_file, detail, next_step=step) from error
    conn.execute(
        "UPDATE mirror.adoptions SET after_copy_at = now(), after_copy_error = NULL WHERE source_id = $1::bigint",
        (str(source_id),),
    )
    return f"{decisions.after_copy_file} was run"


def execute(conn: Session, schema: str, text: str, run: Callable[[Composed], object]) -> None:
    """Run a script in the transaction of the connection; afterwards the session is as it was. Raises psycopg's errors.

    ``run``: runs one query. What is deferred is looked at in the end: tables with events that are still to come could
    not be altered after it.
    """
    names = SQL(", ").join(map(Literal, _KEPT))
    kept = conn.execute(
        SQL("SELECT name, pg_catalog.current_setting(name) FROM unnest(ARRAY[{}]) AS k (name)").format(names)
    ).fetchall()
    conn.execute(SQL("SET LOCAL search_path = {}, pg_catalog, pg_temp").format(Identifier(schema)))
    body = SQL("BEGIN EXECUTE {}; END").format(Literal(text)).as_string(conn)
    run(SQL("DO {}").format(Literal(body)))
    conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for name, value in kept:
        conn.execute(  # who may not set one has not set it either
            "SELECT pg_catalog.set_config($1::text, $2::text, $3::bool)"
            " WHERE pg_catalog.current_setting($1::text) IS DISTINCT FROM $2::text",
            (name, value, str(_KEPT[name])),
        )


def _told(error: psycopg.Error | SinkError, file: str, text: str) -> tuple[SinkError, str]:
    """An error as the mirror's own, retryable if the script is to be begun again; and what to say of it."""
    if isinstance(error, SinkError):
        return error, error.detail
    problem = sink_error(error, _OPERATION, file)
    problem.retryable = problem.lost or (error.sqlstate or "").startswith(_AGAIN)
    return problem, shown(error, text)


def shown(error: psycopg.Error, text: str) -> str:
    """An error of a script in one line: the line of it, where Postgres says, its SQLSTATE, and the message."""
    place = error.diag.internal_position
    where = f"line {line_of(text, int(place))}: " if place and error.diag.internal_query == text else ""
    message = one_line(error.diag.message_primary or str(error))
    detail = f" ({one_line(error.diag.message_detail)})" if error.diag.message_detail else ""
    return f"{where}{message}{detail} (SQLSTATE {error.sqlstate or 'unknown'})"


def _awaited(conn: Session, query: Composed, check: Callable[[], None]) -> None:
    """Run one query of whatever length. What ``check`` raises is raised, and the query cancelled."""
    with ThreadPoolExecutor(1, "mirror after copy") as pool:
        work = pool.submit(conn.execute, query)
        try:
            while wait((work,), _LOOK_SECONDS).not_done:
                check()
        except BaseException:
            while not work.done():
                with suppress(psycopg.Error):  # it is not there to be cancelled
                    conn.cancel_safe(timeout=1.0)
                wait((work,), _LOOK_SECONDS)
            raise
    work.result()
