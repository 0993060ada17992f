"""What Postgres answers becomes an error with a next step that helps."""

from __future__ import annotations

import psycopg
import pytest

from mirror.core.errors import RefusedError, SinkError
from mirror.postgres.failures import sink_error, translated
from mirror.postgres.profiles import PROFILES
from mirror.postgres.sink import Sink


def test_a_constraint_of_the_mirrors_own(dsn: str) -> None:
    """It must not be dropped, and no table of the source is to blame for it."""
    with Sink.open(dsn, "/source.db", "public", PROFILES), psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM mirror.sources")
        with pytest.raises(psycopg.errors.ForeignKeyViolation) as failed:
            connection.execute("INSERT INTO mirror.refusals VALUES (1, 't', 'why', 'what')")
        error = sink_error(failed.value, "save a refusal", "t")
        assert not isinstance(error, RefusedError) and not error.retryable
        assert "mirror up" in error.next_step and "drop" not in error.next_step


def test_a_constraint_that_somebody_added(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE t(n int CHECK (n <> 7))")
        with pytest.raises(RefusedError, match="drop the constraint"), translated("store rows", "t"):
            connection.execute("INSERT INTO t VALUES (7)")


def test_no_connection_free(dsn: str) -> None:
    """libpq tells no SQLSTATE then, so the step names every reason."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
        try:
            with pytest.raises(SinkError, match="too many connections") as failed, translated("connect to Postgres"):
                psycopg.connect(dsn, user="crowded")
        finally:
            connection.execute("DROP ROLE crowded")
    assert failed.value.retryable and "max_connections" in failed.value.next_step
