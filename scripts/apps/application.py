"""One application that is moved, as the scripts describe theirs."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import places
from looks import Declared, Look
from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from moving import Move


class Application:
    """One application: its sources, its tools. The scripts say more."""

    name = ""
    packages: tuple[str, ...] = ()
    sources: Path
    """The folder of its program, which is copied. ``run.py`` in it has the commands fill, write, look, use; and cross,
    where it is moved by ``mirror cutover``."""
    adopt: tuple[str, ...] = ()
    """Options of ``mirror adopt``."""
    said_by_hints: ClassVar[Declared] = {}
    """By table and column, the words of a hint of the report that tell of a difference."""
    more: Mapping[str, str] = {}
    """Variables for its programs."""
    audited = ""
    """A table that gets a trigger in Postgres, which must not fire for what the mirror writes."""
    database = ""
    """Options of CREATE DATABASE that it needs."""
    extensions: tuple[str, ...] = ()
    """Extensions of Postgres that only a superuser can make."""
    by_cutover = False
    """Whether programs are moved by ``mirror cutover advance``; else the tables are given back."""
    reads_first = False
    """Whether reads are moved first: its program has a read router."""
    writers = 2
    transactions = 120

    def make(self, move: Move) -> None:
        """Have its tools write its migrations, and run them on both stores."""
        raise NotImplementedError

    def set_sequences(self, move: Move) -> None:
        """Set the sequences in Postgres by the application's own means, or by SQL where it has none; for one whose
        tables are given back.
        """
        raise NotImplementedError

    def install(self, folder: Path) -> Path:
        """Make its environment; return what :attr:`Move.tools` is: a Python that has its packages."""
        return places.environment(folder / "venv", self.packages)

    def command(self, tools: Path) -> tuple[str, ...]:
        """What runs its program; its arguments follow. ``tools``: as of :attr:`Move.tools`."""
        return (str(tools), "run.py")

    def heed(self, move: Move, report: Mapping[str, Any]) -> None:
        """Do what the report of ``mirror adopt --dry-run`` calls for."""

    def after(self, move: Move) -> None:
        """What its tools must find in Postgres once it was moved."""

    def read(self, path: Path) -> Look:
        """What its program has written for look: the objects, and the answers to its questions."""
        found: Look = pickle.loads(path.read_bytes())
        return found

    def environment(self, store: str, dsn: str) -> dict[str, str]:
        """What its program is told of where it runs; ``store``: sqlite or postgres."""
        return {"SHOP_STORE": store, "SHOP_PG": json.dumps(conninfo_to_dict(dsn)), **self.more}
