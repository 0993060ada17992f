"""The mirror's connection to a source."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mirror.core.errors import OldLogError, SourceError
from mirror.replica.source_connection import SourceConnection
from tests.support.source import Writer


def test_another_file_that_was_put_there_meanwhile_is_looked_at(writer: Writer, database: Path, folder: Path) -> None:
    """Between the comparison that showed an old log and its error; else the mirror would stay away for ever."""
    writer.run("CREATE TABLE t(v)")
    error = OldLogError("follow the source", str(database), "they do not belong together", retryable=True)
    source = SourceConnection(database, awaits=False)
    source.connect()
    source.leave(error)
    with pytest.raises(SourceError, match="they do not belong together"):
        source.connect()
    touched = folder / "other.db"
    touched.write_bytes(database.read_bytes())
    os.replace(touched, database)
    source.connect()
    touched.write_bytes(database.read_bytes())
    os.replace(touched, database)
    source.leave(error)
    source.connect()
    source.close()
