"""Knowledge observations: what an agent has come to know, and the evidence for it. In Postgres alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from mirror.core.errors import ConfigError, ConstraintError, StorageError
from mirror.storage.arguments import Name
from mirror.storage.models.knowledge import (
    EVIDENCE,
    OBSERVATIONS,
    KnowledgeEvidence,
    KnowledgeObservation,
    KnowledgeObservationResult,
)
from mirror.storage.operations.base import Context, embedding_of, reads, writes
from mirror.storage.statements import (
    Compare,
    Condition,
    Delete,
    Insert,
    OneOf,
    Op,
    Select,
    Update,
    Words,
    eq,
    every,
    first,
    run,
)
from mirror.storage.tables import Time

Kind = Literal[
    "operator_preference", "project_state", "world_fact", "self_model", "relationship_fact", "tooling_state"
]  # fmt: skip
SubjectType = Literal["entity", "project", "tool", "agent", "global"]
Status = Literal["active", "stale", "superseded", "invalidated"]
Visibility = Literal["private", "team", "family", "public"]

#: What evidence refers to: one of these at least.
_REFERENCES = ("item_id", "lesson_id", "reflection_id", "entity_id")
_EVIDENCE = ("stance", "weight", "excerpt", *_REFERENCES, "source_created_at", "metadata")
_TOP_EVIDENCE = 3
_BEST_EVIDENCE = ("-weight", "-created_at")


def _found(observation_id: str) -> Op[KnowledgeObservation | None]:
    return first((yield from run(Select(OBSERVATIONS, eq("id", observation_id)))))


@reads("postgres")
def get_knowledge_observation(ctx: Context, observation_id: str) -> Op[KnowledgeObservation | None]:
    """An observation; None if there is none with this id."""
    return (yield from _found(observation_id))


def _about(
    kinds: Sequence[str] | None, subject_type: str | None, subject_id: str | None, *more: Condition | None
) -> Condition:
    return every(
        OneOf("kind", tuple(kinds)) if kinds else None,
        None if subject_type is None else eq("subject_type", subject_type),
        None if subject_id is None else eq("subject_id", subject_id),
        *more,
    )


@reads("postgres")
def list_knowledge_observations(
    ctx: Context,
    kinds: Sequence[Kind] | None = None,
    subject_type: SubjectType | None = None,
    subject_id: str | None = None,
    status: Status | None = None,
    limit: int = 50,
) -> Op[list[KnowledgeObservation]]:
    """Observations: those supported last first, then those of most confidence. ``kinds``: any of them."""
    wanted = _about(kinds, subject_type, subject_id, None if status is None else eq("status", status))
    order = ("-last_supported_at", "-confidence", "-updated_at")
    return (yield from run(Select(OBSERVATIONS, wanted, order, limit)))


@reads("postgres", many=True)
def search_knowledge_observations(
    ctx: Context,
    query: str,
    kinds: Sequence[Kind] | None = None,
    subject_type: SubjectType | None = None,
    subject_id: str | None = None,
    statuses: Sequence[Status] | None = None,
    min_confidence: float | None = None,
    min_freshness: float | None = None,
    limit: int = 8,
) -> Op[list[KnowledgeObservationResult]]:
    """Observations with any of the words, the best first; without words, those of most confidence.

    ``statuses``: active ones, if none are given.
    """
    wanted = _about(
        kinds,
        subject_type,
        subject_id,
        OneOf("status", tuple(statuses or ("active",))),
        None if min_confidence is None else Compare("confidence", "gte", min_confidence),
        None if min_freshness is None else Compare("freshness", "gte", min_freshness),
    )
    scored: list[tuple[KnowledgeObservation, float]]
    if query.strip():
        scored = [(row[0], row[1]) for row in (yield from run(Words(OBSERVATIONS, query, limit, wanted)))]
    else:
        order = ("-confidence", "-freshness", "-updated_at")
        scored = [(row, 0.0) for row in (yield from run(Select(OBSERVATIONS, wanted, order, limit)))]
    evidence: dict[str, list[KnowledgeEvidence]] = {observation.id: [] for observation, _ in scored}
    if evidence:
        of_these = OneOf("observation_id", tuple(evidence))
        for piece in (yield from run(Select(EVIDENCE, of_these, _BEST_EVIDENCE))):
            evidence[piece.observation_id].append(piece)
    return [
        KnowledgeObservationResult(observation, score, tuple(evidence[observation.id][:_TOP_EVIDENCE]))
        for observation, score in scored
    ]


@reads("postgres")
def get_knowledge_observation_evidence(ctx: Context, observation_id: str) -> Op[list[KnowledgeEvidence]]:
    """The evidence of an observation, that of most weight first."""
    return (yield from run(Select(EVIDENCE, eq("observation_id", observation_id), _BEST_EVIDENCE)))


@writes("postgres", many=True)
def upsert_knowledge_observation(
    ctx: Context,
    kind: Kind,
    subject_type: SubjectType,
    canonical_key: Name,
    summary: str,
    subject_id: str | None = None,
    detail: str | None = None,
    confidence: float = 0.5,
    confidence_components: Mapping[str, Any] | None = None,
    freshness: float = 1.0,
    revalidation_due_at: Time | None = None,
    support_count: int = 0,
    source_diversity: int = 0,
    contradiction_weight: float = 0.0,
    operator_confirmed: bool = False,
    status: Status = "active",
    first_supported_at: Time | None = None,
    last_supported_at: Time | None = None,
    last_contradicted_at: Time | None = None,
    supersedes_observation_id: str | None = None,
    embedding: Iterable[float] | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    visibility: Visibility = "private",
    evidence: Sequence[Mapping[str, Any]] | None = None,
    agent_id: str | None = None,
) -> Op[KnowledgeObservation]:
    """Keep an observation: in place of what the active one with its canonical key says, or as a new one.

    ``evidence``: in place of what there is; None leaves that. Each has a ``stance`` (support, contradict, context),
    and one at least of ``item_id``, ``lesson_id``, ``reflection_id`` and ``entity_id``; maybe ``weight``, ``excerpt``,
    ``source_created_at`` and ``metadata``. Times: ISO 8601.
    """
    ctx.require_agent(agent_id)
    values = {
        "kind": kind, "subject_type": subject_type, "subject_id": subject_id, "canonical_key": canonical_key,
        "summary": summary, "detail": detail, "confidence": confidence,
        "confidence_components": dict(confidence_components or {}), "freshness": freshness,
        "revalidation_due_at": revalidation_due_at, "support_count": support_count,
        "source_diversity": source_diversity, "contradiction_weight": contradiction_weight,
        "operator_confirmed": operator_confirmed, "status": status, "first_supported_at": first_supported_at,
        "last_supported_at": last_supported_at, "last_contradicted_at": last_contradicted_at,
        "supersedes_observation_id": supersedes_observation_id,
        "embedding": None if embedding is None else embedding_of(embedding), "tags": tuple(tags or ()),
        "metadata": dict(metadata or {}), "visibility": visibility, "updated_at": ctx.stamp(),
    }  # fmt: skip
    pieces = None if evidence is None else _pieces(evidence)
    active = Select(OBSERVATIONS, every(eq("canonical_key", canonical_key), eq("status", "active")), limit=1)
    kept: KnowledgeObservation | None = first((yield from run(active)))
    observation_id = ctx.new_id() if kept is None else kept.id
    if kept is None and not (yield from _insert(observation_id, values)):
        kept = first((yield from run(active)))  # another program has made one in between
        if kept is None:
            raise StorageError(
                "keep an observation", canonical_key, "it is being changed", next_step="try again", retryable=True
            )
        observation_id = kept.id
    if kept is not None:
        yield from run(Update(OBSERVATIONS, values, eq("id", observation_id)))
    if pieces is not None:
        yield from _replace_evidence(ctx, observation_id, pieces)
    return (yield from _there(observation_id))


def _insert(observation_id: str, values: Mapping[str, Any]) -> Op[int]:
    new = {"id": observation_id, **values, "created_at": values["updated_at"]}
    return run(Insert(OBSERVATIONS, new, ignore=True))


def _there(observation_id: str) -> Op[KnowledgeObservation]:
    found = yield from _found(observation_id)
    if found is None:
        raise StorageError(
            "find an observation", observation_id, "there is none with this id", next_step="list the observations"
        )
    return found


def _pieces(evidence: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    made = []
    for given in evidence:
        unknown = set(given) - set(_EVIDENCE)
        if unknown or "stance" not in given or not any(given.get(name) for name in _REFERENCES):
            detail = f"unknown: {', '.join(sorted(unknown))}" if unknown else "it needs a stance and a reference"
            step = f"give stance, and one of {', '.join(_REFERENCES)}"
            raise ConfigError("keep evidence", detail=detail, next_step=step)
        piece: dict[str, Any] = dict.fromkeys(_EVIDENCE) | dict(given)
        piece["weight"] = 1.0 if piece["weight"] is None else piece["weight"]
        piece["metadata"] = dict(piece["metadata"] or {})
        made.append(piece)
    return made


def _replace_evidence(ctx: Context, observation_id: str, pieces: list[dict[str, Any]]) -> Op[None]:
    yield from run(Delete(EVIDENCE, eq("observation_id", observation_id)))
    now = ctx.stamp()
    for piece in pieces:
        own = {"id": ctx.new_id(), "observation_id": observation_id, "created_at": now}
        yield from run(Insert(EVIDENCE, own | piece))


@writes("postgres", many=True)
def supersede_knowledge_observation(
    ctx: Context, observation_id: str, successor: Mapping[str, Any]
) -> Op[KnowledgeObservation]:
    """Keep another observation in the place of one. ``successor``: the arguments of ``upsert_knowledge_observation``.

    Raises ``StorageError`` if there is no such observation, ``ConstraintError`` if the successor's canonical key is
    that of a third one which is active.
    """
    current = yield from _there(observation_id)
    yield from run(Update(OBSERVATIONS, {"status": "superseded", "updated_at": ctx.stamp()}, eq("id", current.id)))
    given = dict(successor) | {"supersedes_observation_id": current.id}
    third = every(eq("canonical_key", given.get("canonical_key")), eq("status", "active"))
    if given.get("status", "active") == "active" and (yield from run(Select(OBSERVATIONS, third, limit=1))):
        raise ConstraintError(
            "supersede an observation",
            str(given["canonical_key"]),
            "another observation with this canonical key is active",
            next_step="supersede that one",
        )
    try:
        made = upsert_knowledge_observation.make(ctx, **given)
    except TypeError as error:
        step = "give the arguments of upsert_knowledge_observation"
        raise ConfigError("supersede an observation", observation_id, str(error), next_step=step) from error
    return (yield from made)


@writes("postgres")
def mark_knowledge_observation_stale(ctx: Context, observation_id: str) -> Op[bool]:
    """Say that an observation has to be looked at again; False if there is none."""
    values = {"status": "stale", "updated_at": ctx.stamp()}
    return (yield from run(Update(OBSERVATIONS, values, eq("id", observation_id)))) > 0


@writes("postgres", many=True)
def invalidate_knowledge_observation(ctx: Context, observation_id: str, reason: str | None = None) -> Op[bool]:
    """Say that an observation is not true, and why, in its metadata; False if there is none."""
    found = yield from _found(observation_id)
    if found is None:
        return False
    metadata = found.metadata | ({"invalidationReason": reason} if reason else {})
    values = {"status": "invalidated", "metadata": metadata, "updated_at": ctx.stamp()}
    return (yield from run(Update(OBSERVATIONS, values, eq("id", observation_id)))) > 0
