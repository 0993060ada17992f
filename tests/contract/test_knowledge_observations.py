"""What an agent has come to know: what Postgres answers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror.core.errors import ConfigError, ConstraintError, StorageError, UnsupportedError
from mirror.storage.memory import Memory
from mirror.storage.models.knowledge import KnowledgeObservation
from mirror.storage.observations import KnowledgeObservations
from tests.support.storage import on_sqlite
from tests.support.tables_of_postgres import tables_of_postgres


@pytest.fixture(params=["tables", "postgres"])
def knowing(request: pytest.FixtureRequest, folder: Path) -> Iterator[Memory]:
    """On Postgres, and on tables of the same columns in a file."""
    if request.param == "postgres":
        yield request.getfixturevalue("postgres_stores").memory
    else:
        for tables in tables_of_postgres(folder):
            yield tables.memory


def keep(
    memory: Memory, key: str = "ada.tea", summary: str = "Ada likes green tea", **more: Any
) -> KnowledgeObservation:
    common: dict[str, Any] = {"kind": "operator_preference", "subject_type": "entity", "subject_id": "ada"}
    return memory.upsert_knowledge_observation(canonical_key=key, summary=summary, **(common | more))


@pytest.mark.parametrize("name", [name for name in vars(KnowledgeObservations) if not name.startswith("_")])
def test_sqlite_says_what_is_missing(folder: Path, name: str) -> None:
    for stores in on_sqlite(folder):
        method = getattr(stores.memory, name)
        parameters = list(inspect.signature(method).parameters.values())[1:]
        needed = [each.name for each in parameters if each.default is inspect.Parameter.empty]
        with pytest.raises(UnsupportedError):
            method(**dict.fromkeys(needed, "x"))


def test_what_is_kept_is_what_is_read(knowing: Memory) -> None:
    made = keep(
        knowing, detail="loose leaves", confidence=0.75, confidence_components={"sourceCount": 2}, freshness=0.5,
        support_count=3, source_diversity=2, contradiction_weight=0.25, operator_confirmed=True, tags=["tea"],
        metadata={"a": [1]}, visibility="family", embedding=[1.0, 2.0],
        revalidation_due_at="2026-12-01T10:00:00.123Z",
    )  # fmt: skip
    assert knowing.get_knowledge_observation(made.id) == made
    assert (made.confidence, made.operator_confirmed, made.tags, made.status) == (0.75, True, ("tea",), "active")
    assert made.revalidation_due_at == "2026-12-01T10:00:00.123Z" and made.embedding is not None
    assert knowing.get_knowledge_observation("nobody") is None


def test_one_of_a_canonical_key_is_active(knowing: Memory) -> None:
    first = keep(knowing)
    second = keep(knowing, summary="Ada likes black tea", confidence=0.9)
    assert second.id == first.id and second.summary == "Ada likes black tea"
    assert second.created_at == first.created_at and second.updated_at > first.updated_at
    assert knowing.list_knowledge_observations() == [second]
    knowing.invalidate_knowledge_observation(first.id)
    third = keep(knowing)
    assert third.id != first.id and len(knowing.list_knowledge_observations()) == 2


def test_evidence_is_replaced_left_or_taken_away(knowing: Memory) -> None:
    made = keep(knowing, evidence=[
        {"stance": "support", "item_id": "i1", "weight": 0.5, "excerpt": "said so"},
        {"stance": "contradict", "lesson_id": "l1", "weight": 2.0, "metadata": {"a": 1}},
        {"stance": "context", "entity_id": "e1"},
    ])  # fmt: skip
    found = knowing.get_knowledge_observation_evidence(made.id)
    assert [(piece.stance, piece.weight) for piece in found] == [
        ("contradict", 2.0),
        ("context", 1.0),
        ("support", 0.5),
    ]
    keep(knowing)
    assert knowing.get_knowledge_observation_evidence(made.id) == found
    keep(knowing, evidence=[{"stance": "support", "reflection_id": "r1"}])
    [piece] = knowing.get_knowledge_observation_evidence(made.id)
    assert (piece.reflection_id, piece.observation_id) == ("r1", made.id)
    keep(knowing, evidence=[])
    assert knowing.get_knowledge_observation_evidence(made.id) == []


@pytest.mark.parametrize(
    "bad", [{"stance": "support"}, {"item_id": "i"}, {"stance": "support", "item_id": "i", "x": 1}]
)
def test_evidence_refers_to_something(knowing: Memory, bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        keep(knowing, evidence=[{"stance": "support", "item_id": "i"}, bad])
    assert knowing.list_knowledge_observations() == []


def test_supersede(knowing: Memory) -> None:
    old = keep(knowing)
    evidence = [{"stance": "support", "item_id": "i"}]
    successor = {
        "kind": "world_fact", "subject_type": "global", "canonical_key": "ada.tea", "summary": "new",
        "evidence": evidence,
    }  # fmt: skip
    new = knowing.supersede_knowledge_observation(old.id, successor)
    assert (new.supersedes_observation_id, new.status, new.kind) == (old.id, "active", "world_fact")
    before = knowing.get_knowledge_observation(old.id)
    assert before is not None and before.status == "superseded"
    assert len(knowing.get_knowledge_observation_evidence(new.id)) == 1
    third = keep(knowing, "other")
    with pytest.raises(ConstraintError):
        knowing.supersede_knowledge_observation(third.id, successor)
    assert knowing.get_knowledge_observation(third.id) == third, "all or nothing"
    with pytest.raises(StorageError, match="none with this id"):
        knowing.supersede_knowledge_observation("nobody", successor)
    with pytest.raises(ConfigError):
        knowing.supersede_knowledge_observation(third.id, {"canonical_key": "z", "unknown": 1})


def test_stale_and_invalidated(knowing: Memory) -> None:
    made = keep(knowing, metadata={"kept": 1})
    assert knowing.mark_knowledge_observation_stale(made.id) and not knowing.mark_knowledge_observation_stale("x")
    stale = knowing.get_knowledge_observation(made.id)
    assert stale is not None and stale.status == "stale"
    assert knowing.invalidate_knowledge_observation(made.id, "wrong")
    assert not knowing.invalidate_knowledge_observation("x")
    found = knowing.get_knowledge_observation(made.id)
    assert found is not None and found.metadata == {"kept": 1, "invalidationReason": "wrong"}


def test_lists(knowing: Memory) -> None:
    one = keep(knowing, "1", last_supported_at="2026-11-01T10:00:00.000Z")
    two = keep(knowing, "2", last_supported_at="2026-11-02T10:00:00.000Z", kind="world_fact")
    three = keep(knowing, "3", subject_type="tool", subject_id="make", confidence=0.9)
    four = keep(knowing, "4", confidence=0.1)
    knowing.mark_knowledge_observation_stale(four.id)
    listed = [each.id for each in knowing.list_knowledge_observations()]
    assert listed == [two.id, one.id, three.id, four.id]
    assert [each.id for each in knowing.list_knowledge_observations(kinds=["world_fact"])] == [two.id]
    assert [each.id for each in knowing.list_knowledge_observations(subject_type="tool")] == [three.id]
    assert [each.id for each in knowing.list_knowledge_observations(subject_id="make", limit=5)] == [three.id]
    assert [each.id for each in knowing.list_knowledge_observations(status="stale")] == [four.id]
    assert [each.id for each in knowing.list_knowledge_observations(limit=1)] == [two.id]


def test_search(knowing: Memory) -> None:
    tea = keep(knowing, "1", "Ada likes green tea", confidence=0.9, tags=["drinks"])
    keep(knowing, "2", "The build is slow", kind="project_state", confidence=0.4)
    stale = keep(knowing, "3", "Green lights mean go", freshness=0.1)
    knowing.mark_knowledge_observation_stale(stale.id)
    pieces = [{"stance": "support", "item_id": "i", "weight": weight} for weight in (1.0, 4.0, 3.0, 2.0)]
    keep(knowing, "1", "Ada likes green tea", confidence=0.9, tags=["drinks"], evidence=pieces)
    [found] = knowing.search_knowledge_observations("green")
    assert found.observation.id == tea.id and found.score > 0
    assert [piece.weight for piece in found.top_evidence] == [4.0, 3.0, 2.0]
    both = knowing.search_knowledge_observations("green", statuses=["active", "stale"])
    assert {each.observation.id for each in both} == {tea.id, stale.id}
    assert knowing.search_knowledge_observations("green", min_confidence=0.95) == []
    assert knowing.search_knowledge_observations("green", statuses=["stale"], min_freshness=0.5) == []
    assert knowing.search_knowledge_observations("green", kinds=["world_fact"]) == []
    assert knowing.search_knowledge_observations("unknown") == []
    everything = knowing.search_knowledge_observations(" ")
    assert [each.observation.canonical_key for each in everything] == ["1", "2"]
