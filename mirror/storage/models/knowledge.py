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


@dataclass(frozen=True, slots=True)
class Collection(Row, table="knowledge_collections", source="postgres"):
    """Documents that are found together, and that other agents may be let read."""

    id: str
    name: str
    description: str | None
    visibility: str
    created_at: Time
    updated_at: Time


@dataclass(frozen=True, slots=True)
class CollectionGrant(
    Row, table="knowledge_collection_grants", source="postgres", key=("collection_id", "grantee_agent_id")
):
    """An agent that may read a collection of another."""

    collection_id: str
    grantee_agent_id: str
    granted_at: Time


@dataclass(frozen=True, slots=True)
class Document(Row, table="knowledge_documents", source="postgres"):
    """A text in a collection; ``content_hash``: SHA-256 (hex) of it."""

    id: str
    collection_id: str
    title: str
    source: str | None
    content_hash: str | None
    metadata: Json
    created_at: Time
    updated_at: Time


@dataclass(frozen=True, slots=True)
class Chunk(
    Row,
    table="knowledge_chunks",
    source="postgres",
    key=("document_id", "part"),
    words="knowledge_chunks_fts",
):
    """A part of a document, by which it is found. ``part`` counts from 0."""

    document_id: str
    part: int
    collection_id: str
    content: str
    embedding: Embedding | None
    metadata: Json


COLLECTIONS = table_of(Collection)
GRANTS = table_of(CollectionGrant)
DOCUMENTS = table_of(Document)
CHUNKS = table_of(Chunk)


@dataclass(frozen=True, slots=True)
class Ingested:
    """A document that was taken in, its chunks, and whether anything was written."""

    document: Document
    chunks: tuple[Chunk, ...]
    changed: bool


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """A chunk that was found, and its score."""

    chunk: Chunk
    score: float
