"""What a memory has, in numbers."""

from __future__ import annotations

from mirror.storage.models.memory import CATEGORIES, ENTITIES, FEEDBACK, ITEMS, LESSONS, REFLECTIONS, RESOURCES
from mirror.storage.models.results import MemoryStats
from mirror.storage.operations.base import Context, reads
from mirror.storage.operations.items import visible
from mirror.storage.statements import ComparesVectors, Count, CountBy, Counts, Op, run

_TABLES = {
    "resources": RESOURCES,
    "categories": CATEGORIES,
    "entities": ENTITIES,
    "reflections": REFLECTIONS,
    "lessons": LESSONS,
    "model_feedback": FEEDBACK,
}


@reads("memory")
def get_stats(ctx: Context) -> Op[MemoryStats]:
    """The numbers of all that there is, in one snapshot."""
    by_type = CountBy(ITEMS, "memory_type", visible(ctx))
    parts = tuple((name, Count(table)) for name, table in _TABLES.items())
    found = yield from run(Counts((*parts, ("items_by_type", by_type))))
    vectors = yield from run(ComparesVectors())
    return MemoryStats(**found, items=sum(found["items_by_type"].values()), vec_available=vectors)
