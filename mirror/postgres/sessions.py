"""Connections to Postgres: each of the mirror's own is made here, and none has what a role or database has set.

What is set is in :mod:`~mirror.postgres.settings`, all of it for the session. So the session must be the mirror's
alone: behind a pooler in transaction mode it belongs to whoever's transaction runs. There the lock of a source would
protect nothing, and another client would get the mirror's settings, so such a pooler is refused. One in session mode is
not.

A connection that the server has ended reports why: libpq often finds only that it is gone, because it was writing, and
the server's last message is read too late (see :class:`Session`).
"""

from __future__ import annotations

import difflib
import json
import logging
import selectors
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import psycopg
from psycopg import errors
from psycopg.pq import Conninfo, ConnStatus, DiagnosticField, ExecStatus

from mirror.core.dsn import keywords_in
from mirror.core.errors import SinkError
from mirror.core.redaction import remember_dsn
from mirror.postgres.failures import sink_error
from mirror.postgres.migrate import statement
from mirror.postgres.settings import SET

_BACKEND = "SELECT pg_catalog.pg_backend_pid()"
#: What is being done where an error of :func:`connect` says it.
CONNECT = "connect to Postgres"
#: Before the other settings, in one message: what could end the statement that sets them, or change its meaning; and
#: who writes, for :mod:`mirror.cutover.guard`.
_FIRST = b"SET statement_timeout = 0; SET search_path = pg_catalog, pg_temp; SET mirror.writer = 'on'"
_FIRST_SINCE_17 = b"SET transaction_timeout = 0; "
#: How often a pooler is asked for another server process: it may have any number of them to choose from.
_POOLER_TRIES = 5
#: Seconds to wait for the one that it gives to a second connection.
_POOLER_SECONDS = 5.0
#: How often to connect where a limit strikes before it is lifted: statement_timeout, transaction_timeout,
#: idle_session_timeout may be milliseconds.
_LIMITS, _LIMIT_TRIES = frozenset({"57014", "25P04", "57P05"}), 5
#: Results to read of a connection that has failed, at most, until the server's last message.
_LAST_RESULTS = 8
_UNREADABLE = "libpq cannot read the connection string"
_WRITE = (
    "in a URI write @, / and % in a password as %40, %2F and %25; among keywords put single quotes around a password"
    " that has a blank, and a backslash before each quote and backslash in it"
)
_FATAL = frozenset({"FATAL", "PANIC"})


class Wait(NamedTuple):
    """When a thread began to wait for Postgres, or, if it does not wait now, when it got its last answer."""

    since: float
    """On the monotonic clock."""
    lasts: bool


_waits: WeakKeyDictionary[threading.Thread, Wait] = WeakKeyDictionary()


def last_wait(thread: threading.Thread) -> Wait | None:
    """The wait for Postgres that a thread is in, or its last one; None: it has never waited.

    Thread: any.
    """
    return _waits.get(thread)


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A connection that, when the server has ended it, raises what the server said. Made by :func:`connect`."""

    _last_words: psycopg.Error | None = None

    def wait(self, *arguments: Any, **more: Any) -> Any:
        """As in the base class: all that is sent and received goes through it."""
        thread = threading.current_thread()
        _waits[thread] = Wait(time.monotonic(), lasts=True)
        try:
            return super().wait(*arguments, **more)
        except psycopg.OperationalError as error:
            if error.sqlstate is not None:
                raise
            self._read_to_the_end()
            if self.pgconn.status != ConnStatus.BAD or (said := self._said()) is None:
                raise
            raise said from error
        finally:
            _waits[thread] = Wait(time.monotonic(), lasts=False)

    def _read_to_the_end(self) -> None:
        """Read what the server has sent, if psycopg has seen before libpq that the socket hung up."""
        for _ in range(_LAST_RESULTS):
            if self.pgconn.status == ConnStatus.BAD:
                return
            try:
                self.pgconn.consume_input()
            except psycopg.Error:
                return

    def _said(self) -> psycopg.Error | None:
        """The server's last message, also if it has not been read yet; None if there is none."""
        for _ in range(_LAST_RESULTS):
            if self._last_words is not None:
                break
            try:
                result = self.pgconn.get_result()
            except psycopg.Error:
                break  # the connection is closed: there is nothing to read
            if result is not None and result.error_field(DiagnosticField.SQLSTATE) is not None:
                self._last_words = errors.error_from_result(result)
        return self._last_words

    def hears(self, notice: errors.Diagnostic) -> None:
        """Keep a message that ends the session: libpq takes it for a notice while nothing is asked."""
        state, text = notice.sqlstate, notice.message_primary
        if notice.severity_nonlocalized not in _FATAL or state is None or text is None:
            return
        info: dict[int, bytes | None] = {
            DiagnosticField.SQLSTATE: state.encode(),
            DiagnosticField.MESSAGE_PRIMARY: text.encode(),
        }
        self._last_words = errors.get_base_exception(state)(text, info=info)

    @classmethod
    def made(cls, dsn: str, name: str, raw: bool) -> Self:
        """A new connection, in autocommit mode, on which nothing has been set yet. Raises psycopg's errors."""
        made = cls.connect(
            dsn,
            autocommit=True,
            cursor_factory=psycopg.RawCursor if raw else psycopg.Cursor,
            connect_timeout=10,
            application_name=name,
            client_encoding="UTF8",
            keepalives=1,
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            # Linux: the same for data that is not acknowledged, which is otherwise sent again for 15 minutes.
            tcp_user_timeout=60_000,
        )
        made.add_notice_handler(made.hears)
        return made


def connect(dsn: str, *, name: str = "mirror command", autocommit: bool = True, raw: bool = False) -> Session:
    """A connection with the mirror's settings, whatever the role, the database or the server has.

    ``name``: for ``application_name``. ``raw``: its cursors take ``$1`` for parameters, not ``%s``.

    Raises :class:`SinkError`: retryable, if Postgres cannot be reached; otherwise if a setting can be set by others
    only, or if a pooler in transaction mode is between.
    """
    remember_dsn(dsn)
    for left in reversed(range(_LIMIT_TRIES)):
        try:
            made = Session.made(dsn, name, raw)
            try:
                _require_own_process(made, dsn, name)
                _take_in_hand(made)
                made.autocommit = autocommit
                return made
            except BaseException:
                made.close()
                raise
        except psycopg.Error as error:
            if left and error.sqlstate in _LIMITS:
                continue
            if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
                # libpq names what it takes for a keyword, which may be a word of a password.
                raise _unreadable(dsn) from None
            raise sink_error(error, CONNECT) from error
    raise AssertionError("the last try returns or raises")


@contextmanager
def placeholders(connection: psycopg.Connection[Any], kind: type[psycopg.Cursor[Any]]) -> Iterator[None]:
    """Have a connection's own cursors be of a kind inside the block: ``RawCursor`` takes ``$1``, ``Cursor`` ``%s``."""
    made, connection.cursor_factory = connection.cursor_factory, kind
    try:
        yield
    finally:
        connection.cursor_factory = made


def _unreadable(dsn: str) -> SinkError:
    """Why libpq cannot read a connection string, as far as that can be said without a piece of a password."""
    known = [option.keyword.decode() for option in Conninfo.get_defaults()]
    unknown = [*dict.fromkeys(word for word in keywords_in(dsn) if word not in known)]
    if not unknown:
        return SinkError(CONNECT, detail=_UNREADABLE, next_step=_WRITE)
    detail = f"{_UNREADABLE}: it does not know the keyword{'s' * (len(unknown) > 1)} {', '.join(unknown)}"
    near = [difflib.get_close_matches(word.lower(), known, 1) for word in unknown]
    meant = ", ".join(dict.fromkeys(word for words in near for word in words))
    step = "correct it in the connection string" + (f" (did you mean {meant}?)" if meant else ", or leave it out")
    return SinkError(CONNECT, detail=detail, next_step=step)


def require_utf8(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Raise :class:`SinkError` for a database with another encoding."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        step = "create a database with ENCODING 'UTF8'"
        found = f"the database's encoding is {encoding}"
        raise SinkError("prepare Postgres", connection.info.dbname, found, next_step=step)


def _take_in_hand(made: Session) -> None:
    """Set :data:`SET`; raises :class:`SinkError` for what this user may not set."""
    made.execute((_FIRST_SINCE_17 if made.info.server_version >= 170000 else b"") + _FIRST)
    rows = psycopg.RawCursor(made).execute(statement("session_settings"), (json.dumps(SET),)).fetchall()
    for name, found, wanted in rows:
        raise SinkError(
            CONNECT,
            made.info.dbname,
            f"the setting {name} is {found}, and the user {made.info.user} may not set it to {wanted}",
            next_step=f"as an administrator: ALTER ROLE or ALTER DATABASE … RESET {name},"
            f" or GRANT SET ON PARAMETER {name} to the user",
        )


def _require_own_process(made: Session, dsn: str, name: str) -> None:
    """Raise :class:`SinkError` if a pooler gives the connection's server process to others between transactions.

    One that a pooler gives for the session is cleared: the client before may have left statements, locks and tables.

    Any pooler makes up the numbers by which its clients cancel; without one they are the server's. Whether it is in
    transaction mode is tried: a second connection that has a transaction open gets the process of the first, or the
    first one gets another. In session mode neither can be.
    """
    # Not prepared, also when asked often: another client's statement may have that name.
    row = made.execute(_BACKEND, prepare=False).fetchone()
    if row == (made.info.backend_pid,):
        return
    for _ in range(_POOLER_TRIES):
        other = Session.made(dsn, name, raw=False)
        try:
            theirs = _process_in_transaction(other)
            shared = (theirs,) == row or made.execute(_BACKEND, prepare=False).fetchone() != row
            if theirs is not None:
                other.execute("ROLLBACK")  # else the pooler closes that process
        finally:
            other.close()
        if shared:
            raise SinkError(
                CONNECT,
                made.info.dbname,
                "a pooler in transaction mode is between: there nothing stops a second mirror of a source from writing,"
                " and the settings of the mirror's sessions would be other programs', too",
                next_step="name Postgres itself in the DSN, or a pooler in session mode",
            )
        if theirs is None:
            raise SinkError(
                CONNECT,
                made.info.dbname,
                f"a pooler is between, which gave no second connection within {_POOLER_SECONDS:g} s",
                next_step="let the pooler have more connections (the mirror needs up to four), or name Postgres itself",
                retryable=True,
            )
    made.execute("DISCARD ALL")


def _process_in_transaction(other: Session) -> int | None:
    """The server process of a connection, in a transaction that stays open; None if it gets none for some seconds."""
    asked, found = other.pgconn, None
    asked.send_query(f"BEGIN; {_BACKEND}".encode())
    with selectors.DefaultSelector() as selector:
        selector.register(asked.socket, selectors.EVENT_READ)
        while True:
            while asked.is_busy():
                if not selector.select(_POOLER_SECONDS):
                    return None
                asked.consume_input()
            # It is there: nothing waits for the network while it has Python's lock.
            if (result := asked.get_result()) is None:
                return found
            if result.status == ExecStatus.FATAL_ERROR:
                raise errors.error_from_result(result)
            if (value := result.get_value(0, 0)) is not None:
                found = int(value)


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Whether a record is about something else than the end of a COPY or pipeline on a lost connection."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(isinstance(argument, psycopg.Copy | psycopg.Pipeline) for argument in arguments)


#: The error that is raised says that the connection is lost, and why.
logging.getLogger("psycopg").addFilter(_is_not_ours)
