"""Rows of a MemuStore (memory.db)."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.storage.tables import Embedding, Json, Row, Texts, Time, table_of


@dataclass(frozen=True, slots=True)
class Resource(Row, table="resources"):
    """What memories were taken from: a part of a conversation, a document, the output of a tool."""

    id: str
    url: str
    modality: str
    local_path: str | None
    caption: str | None
    embedding: Embedding | None
    created_at: Time
    updated_at: Time


@dataclass(frozen=True, slots=True)
class MemoryItem(
    Row,
    table="memory_items",
    words="memory_items_fts",
    vectors="vec_memory_items",
    defaults={"reinforcement_count": 1},
):
    """A memory: a fact, with how often it was confirmed and what it meant."""

    id: str
    resource_id: str | None
    memory_type: str
    summary: str
    embedding: Embedding | None
    happened_at: Time | None
    content_hash: str | None
    reinforcement_count: int
    last_reinforced_at: Time | None
    extra: Json
    created_at: Time
    updated_at: Time
    emotional_valence: float
    emotional_arousal: float
    mood_at_capture: str | None
    significance: str
    reflection: str | None
    lesson: str | None


@dataclass(frozen=True, slots=True)
class Category(Row, table="memory_categories", words="memory_categories_fts", vectors="vec_categories"):
    """A topic of memories."""

    id: str
    name: str
    description: str | None
    embedding: Embedding | None
    summary: str | None
    created_at: Time
    updated_at: Time


@dataclass(frozen=True, slots=True)
class CategoryItem(Row, table="category_items", key=("item_id", "category_id")):
    """A memory's place in a topic."""

    item_id: str
    category_id: str


@dataclass(frozen=True, slots=True)
class Entity(Row, table="entities", vectors="vec_entities", defaults={"bond_strength": 0.5}):
    """A person, a place, an organisation, a project, and the relation to it."""

    id: str
    name: str
    entity_type: str
    relationship: str | None
    bond_strength: float
    emotional_texture: str | None
    profile_summary: str | None
    first_mentioned_at: Time | None
    last_mentioned_at: Time | None
    memory_count: int
    embedding: Embedding | None
    created_at: Time
    updated_at: Time


@dataclass(frozen=True, slots=True)
class ItemEntity(Row, table="item_entities", key=("item_id", "entity_id")):
    """A memory that is about an entity."""

    item_id: str
    entity_id: str
    role: str | None


@dataclass(frozen=True, slots=True)
class Reflection(Row, table="reflections"):
    """What an agent thought about a period."""

    id: str
    trigger_type: str
    period_start: Time | None
    period_end: Time | None
    content: str
    lessons_extracted: Texts
    entities_involved: Texts
    self_insights: Texts
    mood: str | None
    created_at: Time


@dataclass(frozen=True, slots=True)
class Lesson(Row, table="lessons", words="lessons_fts", defaults={"confidence": 0.5, "occurrences": 1}):
    """What was learned from an action and its outcome."""

    id: str
    type: str
    context: str
    action: str
    outcome: str
    lesson: str
    correction: str | None
    confidence: float
    occurrences: int
    last_seen: Time
    tags: Texts
    related_tools: Texts
    source_episode_ids: Texts
    embedding: Embedding | None
    created_at: Time
    updated_at: Time


@dataclass(frozen=True, slots=True)
class ModelFeedback(Row, table="model_feedback"):
    """How a model did in one request."""

    id: str
    provider: str
    model: str
    tier: str
    session_type: str
    complexity_score: float
    duration_ms: int
    success: bool
    error_type: str | None
    input_tokens: int
    output_tokens: int
    total_tokens: int
    tool_call_count: int
    user_feedback: str | None
    session_key: str | None
    profile: str | None
    created_at: Time
    self_eval_score: float | None
    self_eval_reasoning: str | None


@dataclass(frozen=True, slots=True)
class LiveCandidate(Row, table="live_memory_candidates"):
    """A fact from a running conversation that may become a memory."""

    id: str
    session_key: str | None
    message_id: str | None
    role: str
    candidate_type: str
    fact_text: str
    fact_hash: str
    confidence: float
    trigger_flags: Texts
    entities: Texts
    memory_type_hint: str | None
    significance_hint: str | None
    source_ts: Time
    expires_at: Time
    status: str
    promoted_item_id: str | None
    promotion_reason: str | None
    created_at: Time
    updated_at: Time


@dataclass(frozen=True, slots=True)
class PromotionEvent(Row, table="memory_promotion_events"):
    """What was decided about a live candidate."""

    id: str
    candidate_id: str
    actor: str
    action: str
    result: str
    reason: str | None
    error: str | None
    created_at: Time


@dataclass(frozen=True, slots=True)
class PersonalSkillCandidate(
    Row,
    table="personal_skill_candidates",
    stored={"agent_id": "source_agent_id"},
    defaults={"recurrence_count": 1, "confidence": 0.5, "strength": 0.5},
):
    """A procedure that an agent may have learned."""

    id: str
    agent_id: str
    operator_id: str | None
    profile_id: str | None
    title: str
    summary: str
    trigger_patterns: Texts
    procedure_outline: str | None
    related_tools: Texts
    source_memory_ids: Texts
    source_episode_ids: Texts
    source_task_ids: Texts
    source_lesson_ids: Texts
    evidence_count: int
    recurrence_count: int
    confidence: float
    state: str
    last_reviewed_at: Time | None
    last_used_at: Time | None
    created_at: Time
    updated_at: Time
    scope: str
    preconditions: Texts
    execution_steps: Texts
    expected_outcomes: Texts
    supersedes_candidate_ids: Texts
    superseded_by_candidate_id: str | None
    conflicts_with_candidate_ids: Texts
    contradiction_count: int
    strength: float
    usage_count: int
    success_count: int
    failure_count: int
    last_reinforced_at: Time | None
    last_contradicted_at: Time | None
    operator_notes: str | None


@dataclass(frozen=True, slots=True)
class PersonalSkillReview(Row, table="personal_skill_reviews", stored={"agent_id": "source_agent_id"}):
    """What was done with a personal skill."""

    id: str
    candidate_id: str
    agent_id: str
    actor_type: str
    action: str
    reason: str | None
    details: Json
    created_at: Time


RESOURCES = table_of(Resource)
ITEMS = table_of(MemoryItem)
CATEGORIES = table_of(Category)
CATEGORY_ITEMS = table_of(CategoryItem)
ENTITIES = table_of(Entity)
ITEM_ENTITIES = table_of(ItemEntity)
REFLECTIONS = table_of(Reflection)
LESSONS = table_of(Lesson)
FEEDBACK = table_of(ModelFeedback)
CANDIDATES = table_of(LiveCandidate)
PROMOTIONS = table_of(PromotionEvent)
SKILLS = table_of(PersonalSkillCandidate)
SKILL_REVIEWS = table_of(PersonalSkillReview)
