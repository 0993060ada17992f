"""Where an application is moved: the checkout, its environment with pinned packages, its database."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

APPS = Path(__file__).resolve().parent
ROOT = APPS.parents[1]
sys.path.insert(0, str(ROOT))

import psycopg  # noqa: E402
from psycopg.conninfo import make_conninfo  # noqa: E402

from mirror.postgres.embedded import start_embedded  # noqa: E402

_OWNER = "shop"


def environment(folder: Path, packages: tuple[str, ...]) -> Path:
    """Make a virtual environment that has the packages; returns its Python."""
    print(f"making an environment with {', '.join(packages)}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


@contextmanager
def postgres(folder: Path, options: str, extensions: tuple[str, ...], *, superuser: bool) -> Iterator[str]:
    """A database, as a connection string for its owner, who is no superuser, or for one who is.

    ``options``: of CREATE DATABASE. ``extensions``: are made in it.
    """
    with start_embedded(folder / "server") as server:
        with psycopg.connect(server.dsn, autocommit=True) as conn:
            conn.execute(f"CREATE ROLE {_OWNER} LOGIN")
            conn.execute(f"CREATE DATABASE {_OWNER} OWNER {_OWNER} {options}".encode())
        with psycopg.connect(make_conninfo(server.dsn, dbname=_OWNER), autocommit=True) as conn:
            for extension in extensions:
                conn.execute(f"CREATE EXTENSION {extension}")
        yield make_conninfo(server.dsn, dbname=_OWNER, **({} if superuser else {"user": _OWNER}))
