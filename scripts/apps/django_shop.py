"""A shop in Django 5.2, moved live from SQLite to the tables that its own migrations make in Postgres.

Users, permissions, sessions and the admin; relations to itself and of many to many; UUID, Decimal, JSON, Duration,
Binary, addresses, generated columns; unique, check and foreign key constraints. ``--naive-zone`` has it run with
USE_TZ = False in that zone: SQLite has times without an offset then.

    python scripts/apps/django_shop.py
    python scripts/apps/django_shop.py --naive-zone Europe/Berlin
"""

from __future__ import annotations

import sys

from application import Application
from command import main, parser
from moving import Move
from places import APPS
from programs import StopError

#: As `sqlsequencereset APP ... | dbshell`, without psql.
_SEQUENCES = """
import io, sys, django
django.setup()
from django.core.management import call_command
from django.db import connection
written = call_command("sqlsequencereset", *sys.argv[1:], no_color=True, stdout=io.StringIO())
connection.cursor().execute(written)
print(written)
"""


class DjangoShop(Application):
    """See the module."""

    name = "Django"
    packages = ("Django==5.2.19", "psycopg[binary]==3.3.9")
    sources = APPS / "shop_django"
    audited = "shop_category"

    def __init__(self, zone: str) -> None:
        more = {"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": "."}
        if zone:
            self.adopt = ("--naive-zone", zone)
            more |= {"SHOP_USE_TZ": "0", "SHOP_TIME_ZONE": zone}
        self.more = more

    def make(self, move: Move) -> None:
        """``makemigrations``, then ``migrate`` on both stores."""
        move.run("-m", "django", "makemigrations", "shop")
        for store in ("sqlite", "postgres"):
            move.run("-m", "django", "migrate", "--verbosity", "0", store=store)
        move.check(True, "its own migrations have made the tables on both sides")

    def set_sequences(self, move: Move) -> None:
        """By the statements that ``sqlsequencereset`` writes."""
        done = move.run("-c", _SEQUENCES, "admin", "auth", "contenttypes", "sessions", "shop", store="postgres")
        if "setval" not in done.stdout:
            raise StopError(f"sqlsequencereset wrote no setval: {done.stdout}")
        move.check(True, "sequences were set by Django's sqlsequencereset: the mirror does not set them")


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--naive-zone", default="", metavar="ZONE", help="USE_TZ = False, and TIME_ZONE")
    given = arguments.parse_args()
    sys.exit(main(DjangoShop(given.naive_zone), given))
