"""Categories of memories, and which memories are in them."""

from __future__ import annotations

from collections.abc import Iterable

from mirror.storage.models.memory import CATEGORIES, CATEGORY_ITEMS, ITEMS, Category, MemoryItem
from mirror.storage.models.results import CategoryResult
from mirror.storage.operations.base import Context, embedding_of, named, no_such, reads, without, writes
from mirror.storage.operations.items import require_item, visible
from mirror.storage.statements import (
    Count,
    Delete,
    Insert,
    Linked,
    Near,
    Op,
    Select,
    Update,
    Words,
    eq,
    every,
    first,
    run,
)

_BY_QUERY = 20


def _new(ctx: Context, name: str, description: str | None) -> Category:
    now = ctx.stamp()
    return Category(ctx.new_id(), named("create a category", name), description, None, None, now, now)


def _insert(category: Category, *, ignore: bool = False) -> Op[int]:
    return run(Insert(CATEGORIES, without(category, "embedding", "summary"), ignore))


@writes("memory")
def create_category(ctx: Context, name: str, description: str | None = None) -> Op[Category]:
    """Make a category. Raises ``ConstraintError`` if there is one with this name."""
    made = _new(ctx, name, description)
    yield from _insert(made)
    return made


@reads("memory")
def get_category(ctx: Context, category_id: str) -> Op[Category | None]:
    """A category; None if there is none with this id."""
    return first((yield from run(Select(CATEGORIES, eq("id", category_id)))))


@reads("memory")
def get_category_by_name(ctx: Context, name: str) -> Op[Category | None]:
    """The category with exactly this name; None if there is none."""
    return first((yield from run(Select(CATEGORIES, eq("name", name)))))


@writes("memory", many=True)
def get_or_create_category(ctx: Context, name: str, description: str | None = None) -> Op[Category]:
    """The category with exactly this name, made if there is none: once, however many ask for it at a time."""
    by_name = Select(CATEGORIES, eq("name", named("create a category", name)))
    found: Category | None = first((yield from run(by_name)))
    if found is not None:
        return found
    made = _new(ctx, name, description)
    if (yield from _insert(made, ignore=True)):
        return made
    [other] = yield from run(by_name)
    return other  # type: ignore[no-any-return]  # rows of its table


@reads("memory")
def list_categories(ctx: Context, query: str | None = None, limit: int | None = None) -> Op[list[Category]]:
    """Categories by name; with a query: those that have any of its words, the best first (20, without a limit)."""
    if query:
        found = yield from run(Words(CATEGORIES, query, _BY_QUERY if limit is None else limit))
        return [row for row, *_ in found]
    return (yield from run(Select(CATEGORIES, order=("name",), limit=limit)))


@reads("memory")
def get_category_items(ctx: Context, category_id: str, limit: int = 100) -> Op[list[MemoryItem]]:
    """The items in a category, the newest first."""
    wanted = visible(ctx, Linked("id", CATEGORY_ITEMS, "item_id", eq("category_id", category_id)))
    return (yield from run(Select(ITEMS, wanted, ("-created_at",), limit)))


@reads("memory")
def get_category_item_count(ctx: Context, category_id: str) -> Op[int]:
    """The number of items in a category."""
    wanted = visible(ctx, Linked("id", CATEGORY_ITEMS, "item_id", eq("category_id", category_id)))
    return (yield from run(Count(ITEMS, wanted)))


@reads("memory")
def get_item_categories(ctx: Context, item_id: str) -> Op[list[Category]]:
    """The categories of an item, by name."""
    item = Linked("item_id", ITEMS, "id", visible(ctx, eq("id", item_id)))
    return (yield from run(Select(CATEGORIES, Linked("id", CATEGORY_ITEMS, "category_id", item), ("name",))))


@writes("memory", many=True)
def link_item_to_category(ctx: Context, item_id: str, category_id: str) -> Op[bool]:
    """Put an item in a category; False if it is there already.

    Raises ``ConstraintError`` if there is no such item or category.
    """
    yield from require_item(ctx, item_id)
    if not (yield from run(Count(CATEGORIES, eq("id", category_id)))):
        raise no_such("category", category_id)
    return (yield from run(Insert(CATEGORY_ITEMS, {"item_id": item_id, "category_id": category_id}, True))) > 0


@writes("memory")
def unlink_item_from_category(ctx: Context, item_id: str, category_id: str) -> Op[bool]:
    """Take an item out of a category; False if it was not there."""
    return (yield from run(Delete(CATEGORY_ITEMS, every(eq("item_id", item_id), eq("category_id", category_id))))) > 0


@writes("memory", many=True)
def update_category_name(ctx: Context, category_id: str, name: str) -> Op[Category | None]:
    """Rename a category; None if there is none with this id. Raises ``ConstraintError`` if another has the name."""
    values = {"name": named("rename a category", name), "updated_at": ctx.stamp()}
    yield from run(Update(CATEGORIES, values, eq("id", category_id)))
    return first((yield from run(Select(CATEGORIES, eq("id", category_id)))))


@writes("memory")
def update_category_summary(ctx: Context, category_id: str, summary: str) -> Op[bool]:
    """Set what the memories in a category say together; False if there is no such category."""
    values = {"summary": summary, "updated_at": ctx.stamp()}
    return (yield from run(Update(CATEGORIES, values, eq("id", category_id)))) > 0


@writes("memory")
def update_category_embedding(ctx: Context, category_id: str, embedding: Iterable[float]) -> Op[bool]:
    """Set a category's embedding; False if there is no such category."""
    values = {"embedding": embedding_of(embedding), "updated_at": ctx.stamp()}
    return (yield from run(Update(CATEGORIES, values, eq("id", category_id)))) > 0


@writes("memory", many=True)
def delete_category(ctx: Context, category_id: str) -> Op[bool]:
    """Delete a category; its items stay. False if there is no such category."""
    yield from run(Delete(CATEGORY_ITEMS, eq("category_id", category_id)))
    return (yield from run(Delete(CATEGORIES, eq("id", category_id)))) > 0


@reads("memory")
def search_categories_by_keyword(ctx: Context, query: str, limit: int = 10) -> Op[list[Category]]:
    """Categories that have any of the words of a query, the best first."""
    found = yield from run(Words(CATEGORIES, query, limit))
    return [row for row, *_ in found]


@reads("memory")
def search_categories_by_vector(ctx: Context, embedding: Iterable[float], limit: int = 10) -> Op[list[CategoryResult]]:
    """Categories with the most similar embeddings, the best first."""
    found = yield from run(Near(CATEGORIES, embedding_of(embedding), limit))
    return [CategoryResult(row, score) for row, score, *_ in found]
