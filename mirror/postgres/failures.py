"""psycopg's errors as the mirror's errors: decided by SQLSTATE, never by message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from mirror.core.errors import FencedError, NameTakenError, RefusedError, SinkError
from mirror.core.redaction import redacted
from mirror.core.words import one_line

#: mirror.advance: the source has another epoch / the position would go back.
FENCED = "MR001"
WENT_BACK = "MR002"
#: unique_violation: of the catalog itself, where two sessions have made objects of one name at the same time.
#: duplicate_table: there is one already.
_UNIQUE, _DUPLICATE_TABLE = "23505", "42P07"

#: too_many_columns.
TOO_MANY_COLUMNS = "54011"

#: Where the mirror's own tables are.
_OWN_SCHEMA = "mirror"
#: connection, resources, operator intervention, rollback by the server.
_RETRYABLE_CLASSES = frozenset({"08", "53", "57", "40"})
#: Limits on a transaction; lock_not_available (the errors of a server that starts or stops are of class 57); and what
#: an operator can put right while the mirror waits: missing rights, a database that is read-only, the role argent_app
#: (MR003).
_RETRYABLE_STATES = frozenset({"25P03", "25P04", "55P03", "42501", "25006", "MR003"})
#: Postgres works, but not with this statement: unsupported, data, constraint, dependent objects, names and types,
#: WITH CHECK OPTION, limits, an exception that a trigger raised.
_REFUSING_CLASSES = frozenset({"0A", "22", "23", "2B", "42", "44", "54", "P0"})
#: Of these, those about one row and no other: its data, its size, a CHECK or NOT NULL that an operator added.
_ROW_CLASSES, _ROW_STATES = frozenset({"22", "54"}), frozenset({"23502", "23514"})

#: admin_shutdown, crash_shutdown, cannot_connect_now: the server ends, or begins.
_ENDS = frozenset({"57P01", "57P02", "57P03"})

_LIMIT = "if it comes again: ALTER ROLE or ALTER DATABASE … RESET {}; the mirror sets it to 0 in its sessions"

_NEXT_STEPS = {
    "25006": "end its default_transaction_read_only or recovery, or name the primary server in the DSN",
    "28": "check user, password and pg_hba.conf",
    "3D": "create the database, or correct the DSN",
    "42501": "grant the mirror's user CREATE on the database and on the schema, and on a tablespace that is named",
    "53100": "free disk space on the server",
    "53300": "raise max_connections, or close other sessions",
    "0A000": "drop the view or rule that uses the column",
    "2BP01": "drop what depends on the table",
    "22": "change the value in the source",
    "25P03": _LIMIT.format("idle_in_transaction_session_timeout"),
    "25P04": _LIMIT.format("transaction_timeout"),
    "53400": "raise the limit that is named, for the mirror's user or the database",
    "55P03": _LIMIT.format("lock_timeout"),
    "57014": "nothing, if somebody cancelled it; " + _LIMIT.format("statement_timeout"),
    "57P05": _LIMIT.format("idle_session_timeout"),
    "23": "drop the constraint, which is not the mirror's",
    "54": "make the row or the table smaller, or drop the index that is named",
    TOO_MANY_COLUMNS: "split the table: Postgres takes 1,600 columns at most",
    "P0": "repair or drop the trigger that raised it",
    "42P07": "rename or drop what has that name, or give this source a schema of its own with --schema",
    "MR003": "as an administrator: CREATE ROLE argent_app LOGIN, or ALTER ROLE argent_app NOSUPERUSER NOBYPASSRLS",
    WENT_BACK: "another copy of the state directory has been applied further; start from that one",
}


def sink_error(error: psycopg.Error, operation: str, place: str = "") -> SinkError:
    """Take a psycopg error; return the :class:`SinkError` for it, with its SQLSTATE."""
    state = error.sqlstate
    detail = error.diag.message_primary or one_line(redacted(str(error)))
    if error.diag.message_detail:
        detail += f" ({error.diag.message_detail})"
    if state == FENCED:
        return FencedError(operation, place, detail, sqlstate=state, next_step="stop the other mirror")
    if state == _UNIQUE and error.diag.schema_name == "pg_catalog":
        why = "another session made an object of the same name at the same moment"
        return SinkError(operation, place, why, sqlstate=state, next_step="the mirror tries it again", retryable=True)
    if state is not None and state[:2] == "23" and error.diag.schema_name == _OWN_SCHEMA:
        # Not about the source's tables: somebody has changed the mirror's own.
        step = (
            "its rows in schema mirror were changed or deleted: run `mirror up` again, which registers the source "
            "again and says what to do about tables that are there already"
        )
        return SinkError(operation, place, detail, sqlstate=state, next_step=step)
    # Without a SQLSTATE the server did not answer: the connection failed.
    lost = state is None and isinstance(error, psycopg.OperationalError)
    next_step = "" if state is None else _NEXT_STEPS.get(state, _NEXT_STEPS.get(state[:2], ""))
    if state is not None and state[:2] in _REFUSING_CLASSES and state not in _RETRYABLE_STATES:
        kind = NameTakenError if state == _DUPLICATE_TABLE else RefusedError
        return kind(operation, place, detail, sqlstate=state, next_step=next_step)
    retryable = lost or (state is not None and (state[:2] in _RETRYABLE_CLASSES or state in _RETRYABLE_STATES))
    if lost:
        # libpq gives no SQLSTATE for a connection that was refused: the step must hold for every reason.
        next_step = (
            "check that Postgres is up and lets this user in, that it has a connection free (max_connections, or the "
            "limit of the database or the user), and that the DSN is right; its log says why it ended a session"
        )
    found = SinkError(operation, place, detail, sqlstate=state, next_step=next_step, retryable=retryable)
    found.lost = lost or state in _ENDS
    return found


def concerns_one_row(error: RefusedError, *, adopted: bool = False) -> bool:
    """Whether another row of the same table may be taken where this one was refused.

    ``adopted``: the table is the application's own, and its constraints are meant: none of them concerns all rows.
    """
    state = error.sqlstate or ""
    return state[:2] in _ROW_CLASSES or state in _ROW_STATES or (adopted and state[:2] == "23")


@contextmanager
def translated(operation: str, place: str = "") -> Iterator[None]:
    """Run the block; a psycopg error in it is raised as :class:`SinkError` instead."""
    try:
        yield
    except psycopg.Error as error:
        raise sink_error(error, operation, place) from error
