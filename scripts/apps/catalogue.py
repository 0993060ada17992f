"""What Postgres has of an application's tables: what its migrations have made, and a trigger that others added."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

#: By kind, the query of what an application's migrations have made.
_KINDS = {
    "constraints": "SELECT conrelid::regclass || ': ' || conname || ' '"
    " || replace(pg_get_constraintdef(oid), ' NOT VALID', '')"
    " FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1",
    "triggers": "SELECT c.relname || ': ' || tgname || ' ' || tgenabled::text"
    " FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid"
    " WHERE NOT tgisinternal AND relnamespace = 'public'::regnamespace ORDER BY 1",
    "columns": "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable"
    " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1",
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
}
_AUDIT = """
    CREATE SCHEMA audit;
    CREATE TABLE audit.changes (at timestamptz NOT NULL DEFAULT now(), what text NOT NULL);
    CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO audit.changes (what) VALUES (TG_OP); RETURN NULL; END $$;
    CREATE TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON public.{} FOR EACH ROW EXECUTE FUNCTION audit.note();
"""
_TO_VALIDATE = (
    "SELECT format('ALTER TABLE %s VALIDATE CONSTRAINT %I', conrelid::regclass, conname)"
    " FROM pg_constraint WHERE NOT convalidated AND connamespace = 'public'::regnamespace"
)

#: By kind (constraints, triggers, columns, indexes), the texts that define what is there.
Made = dict[str, list[str]]


def made(dsn: str) -> Made:
    """What there is of each kind."""
    with psycopg.connect(dsn) as conn:
        return {kind: [text for (text,) in conn.execute(query).fetchall()] for kind, query in _KINDS.items()}


def apart(before: Made, after: Made) -> Iterator[tuple[str, list[str]]]:
    """Each kind, and what of it was lost or was left."""
    for kind, was in before.items():
        now = after[kind]
        wrong = [f"lost: {each}" for each in was if each not in now]
        yield kind, wrong + [f"left: {each}" for each in now if each not in was]


def validate(dsn: str) -> tuple[int, list[str]]:
    """Have Postgres look at all rows for constraints that are NOT VALID: how many these are, and what does not hold."""
    wrong = []
    with psycopg.connect(dsn, autocommit=True) as conn:
        steps = [step for (step,) in conn.execute(_TO_VALIDATE).fetchall()]
        for step in steps:
            try:
                conn.execute(step)
            except psycopg.Error as error:
                wrong.append(f"{step}: {error}")
    return len(steps), wrong


def audit(dsn: str, table: str) -> None:
    """Give a table a trigger, as others add one to an application's table."""
    with psycopg.connect(dsn) as conn:
        conn.execute(_AUDIT.format(table).encode())


def audited(dsn: str) -> int:
    """How often that trigger has fired."""
    with psycopg.connect(dsn) as conn:
        (count,) = conn.execute("SELECT count(*) FROM audit.changes").fetchone() or (0,)
        return int(count)


def is_adopted(dsn: str) -> bool:
    """Whether ``mirror adopt`` has left anything in Postgres."""
    with psycopg.connect(dsn) as conn:
        return conn.execute("SELECT to_regclass('mirror.adoptions') IS NULL").fetchone() != (True,)
