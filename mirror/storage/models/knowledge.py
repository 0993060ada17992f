"""Rows of what an agent has come to know, with the evidence for it. In Postgres alone."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.storage.tables import Embedding, Json, Row, Texts, Time, table_of


@dataclass(frozen=True, slots=True)
class KnowledgeObservation(Row, table="knowledge_observations", source="postgres", words="knowledge_observations_fts"):
    """Something held to be true of a subject. At most one of those with a canonical key is active."""

    id: str
    kind: str
    subject_type: str
    subject_id: str | None
    canonical_key: str
    summary: str
    detail: str | None
    confidence: float
    confidence_components: Json
    freshness: float
    revalidation_due_at: Time | None
    support_count: int
    source_diversity: int
    contradiction_weight: float
    operator_confirmed: bool
    status: str
    first_supported_at: Time | None
    last_supported_at: Time | None
    last_contradicted_at: Time | None
    supersedes_observation_id: str | None
    embedding: Embedding | None
    tags: Texts
    metadata: Json
    visibility: str
    created_at: Time
    updated_at: Time


@dataclass(frozen=True, slots=True)
class KnowledgeEvidence(Row, table="knowledge_observation_evidence", source="postgres"):
    """What speaks for or against an observation: a memory, a lesson, a reflection, or an entity."""

    id: str
    observation_id: str
    stance: str
    weight: float
    excerpt: str | None
    item_id: str | None
    lesson_id: str | None
    reflection_id: str | None
    entity_id: str | None
    source_created_at: Time | None
    metadata: Json
    created_at: Time


OBSERVATIONS = table_of(KnowledgeObservation)
EVIDENCE = table_of(KnowledgeEvidence)


@dataclass(frozen=True, slots=True)
class KnowledgeObservationResult:
    """An observation that was found, its score, and the three pieces of evidence with most weight."""

    observation: KnowledgeObservation
    score: float
    top_evidence: tuple[KnowledgeEvidence, ...]
