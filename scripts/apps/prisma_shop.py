"""A shop with Prisma 6, moved live from SQLite to the tables that its own migrations make in Postgres.

DateTime, Json, Decimal, Bytes, Boolean, BigInt and an enum; relations that cascade, to itself and of many to many; keys
that count up; times as Prisma's own engine wrote them (integers), as its drivers do (texts) and by CURRENT_TIMESTAMP.

Both migrations are written by ``prisma migrate diff`` of one schema, and run by ``prisma migrate deploy``, by Prisma's
engine in WebAssembly: nothing is downloaded but packages of npm. It needs Node 20 and npm, and what compiles
better-sqlite3 where that has no binary for the machine. ``--node-modules`` names a folder that has the packages.

    python scripts/apps/prisma_shop.py
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from application import Application
from command import main, parser
from looks import Look
from moving import Move
from places import APPS
from programs import StopError

_HEADER = """
generator client {{
  provider   = "prisma-client-js"
  engineType = "client"
  output     = "./client"
}}

datasource db {{
  provider = "{provider}"
  url      = "file:unused"
}}

"""
_NATIVE = re.compile(r" +@db\.\w+(\([^)]*\))?")
#: By store, what Prisma calls it.
_PROVIDERS = {"sqlite": "sqlite", "postgres": "postgresql"}


class PrismaShop(Application):
    """See the module."""

    name = "Prisma"
    sources = APPS / "shop_prisma"
    audited = '"Person"'
    by_cutover = True
    more: Mapping[str, str] = {"CHECKPOINT_DISABLE": "1", "PRISMA_HIDE_UPDATE_MESSAGE": "1"}

    def install(self, folder: Path) -> Path:
        """``npm install``, in a folder of its own; returns its ``node_modules``."""
        place = folder / "node"
        place.mkdir()
        shutil.copy(self.sources / "package.json", place)
        print("making an environment with the packages of package.json", flush=True)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=place, check=True)
        return place / "node_modules"

    def command(self, tools: Path) -> tuple[str, ...]:
        """Node."""
        return ("node", "run.mjs")

    def make(self, move: Move) -> None:
        """``prisma generate``, ``migrate diff``, then ``migrate deploy``, on both stores."""
        (move.program / "node_modules").symlink_to(move.tools)
        models = (move.program / "models.prisma").read_text()
        for store, provider in _PROVIDERS.items():
            folder = move.program / store
            migration = folder / "migrations" / "20260101000000_init"
            migration.mkdir(parents=True)
            own = models if store == "postgres" else _NATIVE.sub("", models)
            (folder / "schema.prisma").write_text(_HEADER.format(provider=provider) + own)
            (folder / "migrations" / "migration_lock.toml").write_text(f'provider = "{provider}"\n')
            self._prisma(move, store, "generate")
            wanted = ("--from-empty", "--to-schema-datamodel", f"{store}/schema.prisma", "--script")
            self._prisma(move, store, "migrate", "diff", *wanted, "-o", migration / "migration.sql")
            said = self._prisma(move, store, "migrate", "deploy")
            if "All migrations have been successfully applied" not in said:
                raise StopError(f"prisma migrate deploy on {store}: {said}")
        move.check(True, "its own migrations have made the tables on both sides")

    def read(self, path: Path) -> Look:
        """Its program writes JSON, with the type of each value."""
        tables, answers = json.loads(path.read_text())
        seen = {
            table: {key[0] if len(key) == 1 else tuple(key): columns for key, columns in rows}
            for table, rows in tables.items()
        }
        return seen, answers

    def after(self, move: Move) -> None:
        """Prisma finds its migrations done, and the tables as they are in its schema."""
        status = self._prisma(move, "postgres", "migrate", "status")
        move.check("up to date" in status, "prisma migrate status", status.strip().splitlines()[-1])

    def _prisma(self, move: Move, store: str, *command: object) -> str:
        return move.execute("node", move.tools / "prisma" / "build" / "index.js", *command, store=store).stdout


if __name__ == "__main__":
    made = parser(__doc__)
    made.add_argument(
        "--node-modules",
        dest="tools",
        metavar="FOLDER",
        help="a node_modules that has the packages; default: a new one is made",
    )
    given = made.parse_args()
    sys.exit(main(PrismaShop(), given))
