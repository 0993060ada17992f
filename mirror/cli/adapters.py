"""Guard rails of moves: whether programs can use the Postgres that the commands do."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from mirror.core.checks import Code
from mirror.core.config.settings import DEFAULT_AGENT, Settings
from mirror.core.errors import MirrorError
from mirror.cutover.readiness import Readiness
from mirror.postgres.failures import translated
from mirror.postgres.sessions import connect

_NAME = "storage adapters"
#: What to know of the embedded server before programs depend on it.
EMBEDDED = (
    "it is the embedded one, and runs only while `mirror up` or a program on storage adapters does: programs that"
    " connect to it by themselves need a server that always runs"
)


def judge_server(found: Readiness, settings: Settings) -> None:
    """Note that Postgres is the embedded one, if it is."""
    if settings.dsn is None:
        found.add_note(Code.POSTGRES, "Postgres", EMBEDDED)


def judge_adapters(found: Readiness, source: Path, settings: Settings, dsn: str, schema: str) -> None:
    """Add the guard rail, if the configuration lists the source and it is a store that adapters know.

    It connects as they do. Raises ``SinkError``.
    """
    # Not above: it is half of what a command loads, and only plans and moves forward need it.
    from mirror.storage.on_postgres.store import PostgresStore
    from mirror.storage.on_sqlite.recognise import kind_of

    agents = [entry.agent or DEFAULT_AGENT for entry in settings.configured if entry.path == source]
    with connect(dsn, raw=True) as conn, translated("look at the source's tables", str(source)):
        rows = conn.execute(
            "SELECT s.profile, t.source_table FROM mirror.sources s JOIN mirror.tables t USING (source_id)"
            " WHERE s.path = $1::text AND s.schema_name = $2::text",
            (str(source), schema),
        ).fetchall()
    kind = kind_of({table for _, table in rows})
    if not agents or kind is None:
        return
    what = {"memory": "a MemuStore", "dashboard": "a dashboard"}[kind]
    if rows[0][0] == "generic":
        figure = f"they take the file for {what}, but it was mirrored as any other file"
        step = (
            "`mirror doctor` says what tells them that it is one (memu_meta has a numeric schema_version); see to that,"
            " and mirror it into another schema (`mirror up --schema`)"
        )
        found.add(Code.ADAPTERS, _NAME, False, figure, step)
        return
    try:
        with closing(PostgresStore(settings.storage.dsn or dsn, schema, 1)) as store:
            store.require(agents[0])
    except MirrorError as error:
        found.add(Code.ADAPTERS, _NAME, False, str(error), error.next_step or "see to that, and plan again")
    else:
        found.add(Code.ADAPTERS, _NAME, True, f"they can use {what} there", "")
