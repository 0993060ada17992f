"""Resources and memory items.

Beyond the original store: a time to live (``ttl`` seconds; expired items are hidden from every read), filters
(:mod:`mirror.storage.filters`), batches, and the history of an item. What SQLite's table has no column for is in
``extra``: ``expiresAt``, ``visibility`` and ``history``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Literal, get_args

from mirror.core.errors import ConfigError
from mirror.storage.arguments import Name
from mirror.storage.filters import condition
from mirror.storage.jsontext import as_read
from mirror.storage.models.memory import (
    CATEGORY_ITEMS,
    ENTITIES,
    ITEM_ENTITIES,
    ITEMS,
    RESOURCES,
    MemoryItem,
    Resource,
)
from mirror.storage.operations.base import (
    Context,
    at_least,
    content_hash,
    embedding_of,
    iso,
    named,
    no_such,
    one_of,
    reads,
    refuse,
    without,
    writes,
)
from mirror.storage.statements import (
    Add,
    Condition,
    Count,
    CountOf,
    Delete,
    Insert,
    Linked,
    Not,
    OneOf,
    Op,
    Select,
    Unexpired,
    Update,
    eq,
    every,
    first,
    run,
)
from mirror.storage.tables import NoObject, Time, misfit_of_json
from mirror.storage.times import NEEDED, utc

Significance = Literal["routine", "noteworthy", "important", "core"]
Visibility = Literal["private", "team", "family", "public"]

#: Members of ``extra`` that this interface keeps there.
EXPIRES_AT, VISIBILITY, HISTORY = "expiresAt", "visibility", "history"
#: Seconds that an item may live at most: a thousand years. Without a limit it lives for ever.
MOST_TTL = 1000 * 365.25 * 86400
#: Changes that an item's history has at most: the newest.
MOST_HISTORY = 20


def visible(ctx: Context, *conditions: Condition | None) -> Condition:
    """The conditions, of items whose time to live has not ended."""
    return every(*conditions, Unexpired(ctx.stamp()))


# -- resources -----------------------------------------------------------------------------------------


@writes("memory")
def create_resource(
    ctx: Context,
    url: str,
    modality: str = "text",
    local_path: str | None = None,
    caption: str | None = None,
    text: str | None = None,
) -> Op[Resource]:
    """Keep a resource. ``text`` is its caption, if it has none."""
    now = ctx.stamp()
    made = Resource(ctx.new_id(), url, modality, local_path, caption or text or None, None, now, now)
    yield from run(Insert(RESOURCES, without(made, "embedding")))
    return made


@reads("memory")
def get_resource(ctx: Context, resource_id: str) -> Op[Resource | None]:
    """A resource; None if there is none with this id."""
    return first((yield from run(Select(RESOURCES, eq("id", resource_id)))))


@reads("memory")
def list_resources(ctx: Context, limit: int = 50, offset: int = 0) -> Op[list[Resource]]:
    """Resources, the newest first."""
    return (yield from run(Select(RESOURCES, order=("-created_at",), limit=limit, offset=offset)))


@writes("memory")
def update_resource_embedding(ctx: Context, resource_id: str, embedding: Iterable[float]) -> Op[bool]:
    """Set a resource's embedding; False if there is no such resource."""
    values = {"embedding": embedding_of(embedding), "updated_at": ctx.stamp()}
    return (yield from run(Update(RESOURCES, values, eq("id", resource_id)))) > 0


@writes("memory", many=True)
def delete_resource(ctx: Context, resource_id: str) -> Op[bool]:
    """Delete a resource; its items stay, without it. False if there is no such resource."""
    yield from run(Update(ITEMS, {"resource_id": None}, eq("resource_id", resource_id)))
    return (yield from run(Delete(RESOURCES, eq("id", resource_id)))) > 0


# -- items ---------------------------------------------------------------------------------------------


@writes("memory")
def create_item(
    ctx: Context,
    memory_type: Name,
    summary: str,
    resource_id: str | None = None,
    happened_at: Time | None = None,
    extra: Mapping[str, Any] | None = None,
    emotional_valence: float = 0.0,
    emotional_arousal: float = 0.0,
    mood_at_capture: str | None = None,
    significance: Significance = "routine",
    reflection: str | None = None,
    lesson: str | None = None,
    agent_id: str | None = None,
    visibility: Visibility | None = None,
    ttl: float | None = None,
) -> Op[MemoryItem]:
    """Remember something.

    ``ttl``: seconds after which it is hidden. ``visibility``: which other agents may read it, in Postgres.
    """
    ctx.require_agent(agent_id)
    item = _new_item(ctx, {
        "memory_type": memory_type, "summary": summary, "resource_id": resource_id, "happened_at": happened_at,
        "extra": _extra(ctx, extra, visibility, ttl), "emotional_valence": emotional_valence,
        "emotional_arousal": emotional_arousal, "mood_at_capture": mood_at_capture, "significance": significance,
        "reflection": reflection, "lesson": lesson,
    })  # fmt: skip
    yield from run(_insertion(item))
    return item


@writes("memory", many=True)
def create_items(ctx: Context, items: Sequence[Mapping[str, Any]]) -> Op[list[MemoryItem]]:
    """Remember several things in one transaction. Each: the arguments of ``create_item``, and maybe ``embedding``."""
    made = []
    for arguments in items:
        given = dict(arguments)
        ctx.require_agent(given.pop("agent_id", None))
        given["extra"] = _extra(ctx, given.get("extra"), given.pop("visibility", None), given.pop("ttl", None))
        made.append(_new_item(ctx, given))
    for insert in [_insertion(item) for item in made]:  # all are checked before the first is written
        yield from run(insert)
    return made


def _new_item(ctx: Context, given: Mapping[str, Any]) -> MemoryItem:
    now = ctx.stamp()
    values = {
        "resource_id": None, "happened_at": None, "extra": {}, "emotional_valence": 0.0, "emotional_arousal": 0.0,
        "mood_at_capture": None, "significance": "routine", "reflection": None, "lesson": None, "embedding": None,
    } | dict(given)  # fmt: skip
    unknown = set(values) - set(ITEMS.by_name)
    if unknown or not {"memory_type", "summary"} <= set(values):
        detail = f"unknown: {', '.join(sorted(unknown))}" if unknown else "memory_type and summary are needed"
        raise ConfigError("create a memory item", detail=detail, next_step="give the arguments of create_item")
    operation = "create a memory item"
    one_of(operation, values["significance"], get_args(Significance))
    named(operation, values["memory_type"])
    if values["embedding"] is not None:
        values["embedding"] = embedding_of(values["embedding"])
    ITEMS.check("summary", values["summary"])
    own = {
        "id": ctx.new_id(), "content_hash": content_hash(values["summary"]), "reinforcement_count": 1,
        "last_reinforced_at": now, "created_at": now, "updated_at": now,
    }  # fmt: skip
    return MemoryItem(**(values | own))


def _insertion(item: MemoryItem) -> Insert:
    return Insert(ITEMS, without(item, *(("embedding",) if item.embedding is None else ())))


def _extra(
    ctx: Context, extra: Mapping[str, Any] | None, visibility: Visibility | None, ttl: float | None
) -> dict[str, Any]:
    operation = "create a memory item"
    if extra is not None and not isinstance(extra, Mapping):
        refuse(operation, f"{extra!r:.60}", "extra needs an object")
    asked = _asked(ctx, operation, {"visibility": visibility, "ttl": ttl})
    kept = _checked(operation, dict(extra or {}) | {name: value for name, value in asked.items() if value is not None})
    made = {name: value for name, value in kept.items() if name not in (EXPIRES_AT, VISIBILITY) or value is not None}
    ITEMS.check("extra", made)
    read: dict[str, Any] = as_read(made)
    return read


def _asked(ctx: Context, operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The members of ``extra`` for ``visibility`` and ``ttl``, where they are given; None for None."""
    made: dict[str, Any] = {}
    if "visibility" in given:
        made[VISIBILITY] = given["visibility"]
    if "ttl" in given:
        ttl = given["ttl"]
        seconds = None if ttl is None else timedelta(seconds=at_least(operation, ttl, 0, MOST_TTL))
        made[EXPIRES_AT] = None if seconds is None else iso(ctx.clock() + seconds)
    return made


def _checked(operation: str, extra: dict[str, Any]) -> dict[str, Any]:
    """``extra`` as it is kept: the stores compare ``expiresAt`` as text, so it has one form. Raises ``ConfigError``."""
    if extra.get(VISIBILITY) is not None:
        one_of(operation, extra[VISIBILITY], get_args(Visibility))
    expires = extra.get(EXPIRES_AT)
    if expires is None:
        return extra
    moment = utc(expires) if isinstance(expires, str) else None
    if moment is None:
        refuse(operation, f"{EXPIRES_AT} {expires!r:.60}", f"it needs {NEEDED}")
    return extra | {EXPIRES_AT: f"{moment[:10]}T{moment[11:23]}Z"}


@reads("memory")
def get_item(ctx: Context, item_id: str) -> Op[MemoryItem | None]:
    """A memory item; None if there is none with this id, or its time to live has ended."""
    return first((yield from run(Select(ITEMS, visible(ctx, eq("id", item_id))))))


@reads("memory")
def get_items(ctx: Context, item_ids: Iterable[str]) -> Op[list[MemoryItem]]:
    """Those of the items that there are, in the order of the ids."""
    wanted = list(item_ids)
    found = yield from run(Select(ITEMS, visible(ctx, OneOf("id", tuple(dict.fromkeys(wanted))))))
    by_id = {item.id: item for item in found}
    return [by_id[item_id] for item_id in wanted if item_id in by_id]


@reads("memory")
def list_items(
    ctx: Context,
    memory_type: str | None = None,
    resource_id: str | None = None,
    significance: Significance | None = None,
    limit: int = 50,
    offset: int = 0,
    where: Mapping[str, Any] | None = None,
) -> Op[list[MemoryItem]]:
    """Items, the newest first. ``where``: a filter (:mod:`mirror.storage.filters`)."""
    wanted = visible(ctx, *_equal(memory_type=memory_type, resource_id=resource_id, significance=significance),
                     condition(ITEMS, where))  # fmt: skip
    return (yield from run(Select(ITEMS, wanted, ("-created_at",), limit, offset)))


def require_item(ctx: Context, item_id: str) -> Op[None]:
    """Raise ``ConstraintError`` if there is no such item, or its time to live has ended."""
    if not (yield from run(Count(ITEMS, visible(ctx, eq("id", item_id))))):
        raise no_such("item", item_id)


def _equal(**values: Any) -> Iterable[Condition]:
    return (eq(name, value) for name, value in values.items() if value is not None)


@reads("memory")
def count_items(ctx: Context, memory_type: str | None = None, where: Mapping[str, Any] | None = None) -> Op[int]:
    """The number of items."""
    wanted = visible(ctx, *_equal(memory_type=memory_type), condition(ITEMS, where))
    return (yield from run(Count(ITEMS, wanted)))


@reads("memory")
def find_item_by_hash(ctx: Context, content_hash: str) -> Op[MemoryItem | None]:
    """The oldest item with a content hash (:func:`~mirror.storage.operations.base.content_hash`)."""
    wanted = visible(ctx, eq("content_hash", content_hash))
    return first((yield from run(Select(ITEMS, wanted, ("created_at",), 1))))


def count_memories(entity_id: str, values: Mapping[str, Any]) -> Op[int]:
    """Bring an entity's number of memories up to date, and set some of its columns."""
    counted = CountOf(ITEM_ENTITIES, eq("entity_id", entity_id))
    return run(Update(ENTITIES, {"memory_count": counted} | dict(values), eq("id", entity_id)))


def _forget(ctx: Context, wanted: Condition, links: Condition) -> Op[int]:
    """Delete items. Their links go with them, so the entities that they were about have fewer memories.

    One by one: the tables of a mirror have no foreign keys in Postgres.
    """
    linked = yield from run(Select(ITEM_ENTITIES, links))
    yield from run(Delete(ITEM_ENTITIES, links))
    yield from run(Delete(CATEGORY_ITEMS, links))
    gone = yield from run(Delete(ITEMS, wanted))
    for entity_id in sorted({link.entity_id for link in linked}):
        yield from count_memories(entity_id, {"updated_at": ctx.stamp()})
    return gone


@writes("memory", many=True)
def delete_item(ctx: Context, item_id: str) -> Op[bool]:
    """Forget an item, with its links; False if there is no such item."""
    return (yield from _forget(ctx, eq("id", item_id), eq("item_id", item_id))) > 0


@writes("memory", many=True)
def delete_items(ctx: Context, item_ids: Iterable[str]) -> Op[int]:
    """Forget several items in one transaction; returns how many there were."""
    ids = tuple(dict.fromkeys(item_ids))
    return (yield from _forget(ctx, OneOf("id", ids), OneOf("item_id", ids)))


@writes("memory")
def update_item_embedding(ctx: Context, item_id: str, embedding: Iterable[float]) -> Op[bool]:
    """Set an item's embedding; False if there is no such item."""
    values = {"embedding": embedding_of(embedding), "updated_at": ctx.stamp()}
    return (yield from run(Update(ITEMS, values, visible(ctx, eq("id", item_id))))) > 0


@writes("memory", many=True)
def update_item_embeddings(ctx: Context, embeddings: Mapping[str, Iterable[float]]) -> Op[int]:
    """Set the embeddings of several items, by id, in one transaction; returns how many there were."""
    now, found = ctx.stamp(), 0
    for item_id, embedding in embeddings.items():
        values = {"embedding": embedding_of(embedding), "updated_at": now}
        found += yield from run(Update(ITEMS, values, visible(ctx, eq("id", item_id))))
    return found


@writes("memory", many=True)
def reinforce_item(ctx: Context, item_id: str) -> Op[MemoryItem | None]:
    """Count one more confirmation of an item; None if there is no such item."""
    now = ctx.stamp()
    values = {"reinforcement_count": Add(1), "last_reinforced_at": now, "updated_at": now}
    wanted = visible(ctx, eq("id", item_id))
    if not (yield from run(Update(ITEMS, values, wanted))):
        return None
    return first((yield from run(Select(ITEMS, wanted))))


@writes("memory", many=True)
def update_item_summary(ctx: Context, item_id: str, summary: str) -> Op[MemoryItem | None]:
    """Set what an item says; None if there is no such item."""
    return (yield from _change(ctx, item_id, {"summary": summary, "content_hash": content_hash(summary)}))


@writes("memory", many=True)
def update_item_significance(ctx: Context, item_id: str, significance: Significance) -> Op[MemoryItem | None]:
    """Set how much an item matters; None if there is no such item."""
    return (yield from _change(ctx, item_id, {"significance": significance}))


@writes("memory", many=True)
def update_item_emotion(ctx: Context, item_id: str, valence: float, arousal: float) -> Op[MemoryItem | None]:
    """Set an item's emotion; None if there is no such item."""
    return (yield from _change(ctx, item_id, {"emotional_valence": valence, "emotional_arousal": arousal}))


@writes("memory", many=True)
def update_item_reflection(
    ctx: Context, item_id: str, reflection: str, lesson: str | None = None
) -> Op[MemoryItem | None]:
    """Set what an item means, and the lesson of it unless that is None; None if there is no such item."""
    lessons = {} if lesson is None else {"lesson": lesson}
    return (yield from _change(ctx, item_id, {"reflection": reflection} | lessons))


@writes("memory", many=True)
def update_item(ctx: Context, item_id: str, fields: Mapping[str, Any]) -> Op[MemoryItem | None]:
    """Set some of an item's columns (not its id or times); None if there is no such item.

    ``extra`` is replaced as a whole, but for what this interface keeps there: ``expiresAt``, ``visibility`` and
    ``history`` stay, unless they are named; None as their value takes them away. So do ``ttl`` and ``visibility`` as
    ``create_item`` has them, which are no columns.
    """
    operation = "update a memory item"
    fixed = {"id", "created_at", "updated_at", "content_hash", "reinforcement_count", "last_reinforced_at"}
    if wrong := set(fields) - (set(ITEMS.by_name) - fixed) - {"ttl", "visibility"}:
        detail = f"not to be set: {', '.join(sorted(wrong))}"
        raise ConfigError(operation, item_id, detail, next_step="name columns of a memory item")
    values = {name: value for name, value in fields.items() if name not in ("ttl", "visibility")}
    if isinstance(values.get("extra"), Mapping):
        values["extra"] = _checked(operation, dict(values["extra"]))
    if "summary" in values:
        ITEMS.check("summary", values["summary"])
        values["content_hash"] = content_hash(values["summary"])
    if "significance" in values:
        one_of(operation, values["significance"], get_args(Significance))
    if "memory_type" in values:
        named(operation, values["memory_type"])
    if values.get("embedding") is not None:
        values["embedding"] = embedding_of(values["embedding"])
    return (yield from _change(ctx, item_id, values, _checked(operation, _asked(ctx, operation, fields))))


def _change(
    ctx: Context, item_id: str, values: Mapping[str, Any], asked: Mapping[str, Any] = MappingProxyType({})
) -> Op[MemoryItem | None]:
    """Set columns, and note in the item's history what they were. ``asked``: members of ``extra`` that are set, too."""
    for name, value in values.items():
        ITEMS.check(name, value)
    item: MemoryItem | None = first((yield from run(Select(ITEMS, visible(ctx, eq("id", item_id))))))
    if item is None:
        return None
    now = ctx.stamp()
    if "extra" not in values and not asked and (isinstance(item.extra, NoObject) or misfit_of_json(item.extra)):
        # Another program's, and nothing to put into it, or what not every store can hold: it stays as it is.
        yield from run(Update(ITEMS, dict(values) | {"updated_at": now}, eq("id", item_id)))
        return first((yield from run(Select(ITEMS, eq("id", item_id)))))
    before = {name: getattr(item, name) for name in values if name not in ("content_hash", "embedding", "extra")}
    extra = dict(values.get("extra", item.extra)) | dict(asked)
    for name in (EXPIRES_AT, VISIBILITY, HISTORY):
        if name not in extra and name in item.extra:
            extra[name] = item.extra[name]
        elif extra.get(name, "") is None:
            del extra[name]
    if before and not misfit_of_json(before):
        entries = extra.get(HISTORY)
        kept = entries if isinstance(entries, list) else []
        extra[HISTORY] = [*kept, {"at": now, "before": before}][-MOST_HISTORY:]
    yield from run(Update(ITEMS, dict(values) | {"extra": extra, "updated_at": now}, eq("id", item_id)))
    return first((yield from run(Select(ITEMS, eq("id", item_id)))))


@reads("memory")
def get_item_history(ctx: Context, item_id: str) -> Op[list[dict[str, Any]]]:
    """What an item's columns were before each change made through this interface, the oldest first.

    Each entry: ``at`` (the time of the change) and ``before`` (the former values, by column); the newest
    :data:`MOST_HISTORY` are kept.
    """
    item: MemoryItem | None = first((yield from run(Select(ITEMS, visible(ctx, eq("id", item_id))))))
    entries = item.extra.get(HISTORY) if item is not None else None
    return list(entries) if isinstance(entries, list) else []


@writes("memory", many=True)
def delete_expired_items(ctx: Context) -> Op[int]:
    """Delete the items whose time to live has ended; returns how many there were."""
    expired = Not(Unexpired(ctx.stamp()))
    return (yield from _forget(ctx, expired, Linked("item_id", ITEMS, "id", expired)))
