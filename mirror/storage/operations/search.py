"""Searches of memory items: by words, by embeddings, and by both (:mod:`mirror.storage.places`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from mirror.storage.filters import condition
from mirror.storage.models.memory import CATEGORIES, CATEGORY_ITEMS, ITEMS, MemoryItem
from mirror.storage.models.results import SearchResult
from mirror.storage.operations.base import (
    Context,
    at_least,
    days_between,
    embedding_of,
    half_life,
    is_blank,
    one_of,
    reads,
    texts,
    whole,
)
from mirror.storage.operations.entities import BONDS
from mirror.storage.operations.items import visible
from mirror.storage.places import by_rank, score
from mirror.storage.statements import Along, Merged, Near, OneOf, Op, Together, Words, run
from mirror.storage.tables import Embedding

Scoring = Literal["similarity", "salience", "identity"]

#: The names of the categories that an item is in.
CATEGORY_NAMES = Along(CATEGORY_ITEMS, "item_id", "category_id", CATEGORIES, "name")

#: How much more a memory counts by its significance, and in how many days that loses one half.
_WEIGHTS = {"routine": 1.0, "noteworthy": 1.5, "important": 2.5, "core": 5.0}
_HALF_LIVES = {"routine": 30.0, "noteworthy": 90.0, "important": 365.0, "core": math.inf}
#: Of how many times as many candidates as are wanted the best are taken: those most similar are not the most salient.
_CANDIDATES: dict[str, int] = {"similarity": 2, "salience": 6, "identity": 6}


@reads("memory")
def search_by_keyword(
    ctx: Context, query: str, limit: int = 20, where: Mapping[str, Any] | None = None, explain: bool = False
) -> Op[list[SearchResult]]:
    """Items that have any of the words of a query, the best first. ``where``: a filter."""
    wanted = visible(ctx, condition(ITEMS, where))
    found = yield from run(Words(ITEMS, query, limit, wanted, along=(CATEGORY_NAMES,)))
    return _by_place(found, explain)


@reads("memory", shared=True)
def search_by_keyword_shared(
    ctx: Context, query: str, limit: int = 20, explain: bool = False
) -> Op[list[SearchResult]]:
    """Other agents' items that these let all of the family see, by words. In Postgres alone.

    They are as new as these agents' mirrors have brought them: this agent's own position says nothing about them. On
    SQLite, which has none of other agents, ``UnsupportedError``.
    """
    found = yield from run(Words(ITEMS, query, limit, visible(ctx), shared=True, along=(CATEGORY_NAMES,)))
    return _by_place(found, explain)


def _by_place(found: list[tuple[Any, ...]], explain: bool) -> list[SearchResult]:
    return [
        SearchResult(item, by_rank(place), names, {"words": by_rank(place), "rank": rank} if explain else None)
        for place, (item, rank, names) in enumerate(found)
    ]


@reads("memory")
def search_items_by_keyword(ctx: Context, query: str, limit: int = 20) -> Op[list[MemoryItem]]:
    """As ``search_by_keyword``, the items alone."""
    found = yield from run(Words(ITEMS, query, limit, visible(ctx)))
    return [row for row, *_ in found]


@reads("memory")
def search_by_vector(
    ctx: Context,
    embedding: Iterable[float],
    limit: int = 20,
    agent_id: str | None = None,
    where: Mapping[str, Any] | None = None,
    explain: bool = False,
) -> Op[list[SearchResult]]:
    """Items with the most similar embeddings, the best first, by their cosine similarity. ``where``: a filter."""
    ctx.require_agent(agent_id)
    wanted = visible(ctx, condition(ITEMS, where))
    found = yield from run(Near(ITEMS, embedding_of(embedding), limit, wanted, (CATEGORY_NAMES,)))
    return [
        SearchResult(item, similarity, names, {"similarity": similarity} if explain else None)
        for item, similarity, names in found
    ]


@dataclass
class _Found:
    item: MemoryItem
    categories: tuple[str, ...]
    parts: dict[str, float] = field(default_factory=dict)


@reads("memory")
def search_items(
    ctx: Context,
    query: str | None = None,
    embedding: Iterable[float] | None = None,
    limit: int = 20,
    memory_types: Iterable[str] | None = None,
    scoring: Scoring = "similarity",
    half_life_days: float = 30,
    vector_weight: float = 0.7,
    explain: bool = False,
    where: Mapping[str, Any] | None = None,
) -> Op[list[SearchResult]]:
    """Items by words and by embeddings, the best first. ``where``: a filter.

    Both searches give each item a place (the first counts 1, the sixth one half); the score is
    ``vector_weight`` times that by embeddings plus the rest of 1 times that by words. Without an embedding, or without
    words, it is that of the other alone.

    ``scoring``: how the places by embeddings are given: by similarity; by *salience*, similarity times confirmations
    times recency (of which ``half_life_days`` take one half); by *identity*, the similarity's square times
    confirmations, recency by significance, emotion, significance, and the strongest bond.
    """
    one_of("search items", scoring, _CANDIDATES)
    limit = whole("search items", limit)
    half = at_least("search items", half_life_days, 1e-9)
    weight = at_least("search items", vector_weight, 0, 1)
    vector = None if embedding is None else embedding_of(embedding)
    parts = _parts(ctx, query, vector, limit, memory_types, scoring, where)
    match parts:
        case (Near() as near, Words() as words) if scoring == "similarity":
            merged = yield from run(Merged(near, words, weight, limit))
            return [_merged(one, weight, explain) for one in merged]
    answers = (yield from run(Together(parts))) if parts else []
    found: dict[str, _Found] = {}
    for part, answer in zip(parts, answers, strict=True):
        if isinstance(part, Words):
            share = 1.0 if vector is None else 1 - weight
            for place, (item, rank, names) in enumerate(answer):
                made = found.setdefault(item.id, _Found(item, names))
                made.parts |= {"words": share * by_rank(place), "rank": rank}
        else:
            share = weight if len(parts) > 1 else 1.0
            for place, (item, names, more) in enumerate(_by_scoring(ctx.clock(), answer, scoring, half)):
                made = found.setdefault(item.id, _Found(item, names))
                made.parts |= {"vector": share * by_rank(place)} | more
    made_results = [
        SearchResult(
            one.item, one.parts.get("words", 0.0) + one.parts.get("vector", 0.0), one.categories,
            dict(one.parts) if explain else None,
        )
        for one in found.values()
    ]  # fmt: skip
    return sorted((one for one in made_results if one.score > 0), key=lambda one: (-one.score, one.item.id))[:limit]


def _merged(found: tuple[Any, ...], weight: float, explain: bool) -> SearchResult:
    item, near, similarity, words, rank, names = found
    parts: dict[str, float] = {}
    if explain and near is not None:
        parts |= {"vector": score(near, None, weight), "similarity": similarity}
    if explain and words is not None:
        parts |= {"words": score(None, words, weight), "rank": rank}
    return SearchResult(item, score(near, words, weight), names, parts if explain else None)


def _parts(
    ctx: Context,
    query: str | None,
    embedding: Embedding | None,
    limit: int,
    memory_types: Iterable[str] | None,
    scoring: Scoring,
    where: Mapping[str, Any] | None,
) -> tuple[Near | Words, ...]:
    types = texts("search items", memory_types)
    wanted = visible(ctx, OneOf("memory_type", types) if types else None, condition(ITEMS, where))
    parts: list[Near | Words] = []
    if embedding is not None:
        along = (CATEGORY_NAMES, BONDS) if scoring == "identity" else (CATEGORY_NAMES,)
        parts.append(Near(ITEMS, embedding, _CANDIDATES[scoring] * limit, wanted, along))
    if not is_blank(query):
        parts.append(Words(ITEMS, query or "", 2 * limit, wanted, along=(CATEGORY_NAMES,)))
    return tuple(parts)


def _by_scoring(
    now: datetime, found: list[tuple[Any, ...]], scoring: Scoring, half: float
) -> list[tuple[MemoryItem, tuple[str, ...], dict[str, float]]]:
    """(item, names of categories, parts of the score) in the order of the scoring."""
    scored = []
    for item, similarity, names, *bonds in found:
        parts = {"similarity": similarity}
        if scoring != "similarity":
            parts["confirmed"] = math.log2(max(0, item.reinforcement_count) + 1)
            days = _HALF_LIVES.get(item.significance, _HALF_LIVES["routine"]) if scoring == "identity" else half
            parts["recent"] = half_life(days_between(item.created_at, now), days)
        if scoring == "identity":
            parts["emotion"] = 1 + abs(item.emotional_valence) * item.emotional_arousal * 0.5
            parts["significance"] = _WEIGHTS.get(item.significance, 1.0)
            parts["bond"] = 1 + max(bonds[0], default=0.0) * 0.3
        # By identity the similarity counts twice: what is far off does not win by its weight alone.
        score = math.prod(parts.values()) * (similarity if scoring == "identity" else 1)
        scored.append((score, item, names, parts))
    scored.sort(key=lambda one: (-one[0], one[1].id))
    return [(item, names, parts | {scoring: score}) for score, item, names, parts in scored]
