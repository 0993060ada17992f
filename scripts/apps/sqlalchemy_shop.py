"""A shop with SQLAlchemy 2 and Alembic, moved live from SQLite to the tables that its own migrations make in Postgres.

Enum, Interval, Uuid, Numeric, times with and without a zone, JSON, JSONB and arrays where Postgres has them, generated
columns, relationships to itself and of many to many, foreign keys that SQLite does not enforce.

    python scripts/apps/sqlalchemy_shop.py
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import ClassVar

from application import Application
from command import main, parser
from moving import Move
from places import APPS

_IMPORTS = "import sqlalchemy as sa\nfrom sqlalchemy import Text"
_SEQUENCES = """
import models, sqlalchemy
with models.engine().begin() as connection:
    for table in models.Base.metadata.sorted_tables:
        (first, *others) = table.primary_key.columns
        if not others and not first.foreign_keys and isinstance(first.type, sqlalchemy.BigInteger):
            name = sqlalchemy.func.pg_get_serial_sequence(table.name, first.name)
            last = sqlalchemy.select(sqlalchemy.func.max(first)).scalar_subquery()
            connection.execute(sqlalchemy.select(sqlalchemy.func.setval(name, sqlalchemy.func.coalesce(last, 1))))
"""


class AlchemyShop(Application):
    """See the module."""

    name = "SQLAlchemy"
    packages = ("SQLAlchemy==2.0.58", "alembic==1.20.1", "psycopg[binary]==3.3.9")
    sources = APPS / "shop_sqlalchemy"
    audited = "person"
    more: Mapping[str, str] = {"PYTHONPATH": "."}
    said_by_hints: ClassVar = {("thing", "exact"): "digits past the 17th"}

    def make(self, move: Move) -> None:
        """``alembic init``, ``revision --autogenerate``, then ``upgrade`` on both stores."""
        own = (move.program / "env.py").read_text()
        self._alembic(move, "init", "migrations")
        (move.program / "migrations" / "env.py").write_text(own)
        # Alembic 1.20.1 writes JSONB as a variant with a Text() that its template does not import.
        template = move.program / "migrations" / "script.py.mako"
        template.write_text(template.read_text().replace("import sqlalchemy as sa", _IMPORTS))
        self._alembic(move, "revision", "--autogenerate", "-m", "shop")
        for store in ("sqlite", "postgres"):
            self._alembic(move, "upgrade", "head", store=store)
            self._alembic(move, "check", store=store)
        move.check(True, "its own migrations have made the tables on both sides")

    def set_sequences(self, move: Move) -> None:
        """By SQL: Alembic has nothing for it."""
        move.run("-c", _SEQUENCES, store="postgres")
        move.check(True, "sequences were set by setval: neither the mirror nor Alembic sets them")
        done = move.run("-m", "alembic", "check", store="postgres", fine=False)
        move.check(done.returncode == 0, "alembic check", *done.stdout.splitlines()[-3:])

    def _alembic(self, move: Move, *command: str, store: str = "sqlite") -> str:
        return move.run("-m", "alembic", *command, store=store).stdout


if __name__ == "__main__":
    given = parser(__doc__).parse_args()
    sys.exit(main(AlchemyShop(), given))
