"""LangGraph's store, moved live from SqliteStore to the tables that PostgresStore.setup() makes.

Namespaces, lives (TTL), search by values and by vectors (sqlite-vec's blobs become pgvector's ``vector``). Its program
goes on over the whole move by the read router: it writes to SQLite and reads where the settings say, never the past,
and then writes to Postgres.

SqliteStore leaves the vectors of deleted items behind, which PostgresStore's foreign key would not allow: the report of
``mirror adopt`` tells of them and of what to do, and the script does that.

    python scripts/apps/langgraph_store.py
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from application import Application
from command import main, parser
from moving import Move
from places import APPS, ROOT


class LangGraphStore(Application):
    """See the module."""

    name = "LangGraph's store"
    packages = (
        "langgraph-checkpoint-sqlite==3.1.2",
        "langgraph-checkpoint-postgres==3.2.0",
        "psycopg[binary,pool]==3.3.9",
        str(ROOT),  # the read router
    )
    sources = APPS / "store_langgraph"
    audited = "store"
    extensions = ("vector",)
    by_cutover = True
    reads_first = True
    more: Mapping[str, str] = {"PYTHONPATH": str(ROOT)}

    def make(self, move: Move) -> None:
        """``setup()`` of both stores."""
        for store in ("sqlite", "postgres"):
            move.call("set_up", store=store)
        move.check(True, "setup() of both stores has made the tables")

    def heed(self, move: Move, report: Mapping[str, Any]) -> None:
        """Delete the vectors that are left behind."""
        left = [
            each
            for table in report["tables"]
            for each in table["findings"]
            if (table["table"], each["what"]) == ("store_vectors", "orphan")
        ]
        said = any("DELETE FROM store_vectors" in hint for hint in report["hints"])
        move.check(len(left) == 1 and said, f"the report tells of {left[0]['rows'] if left else 0} vectors of no item")
        move.call("clean")


if __name__ == "__main__":
    given = parser(__doc__).parse_args()
    sys.exit(main(LangGraphStore(), given))
