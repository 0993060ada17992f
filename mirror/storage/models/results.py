"""What reads answer that is no row of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mirror.storage.models.memory import Category, Entity, MemoryItem


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A memory that a search found; a larger score is better."""

    item: MemoryItem
    score: float
    categories: tuple[str, ...]
    """The names of its categories, in order."""
    parts: Mapping[str, float] | None = None
    """What the score was made of, if the search was asked to explain it."""


@dataclass(frozen=True, slots=True)
class CategoryResult:
    """A category that a search found, with its cosine similarity."""

    category: Category
    score: float


@dataclass(frozen=True, slots=True)
class EntityResult:
    """An entity that a search found, with its cosine similarity."""

    entity: Entity
    score: float


@dataclass(frozen=True, slots=True)
class ModelPerformance:
    """How a model did in all its requests; times in milliseconds, means rounded to whole numbers."""

    provider: str
    model: str
    total_requests: int
    success_count: int
    failure_count: int
    success_rate: float
    avg_duration_ms: int
    avg_input_tokens: int
    avg_output_tokens: int
    positive_count: int
    negative_count: int


@dataclass(frozen=True, slots=True)
class TierPerformance:
    """How a model did in one tier; times in milliseconds, means rounded to whole numbers."""

    tier: str
    provider: str
    model: str
    total_requests: int
    success_rate: float
    avg_duration_ms: int
    avg_tokens: int


@dataclass(frozen=True, slots=True)
class LiveCandidateStats:
    """The number of live candidates of each status."""

    pending: int = 0
    promoted: int = 0
    merged: int = 0
    discarded: int = 0
    expired: int = 0


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """What a memory has."""

    resources: int
    items: int
    categories: int
    entities: int
    reflections: int
    lessons: int
    model_feedback: int
    items_by_type: Mapping[str, int]
    vec_available: bool
    """Whether the store itself compares embeddings."""
