"""Entities: people, places, organisations and projects, and which memories are about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mirror.storage.models.memory import ENTITIES, ITEM_ENTITIES, ITEMS, Entity, MemoryItem
from mirror.storage.models.results import EntityResult
from mirror.storage.operations.base import (
    Context,
    at_least,
    embedding_of,
    is_blank,
    named,
    no_such,
    reads,
    settable,
    texts,
    without,
    writes,
)
from mirror.storage.operations.items import count_memories, require_item, visible
from mirror.storage.statements import (
    Along,
    Any_,
    Compare,
    Contains,
    Count,
    Delete,
    Insert,
    Linked,
    Near,
    Op,
    Pairs,
    SameName,
    Select,
    Update,
    eq,
    every,
    first,
    run,
)

#: The bond strengths of the entities that an item is about.
BONDS = Along(ITEM_ENTITIES, "item_id", "entity_id", ENTITIES, "bond_strength")
_SETTABLE = ("relationship", "bond_strength", "emotional_texture", "profile_summary", "entity_type")
_SEARCHED = ("name", "relationship", "profile_summary")


def _new(
    ctx: Context,
    name: str,
    entity_type: str,
    relationship: str | None,
    bond_strength: float,
    emotional_texture: str | None,
) -> Entity:
    now = ctx.stamp()
    return Entity(
        ctx.new_id(), named("create an entity", name), entity_type, relationship, bond_strength, emotional_texture,
        None, now, now, 0, None, now, now,
    )  # fmt: skip


def _insert(entity: Entity, *, ignore: bool = False) -> Op[int]:
    return run(Insert(ENTITIES, without(entity, "profile_summary", "embedding"), ignore))


@writes("memory")
def create_entity(
    ctx: Context,
    name: str,
    entity_type: str = "person",
    relationship: str | None = None,
    bond_strength: float = 0.5,
    emotional_texture: str | None = None,
    agent_id: str | None = None,
) -> Op[Entity]:
    """Make an entity. Raises ``ConstraintError`` if there is one with exactly this name."""
    ctx.require_agent(agent_id)
    made = _new(ctx, name, entity_type, relationship, bond_strength, emotional_texture)
    yield from _insert(made)
    return made


@reads("memory")
def get_entity(ctx: Context, entity_id: str) -> Op[Entity | None]:
    """An entity; None if there is none with this id."""
    return first((yield from run(Select(ENTITIES, eq("id", entity_id)))))


def _by_name(name: str) -> Op[Entity | None]:
    found = yield from run(Select(ENTITIES, SameName("name", name), ("created_at",)))
    return first([entity for entity in found if entity.name == name] or found)


@reads("memory")
def find_entity_by_name(ctx: Context, name: str) -> Op[Entity | None]:
    """The entity with this name, without regard to the case of ASCII letters; None if there is none.

    Of several, the one with exactly this name, or the oldest.
    """
    return (yield from _by_name(name))


@writes("memory", many=True)
def get_or_create_entity(
    ctx: Context,
    name: str,
    entity_type: str = "person",
    relationship: str | None = None,
    bond_strength: float = 0.5,
    emotional_texture: str | None = None,
    agent_id: str | None = None,
) -> Op[Entity]:
    """The entity that ``find_entity_by_name`` finds, made if there is none: once, however many ask for it at a time."""
    ctx.require_agent(agent_id)
    made = _new(ctx, name, entity_type, relationship, bond_strength, emotional_texture)
    found = yield from _by_name(name)
    if found is not None:
        return found
    if (yield from _insert(made, ignore=True)):
        return made
    other = yield from _by_name(name)
    return other or made


@reads("memory")
def list_entities(
    ctx: Context, entity_type: str | None = None, min_bond_strength: float | None = None, limit: int | None = None
) -> Op[list[Entity]]:
    """Entities, those with the strongest bonds first, then those with most memories."""
    wanted = every(
        None if entity_type is None else eq("entity_type", entity_type),
        None
        if min_bond_strength is None
        else Compare("bond_strength", "gte", at_least("list entities", min_bond_strength, -1e308)),
    )
    return (yield from run(Select(ENTITIES, wanted, ("-bond_strength", "-memory_count"), limit)))


@writes("memory", many=True)
def update_entity(ctx: Context, entity_id: str, fields: Mapping[str, Any]) -> Op[Entity | None]:
    """Set some of relationship, bond_strength, emotional_texture, profile_summary and entity_type.

    None if there is no such entity. Without fields, nothing is changed.
    """
    values = settable("update an entity", fields, _SETTABLE)
    if values:
        yield from run(Update(ENTITIES, values | {"updated_at": ctx.stamp()}, eq("id", entity_id)))
    return first((yield from run(Select(ENTITIES, eq("id", entity_id)))))


@writes("memory")
def update_entity_embedding(ctx: Context, entity_id: str, embedding: Iterable[float]) -> Op[bool]:
    """Set an entity's embedding; False if there is no such entity."""
    values = {"embedding": embedding_of(embedding), "updated_at": ctx.stamp()}
    return (yield from run(Update(ENTITIES, values, eq("id", entity_id)))) > 0


@writes("memory", many=True)
def delete_entity(ctx: Context, entity_id: str) -> Op[bool]:
    """Delete an entity; its items stay. False if there is no such entity."""
    yield from run(Delete(ITEM_ENTITIES, eq("entity_id", entity_id)))
    return (yield from run(Delete(ENTITIES, eq("id", entity_id)))) > 0


@reads("memory")
def get_entity_items(ctx: Context, entity_id: str, limit: int = 100) -> Op[list[MemoryItem]]:
    """The items about an entity, the newest first."""
    wanted = visible(ctx, Linked("id", ITEM_ENTITIES, "item_id", eq("entity_id", entity_id)))
    return (yield from run(Select(ITEMS, wanted, ("-created_at",), limit)))


@reads("memory")
def get_item_entities(ctx: Context, item_id: str) -> Op[list[Entity]]:
    """The entities that an item is about, those with the strongest bonds first."""
    item = Linked("item_id", ITEMS, "id", visible(ctx, eq("id", item_id)))
    return (yield from run(Select(ENTITIES, Linked("id", ITEM_ENTITIES, "entity_id", item), ("-bond_strength",))))


@writes("memory", many=True)
def link_item_to_entity(ctx: Context, item_id: str, entity_id: str, role: str | None = "mentioned") -> Op[bool]:
    """Note that an item is about an entity, which was mentioned now; False if that was noted before, with its role.

    Raises ``ConstraintError`` if there is no such item or entity.
    """
    yield from require_item(ctx, item_id)
    if not (yield from run(Count(ENTITIES, eq("id", entity_id)))):
        raise no_such("entity", entity_id)
    now = ctx.stamp()
    made = yield from run(Insert(ITEM_ENTITIES, {"item_id": item_id, "entity_id": entity_id, "role": role}, True))
    yield from count_memories(entity_id, {"last_mentioned_at": now, "updated_at": now})
    return made > 0


@writes("memory", many=True)
def unlink_item_from_entity(ctx: Context, item_id: str, entity_id: str) -> Op[bool]:
    """Take back that an item is about an entity; False if it was not."""
    gone = yield from run(Delete(ITEM_ENTITIES, every(eq("item_id", item_id), eq("entity_id", entity_id))))
    if gone:
        yield from count_memories(entity_id, {"updated_at": ctx.stamp()})
    return gone > 0


@reads("memory")
def get_item_entity_bond_map(ctx: Context, item_ids: Iterable[str]) -> Op[dict[str, tuple[float, ...]]]:
    """The bond strengths of the entities that each item is about, weakest first; items about none are left out."""
    found: dict[str, tuple[float, ...]] = {}
    for item_id, bond in (yield from run(Pairs(BONDS, texts("read bonds", item_ids)))):
        found[item_id] = (*found.get(item_id, ()), bond)
    return found


@reads("memory")
def search_entities_by_keyword(ctx: Context, query: str, limit: int = 10) -> Op[list[Entity]]:
    """Entities that have the query as a part of their name, relationship or profile, those with strong bonds first.

    Without regard to the case of ASCII letters; a query of spaces finds none.
    """
    wanted = Any_(() if is_blank(query) else tuple(Contains(name, query) for name in _SEARCHED))
    return (yield from run(Select(ENTITIES, wanted, ("-bond_strength",), limit)))


@reads("memory")
def search_entities_by_vector(ctx: Context, embedding: Iterable[float], limit: int = 10) -> Op[list[EntityResult]]:
    """Entities with the most similar embeddings, the best first."""
    found = yield from run(Near(ENTITIES, embedding_of(embedding), limit))
    return [EntityResult(row, score) for row, score, *_ in found]
