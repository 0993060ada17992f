"""Makes the golden files again: ``python -m tests.golden.make``. Salts are random, so every byte changes.

It may open the files beside its own connection, because nothing else uses them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import apsw

from tests.golden import save

_FILL = """WITH n(i) AS (VALUES ({first}) UNION ALL SELECT i+1 FROM n WHERE i<{last})
    INSERT INTO t SELECT i, printf('%.{size}c', 'x') FROM n"""


def _connect(path: Path, page_size: int) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA page_size={page_size}; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0").fetchall()
    return connection


def _wal(path: Path) -> bytes:
    return Path(f"{path}-wal").read_bytes()


def _small(folder: Path) -> None:
    """Page size 512: three commits; then with a transaction that spilled; then after a reset."""
    path = folder / "small.db"
    connection = _connect(path, 512)
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT)")
    connection.execute("INSERT INTO t VALUES (1, 'one')")
    connection.execute(_FILL.format(first=2, last=12, size=100))
    save("wal-512", _wal(path))
    save("shm-512", Path(f"{path}-shm").read_bytes()[:136])
    connection.execute("PRAGMA cache_size=1; BEGIN")
    connection.execute(_FILL.format(first=20, last=29, size=400))
    save("wal-512-spilled", _wal(path))
    connection.execute("ROLLBACK")
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
    connection.execute("UPDATE t SET x='uno' WHERE id=1")
    save("wal-512-reset", _wal(path))
    connection.close()


def _large(folder: Path) -> None:
    path = folder / "large.db"
    connection = _connect(path, 65536)
    connection.execute("CREATE TABLE t(x)")
    connection.execute("INSERT INTO t VALUES (zeroblob(70000))")
    save("wal-65536", _wal(path))
    save("shm-65536", Path(f"{path}-shm").read_bytes()[:136])
    connection.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        _small(Path(name))
        _large(Path(name))
