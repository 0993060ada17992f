"""A source in tests: a SQLite file that other processes write."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.waiting import LIMIT

_PROGRAM = Path(__file__).with_name("writer_process.py")
#: In place of a statement: write into a blob, with (table, column, rowid, offset, bytes) as its parameters.
BLOB_WRITE = "BLOB WRITE"


def filling(values: str) -> str:
    """A statement that puts rows into ``t``, to be formatted with the first and the last ``i`` of ``values``."""
    return (
        "WITH RECURSIVE n(i) AS (SELECT {0} UNION ALL SELECT i + 1 FROM n WHERE i < {1})"
        f" INSERT OR REPLACE INTO t SELECT {values} FROM n"
    )


def remove(database: Path) -> None:
    """Delete a database and its companions, as a restore script does; no program may have it open."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)


def put_in_place(other: Path, database: Path) -> None:
    """Replace a database by another one, by a rename."""
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    os.replace(other, database)


class WriterError(Exception):
    """The program's SQLite refused a statement."""


class Writer:
    """One program that writes the file; ``driver`` is ``sqlite3`` (the standard module) or ``apsw``."""

    def __init__(self, path: Path, *, driver: str = "sqlite3", busy: int = 5000) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_PROGRAM), driver, str(path), str(busy)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, *statements: str | tuple[str, tuple[Any, ...]]) -> list[list[Any]]:
        """Run statements in order; return the rows of the last one."""
        self.send(*statements)
        return self.answer()

    def transaction(self, *statements: str | tuple[str, tuple[Any, ...]]) -> None:
        """Run statements in one transaction."""
        self.run("BEGIN IMMEDIATE", *statements, "COMMIT")

    def send(self, *statements: str | tuple[str, tuple[Any, ...]]) -> None:
        """Begin what ``run`` does, without waiting for the answer."""
        request = [
            (item, []) if isinstance(item, str) else (item[0], [_encode(value) for value in item[1]])
            for item in statements
        ]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def answer(self) -> list[list[Any]]:
        assert self._process.stdout is not None
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise WriterError(answer["error"])
        rows: list[list[Any]] = answer["rows"]
        return rows

    def close(self) -> None:
        """Let the program end, which closes its connection."""
        if self._process.poll() is None:
            self._process.communicate(timeout=LIMIT)

    def kill(self) -> None:
        """End the program as ``kill -9`` does."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _encode(value: Any) -> Any:
    return {"blob": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
