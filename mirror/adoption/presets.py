"""What is known of well-known programs: found by the tables in which they record their migrations.

Such records are kept as they are on both sides, because each store has migrations of its own; where both sides must
have had the same ones, they are compared. A preset says what the values mean that the tables do not tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from mirror.adoption import synapse
from mirror.core.adopted import Unit
from mirror.core.free_sequences import FreeSequences
from mirror.core.rules import folded


@dataclass(frozen=True, slots=True)
class Bookkeeping:
    """A table of both sides in which the same rows mean the same migrations."""

    table: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preset:
    """What is known of one program."""

    name: str
    marks: tuple[str, ...]
    """It is found where either side has all of these tables."""
    kept: tuple[str, ...]
    """Patterns of tables that each side keeps its own rows of."""
    excluded: tuple[str, ...] = ()
    compared: Bookkeeping | None = None
    """None: the two stores' records cannot be compared."""
    zone: str = "UTC"
    interval: Unit = ""
    """How an interval is written; empty: found by the values."""
    epoch: Unit = ""
    """What numbers are that are times; empty: found by the values."""
    real_digits: int = 17
    rounded: tuple[tuple[str, str], ...] = ()
    """Tables and columns of integers in which it has Postgres round what SQLite keeps with a fraction."""
    hint: str = ""
    """What only its users know."""
    sequences: FreeSequences = field(default_factory=dict)
    """Of the sequences that no column has: where their numbers are."""
    made_of: Mapping[str, str] = field(default_factory=dict)
    """By table of full-text search, which is not mirrored: of what Postgres' table of that name is made."""
    unfinished: Bookkeeping | None = None
    """What the program has to do yet to its rows: each side does so for itself, and Postgres' side has done it to
    none. So there must be no rows of it in the source."""


PRESETS: tuple[Preset, ...] = (
    Preset(
        "django",
        ("django_migrations",),
        kept=("django_migrations",),
        compared=Bookkeeping("django_migrations", ("app", "name")),
        interval="us",
        real_digits=15,  # DecimalField rounds what SQLite has to so many before a program sees it
        hint="times are taken as UTC, as Django writes them with USE_TZ = True; with USE_TZ = False, say its TIME_ZONE"
        " with --naive-zone",
    ),
    Preset(
        "alembic",
        ("alembic_version",),
        kept=("alembic_version",),
        compared=Bookkeeping("alembic_version", ("version_num",)),
        interval="datetime",
        hint="times without an offset are taken as UTC: SQLAlchemy leaves the offset out when it writes to SQLite; of a"
        " Numeric SQLite has a double, and its shortest decimal is taken, without the digits past the 17th that"
        " SQLAlchemy shows",
    ),
    Preset(
        "prisma",
        ("_prisma_migrations",),
        kept=("_prisma_migrations",),
        compared=Bookkeeping("_prisma_migrations", ("migration_name",)),
        epoch="ms",
    ),
    Preset(
        "knex",
        ("knex_migrations",),
        kept=("knex_migrations*",),
        compared=Bookkeeping("knex_migrations", ("name",)),
        epoch="ms",
    ),
    Preset(
        "rails",
        ("schema_migrations", "ar_internal_metadata"),
        kept=("schema_migrations", "ar_internal_metadata"),
        compared=Bookkeeping("schema_migrations", ("version",)),
    ),
    Preset("drizzle", ("__drizzle_migrations",), kept=("__drizzle_migrations",)),
    Preset(
        "synapse",
        ("schema_version", "applied_schema_deltas"),
        kept=(
            "schema_version",
            "schema_compat_version",
            "applied_schema_deltas",
            "applied_module_schemas",
            "background_updates",
        ),
        # The deltas of the two stores have other names.
        compared=Bookkeeping("schema_version", ("version",)),
        epoch="ms",
        hint=synapse.HINT,
        sequences=synapse.SEQUENCES,
        made_of=synapse.MADE_OF,
        unfinished=Bookkeeping("background_updates", ("update_name",)),
    ),
    Preset(
        "langgraph-store",
        ("store_migrations",),
        kept=("store_migrations", "vector_migrations"),
        # SqliteStore has REAL, PostgresStore INT and lets Postgres round, half to even.
        rounded=(("store", "ttl_minutes"),),
        hint="SqliteStore leaves the vectors of deleted and expired items in store_vectors, unless its connection has"
        " PRAGMA foreign_keys = ON; where there are such orphans: give it, and once DELETE FROM store_vectors WHERE NOT"
        " EXISTS (SELECT 1 FROM store s WHERE s.prefix = store_vectors.prefix AND s.key = store_vectors.key); it embeds"
        " whole items, as the field $, where its index has fields and not text_fields: to search by other fields in"
        " Postgres, put the items again after the move, and delete the vectors of $",
    ),
)
#: No preset that mirrors: LangGraph's checkpointers have another model of data in Postgres, and are copied once
#: (:mod:`.checkpoints`). Their tables in SQLite, each with columns that tell them.
COPIED = "langgraph-checkpoints"
CHECKPOINTS = {
    "checkpoints": {"thread_id", "checkpoint_ns", "checkpoint_id", "checkpoint"},
    "writes": {"thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx", "channel"},
}


def find_presets(source: Iterable[str], postgres: Iterable[str]) -> list[Preset]:
    """Those that are found by the names of the tables on either side, in the order of :data:`PRESETS`."""
    sides = [{folded(name) for name in side} for side in (source, postgres)]
    return [preset for preset in PRESETS if any(set(preset.marks) <= side for side in sides)]


def named(name: str) -> Preset | None:
    """The preset of a name."""
    return next((preset for preset in PRESETS if preset.name == name), None)


def are_checkpoints(tables: Mapping[str, Collection[str]]) -> bool:
    """Whether tables of a source, each with its columns, are those of LangGraph's checkpointers: no cast makes them
    those of Postgres."""
    return all(columns <= set(tables.get(name, ())) for name, columns in CHECKPOINTS.items())
