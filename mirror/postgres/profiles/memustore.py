"""The MemuStore (``memory.db``) and its dashboard (``dashboard.db``), stored as ``sql/profiles/memustore`` declares.

A table that is listed here goes to the curated table of its name; a column of it that is not listed (of a later
version of the store), and any other table, is mapped by the generic mapping. Columns that an older store lacks have
their defaults.

A MemuStore is known by the schema version in its ``memu_meta``, a dashboard by its three tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Literal

from mirror.core.errors import ConfigError
from mirror.core.tables import ColumnMapping, ColumnType, Constraint, Table, TableMapping
from mirror.core.values import Row
from mirror.postgres.profiles import generic

#: The table with the version of the store.
META = "memu_meta"
_VERSION_KEY = "schema_version"
_DASHBOARD = {
    "tasks": {"id", "title", "status", "created_at"},
    "teams": {"id", "name", "lead_session_key"},
    "team_members": {"team_id", "session_key"},
}

#: Virtual tables that the store fills from its other tables: their words and vectors are in columns of curated ones.
DERIVED = frozenset({"tasks_fts", "vec_memory_items", "vec_entities", "vec_categories"})

#: Columns of curated tables that the source does not have; a later store's column of that name gets ``_`` appended.
_NATIVE = frozenset({"visibility", "readers", "family", "search", "_original"})

#: By kind: Postgres type and codec.
_KINDS = {
    "text": ("text", "strict"),
    "integer": ("bigint", "strict"),
    "real": ("double precision", "strict"),
    "flag": ("boolean", "strict"),
    "time": ("timestamp with time zone", "time"),
    "millis": ("timestamp with time zone", "millis"),
    "json": ("jsonb", "json"),
    "vector": ("vector", "vector"),
}


class _Curated:
    """One curated table: its key, and its columns by source name."""

    def __init__(self, key: str, **columns: str) -> None:
        """``key``: column names in key order; ``columns``: by kind, names; all separated by spaces."""
        self.key = tuple(key.split())
        self.columns = {name: _KINDS[kind] for kind, names in columns.items() for name in names.split()}


TABLES: dict[str, _Curated] = {
    "resources": _Curated(
        "id",
        text="id url modality local_path caption",
        vector="embedding",
        time="created_at updated_at",
    ),
    "memory_items": _Curated(
        "id",
        text="id resource_id memory_type summary content_hash mood_at_capture significance reflection lesson",
        vector="embedding",
        integer="reinforcement_count",
        real="emotional_valence emotional_arousal",
        json="extra",
        time="happened_at last_reinforced_at created_at updated_at",
    ),
    "memory_categories": _Curated(
        "id",
        text="id name description summary",
        vector="embedding",
        time="created_at updated_at",
    ),
    "category_items": _Curated("item_id category_id", text="item_id category_id"),
    "entities": _Curated(
        "id",
        text="id name entity_type relationship emotional_texture profile_summary",
        real="bond_strength",
        integer="memory_count",
        vector="embedding",
        time="first_mentioned_at last_mentioned_at created_at updated_at",
    ),
    "item_entities": _Curated("item_id entity_id", text="item_id entity_id role"),
    "reflections": _Curated(
        "id",
        text="id trigger_type content mood",
        json="lessons_extracted entities_involved self_insights",
        time="period_start period_end created_at",
    ),
    "lessons": _Curated(
        "id",
        text="id type context action outcome lesson correction",
        real="confidence",
        integer="occurrences",
        json="tags related_tools source_episode_ids",
        vector="embedding",
        time="last_seen created_at updated_at",
    ),
    "model_feedback": _Curated(
        "id",
        text="id provider model tier session_type error_type user_feedback session_key profile self_eval_reasoning",
        real="complexity_score self_eval_score",
        integer="duration_ms input_tokens output_tokens total_tokens tool_call_count",
        flag="success",
        time="created_at",
    ),
    "live_memory_candidates": _Curated(
        "id",
        text="id session_key message_id role candidate_type fact_text fact_hash memory_type_hint significance_hint"
        " status promoted_item_id promotion_reason",
        real="confidence",
        json="trigger_flags entities",
        time="source_ts expires_at created_at updated_at",
    ),
    "memory_promotion_events": _Curated(
        "id",
        text="id candidate_id actor action result reason error",
        time="created_at",
    ),
    "personal_skill_candidates": _Curated(
        "id",
        text="id agent_id operator_id profile_id title summary procedure_outline state scope"
        " superseded_by_candidate_id operator_notes",
        json="trigger_patterns related_tools source_memory_ids source_episode_ids source_task_ids source_lesson_ids"
        " preconditions execution_steps expected_outcomes supersedes_candidate_ids conflicts_with_candidate_ids",
        integer="evidence_count recurrence_count contradiction_count usage_count success_count failure_count",
        real="confidence strength",
        time="last_reviewed_at last_used_at created_at updated_at last_reinforced_at last_contradicted_at",
    ),
    "personal_skill_reviews": _Curated(
        "id",
        text="id candidate_id agent_id actor_type action reason",
        json="details",
        time="created_at",
    ),
    "tasks": _Curated(
        "id",
        text="id title description status priority source agent_id session_id channel_id parent_task_id assignee"
        " team_id",
        json="tags metadata depends_on",
        millis="created_at updated_at started_at completed_at due_at",
    ),
    "teams": _Curated(
        "id",
        text="id name lead_session_key status",
        json="config",
        millis="created_at updated_at",
    ),
    "team_members": _Curated(
        "team_id session_key",
        text="team_id session_key role label status",
        millis="joined_at last_active_at",
    ),
}


def _unique(name: str, table: str, columns: str) -> Constraint:
    return Constraint(table, name, tuple(columns.split()))


def _refers(name: str, table: str, column: str, referred: str, on_delete: Literal["", "cascade"] = "") -> Constraint:
    """A foreign key to the ``id`` of another table, within one agent's rows."""
    return Constraint(table, name, ("agent_id", column), referred, ("agent_id", "id"), on_delete)


_COLLECTION: tuple[str, str, Literal["cascade"]] = ("collection_id", "knowledge_collections", "cascade")
#: ``sql/profiles/memustore/constraints.sql``. Each contains ``agent_id``, so that the tables can be distributed by it.
CONSTRAINTS: tuple[Constraint, ...] = (
    _unique("memory_categories_name_key", "memory_categories", "agent_id name"),
    _unique("entities_name_key", "entities", "agent_id name"),
    _unique("live_memory_candidates_fact_key", "live_memory_candidates", "agent_id fact_hash role session_key"),
    replace(
        _refers("memory_items_resource_fkey", "memory_items", "resource_id", "resources"),
        on_delete="set null",
        set_null=("resource_id",),  # agent_id stays
    ),
    _refers("category_items_item_fkey", "category_items", "item_id", "memory_items", "cascade"),
    _refers("category_items_category_fkey", "category_items", "category_id", "memory_categories", "cascade"),
    _refers("item_entities_item_fkey", "item_entities", "item_id", "memory_items", "cascade"),
    _refers("item_entities_entity_fkey", "item_entities", "entity_id", "entities", "cascade"),
    _refers("tasks_parent_fkey", "tasks", "parent_task_id", "tasks"),
    _refers("team_members_team_fkey", "team_members", "team_id", "teams"),
    _refers("knowledge_collection_grants_collection_fkey", "knowledge_collection_grants", *_COLLECTION),
    _refers("shared_knowledge_collection_fkey", "shared_knowledge", *_COLLECTION),
)


def recognise(tables: Mapping[str, Table], rows: Callable[[Table], Iterable[Row]]) -> bool:
    """Whether a source is a MemuStore or a dashboard; ``rows`` gives all rows of one of its tables."""
    if all(name in tables and wanted <= _names(tables[name]) for name, wanted in _DASHBOARD.items()):
        return True
    meta = tables.get(META)
    if meta is None or not {"key", "value"} <= _names(meta):
        return False
    key, value = meta.position("key"), meta.position("value")
    versions = (row[value] for row in rows(meta) if row[key] == _VERSION_KEY)
    return any(str(version).isdecimal() for version in versions)


def _names(table: Table) -> set[str]:
    return {column.name for column in table.columns}


def map_table(
    table: Table,
    schema: str,
    *,
    overrides: Mapping[str, ColumnType] = generic.NO_OVERRIDES,
    rowid_key: bool = False,
    of_agent: bool = True,
) -> TableMapping:
    """Return how ``table`` is stored in the Postgres schema ``schema``, as :func:`.generic.map_table` does.

    Raises :class:`ConfigError` also if a listed table has another primary key.
    """
    mapping = generic.map_table(
        table, schema, overrides=overrides, rowid_key=rowid_key and table.name not in TABLES, of_agent=of_agent
    )
    curated = TABLES.get(table.name)
    if curated is None:
        return mapping
    if table.primary_key != curated.key:
        raise ConfigError(
            "map a table",
            table.name,
            f"its primary key is not ({', '.join(curated.key)})",
            next_step="mirror this file with --profile generic, into a schema of its own",
        )
    pairs = zip(table.columns, mapping.columns, strict=True)
    columns = tuple(_held(curated.columns.get(column.name), held) for column, held in pairs)
    return replace(mapping, columns=columns, curated=True)


def _held(kind: tuple[str, str] | None, generic_one: ColumnMapping) -> ColumnMapping:
    if kind is not None:
        return replace(generic_one, pg_type=kind[0], codec=kind[1])
    return replace(generic_one, name=f"{generic_one.name}_") if generic_one.name in _NATIVE else generic_one
