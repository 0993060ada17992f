"""Lessons: what was learned from actions and their outcomes, with a confidence that grows and decays."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from mirror.storage.models.memory import LESSONS, Lesson
from mirror.storage.operations.base import (
    Context,
    at_least,
    days_between,
    half_life,
    is_blank,
    iso,
    reads,
    some,
    texts,
    whole,
    without,
    writes,
)
from mirror.storage.places import by_rank
from mirror.storage.statements import (
    Add,
    Any_,
    Compare,
    Condition,
    Contains,
    Count,
    Delete,
    Insert,
    Op,
    Select,
    Together,
    Update,
    Words,
    eq,
    every,
    first,
    run,
)

_BEST_FIRST = ("-confidence", "-last_seen")
_REINFORCED = 0.1
#: Of relevant lessons: days in which what was learned loses one half of its weight, and what a tool in common adds.
_HALF_LIFE_DAYS, _FOR_A_TOOL = 90.0, 0.5


@writes("memory")
def create_lesson(
    ctx: Context,
    type: str,  # noqa: A002 - the column's name
    context: str,
    action: str,
    outcome: str,
    lesson: str,
    correction: str | None = None,
    confidence: float = 0.5,
    tags: Iterable[str] | None = None,
    related_tools: Iterable[str] | None = None,
    source_episode_ids: Iterable[str] | None = None,
    agent_id: str | None = None,
) -> Op[Lesson]:
    """Keep a lesson; ``type``: mistake, success, workaround or discovery."""
    ctx.require_agent(agent_id)
    now, operation = ctx.stamp(), "create a lesson"
    made = Lesson(
        ctx.new_id(), type, context, action, outcome, lesson, correction, confidence, 1, now, texts(operation, tags),
        texts(operation, related_tools), texts(operation, source_episode_ids), None, now, now,
    )  # fmt: skip
    yield from run(Insert(LESSONS, without(made, "embedding")))
    return made


@reads("memory")
def get_lesson(ctx: Context, lesson_id: str) -> Op[Lesson | None]:
    """A lesson; None if there is none with this id."""
    return first((yield from run(Select(LESSONS, eq("id", lesson_id)))))


def _of_type(type_: str | None) -> Condition:
    return every(None if type_ is None else eq("type", type_))


@reads("memory")
def list_lessons(
    ctx: Context,
    type: str | None = None,  # noqa: A002 - the column's name
    limit: int = 50,
    offset: int = 0,
) -> Op[list[Lesson]]:
    """Lessons, those with most confidence first, then those that were seen last."""
    return (yield from run(Select(LESSONS, _of_type(type), _BEST_FIRST, limit, offset)))


@reads("memory")
def count_lessons(ctx: Context, type: str | None = None) -> Op[int]:  # noqa: A002 - the column's name
    """The number of lessons."""
    return (yield from run(Count(LESSONS, _of_type(type))))


@reads("memory")
def search_lessons(ctx: Context, query: str, limit: int = 20) -> Op[list[Lesson]]:
    """Lessons that have any of the words of a query, the best first."""
    found = yield from run(Words(LESSONS, query, limit))
    return [row for row, *_ in found]


@reads("memory")
def search_lessons_by_keyword(ctx: Context, query: str, limit: int = 20) -> Op[list[Lesson]]:
    """The same as ``search_lessons``."""
    found = yield from run(Words(LESSONS, query, limit))
    return [row for row, *_ in found]


@reads("memory")
def get_lessons_by_tool(ctx: Context, tool_name: str, limit: int = 20) -> Op[list[Lesson]]:
    """Lessons about a tool with exactly this name, those with most confidence first."""
    return (yield from run(Select(LESSONS, Contains("related_tools", tool_name), _BEST_FIRST, limit)))


@reads("memory")
def get_lessons_by_tag(ctx: Context, tag: str, limit: int = 20) -> Op[list[Lesson]]:
    """Lessons with exactly this tag, those with most confidence first."""
    return (yield from run(Select(LESSONS, Contains("tags", tag), _BEST_FIRST, limit)))


@reads("memory")
def get_relevant_lessons(
    ctx: Context, tool_names: Iterable[str] | None = None, query: str | None = None, limit: int = 10
) -> Op[list[Lesson]]:
    """Lessons about any of some tools, or with any of the words of a query, the most relevant first.

    Each tool counts one half and the best match of words 1, all of it times the lesson's confidence, of which time
    since it was last seen takes one half each 90 days.
    """
    limit = whole("find lessons", limit)
    tools = some("find lessons", texts("find lessons", tool_names))
    parts: list[Select | Words] = []
    if tools:
        about = Any_(tuple(Contains("related_tools", tool) for tool in tools))
        parts.append(Select(LESSONS, about, _BEST_FIRST, 2 * limit * len(tools)))
    if not is_blank(query):
        parts.append(Words(LESSONS, query or "", 2 * limit))
    scores: dict[str, float] = {}
    lessons: dict[str, Lesson] = {}
    answers = (yield from run(Together(tuple(parts)))) if parts else []
    for part, found in zip(parts, answers, strict=True):
        for rank, row in enumerate(found):
            if isinstance(part, Words):
                lesson, score = row[0], by_rank(rank)
            else:
                lesson, score = row, _FOR_A_TOOL * len(set(tools) & set(row.related_tools))
            lessons[lesson.id] = lesson
            scores[lesson.id] = scores.get(lesson.id, 0.0) + score
    now = ctx.clock()

    def relevance(lesson: Lesson) -> float:
        recent = half_life(days_between(lesson.last_seen, now), _HALF_LIFE_DAYS)
        return scores[lesson.id] * lesson.confidence * recent

    return sorted(lessons.values(), key=relevance, reverse=True)[:limit]


@writes("memory")
def reinforce_lesson(ctx: Context, lesson_id: str) -> Op[bool]:
    """Count one more occurrence of a lesson, and add 0.1 to its confidence, to 1 at most; False if there is none."""
    now = ctx.stamp()
    values = {"occurrences": Add(1), "confidence": Add(_REINFORCED, most=1.0), "last_seen": now, "updated_at": now}
    return (yield from run(Update(LESSONS, values, eq("id", lesson_id)))) > 0


@writes("memory")
def decay_lesson(ctx: Context, lesson_id: str, amount: float) -> Op[bool]:
    """Take an amount (0 or more) from a lesson's confidence, to 0 at least; False if there is no such lesson."""
    return (yield from run(Update(LESSONS, _less(ctx, amount), eq("id", lesson_id)))) > 0


@writes("memory")
def decay_lessons(ctx: Context, older_than_days: float, amount: float) -> Op[int]:
    """Take an amount from the confidence of all lessons last seen so long ago that have any; returns how many."""
    days = at_least("decay lessons", older_than_days, 0, 1e6)
    old = Compare("last_seen", "lt", iso(ctx.clock() - timedelta(days=days)))
    wanted = every(old, Compare("confidence", "gt", 0.0))
    return (yield from run(Update(LESSONS, _less(ctx, amount), wanted)))


def _less(ctx: Context, amount: float) -> dict[str, object]:
    less = Add(-at_least("decay a lesson", amount, 0), least=0.0)
    return {"confidence": less, "updated_at": ctx.seconds()}


@writes("memory")
def merge_lesson_occurrences(
    ctx: Context, keeper_id: str, duplicate_occurrences: int, merged_tags: Iterable[str]
) -> Op[bool]:
    """Add the occurrences of duplicates to a lesson, and set its tags; False if there is no such lesson."""
    count = int(at_least("merge lessons", whole("merge lessons", duplicate_occurrences), 0, 2**31 - 1))
    values = {"occurrences": Add(count), "tags": texts("merge lessons", merged_tags), "updated_at": ctx.seconds()}
    return (yield from run(Update(LESSONS, values, eq("id", keeper_id)))) > 0


@writes("memory")
def delete_lesson(ctx: Context, lesson_id: str) -> Op[bool]:
    """Delete a lesson; False if there is no such lesson."""
    return (yield from run(Delete(LESSONS, eq("id", lesson_id)))) > 0
