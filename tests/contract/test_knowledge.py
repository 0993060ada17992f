"""Collections of documents: on Postgres, and on tables of the same columns in a file."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.core.errors import ConfigError, StorageError, UnsupportedError
from mirror.storage.knowledge import AsyncKnowledge, Knowledge
from tests.support.storage import on_sqlite
from tests.support.tables_of_postgres import tables_of_postgres

NAMES = [name for name in vars(Knowledge) if not name.startswith("_")]


@pytest.fixture(params=["tables", "postgres"])
def knowledge(request: pytest.FixtureRequest, folder: Path) -> Iterator[Knowledge]:
    if request.param == "postgres":
        made = Knowledge(request.getfixturevalue("postgres_stores").memory._runner)
        made.create_collection("manual")
        yield made
    else:
        for tables in tables_of_postgres(folder):
            tables.knowledge.create_collection("manual")
            yield tables.knowledge


@pytest.mark.parametrize("name", NAMES)
def test_sqlite_says_what_is_missing(folder: Path, name: str) -> None:
    assert hasattr(AsyncKnowledge, name)
    for stores in on_sqlite(folder):
        method = getattr(Knowledge(stores.memory._runner), name)
        parameters = list(inspect.signature(method).parameters.values())[1:]
        with pytest.raises(UnsupportedError):
            method(*["x" for each in parameters if each.default is inspect.Parameter.empty])


def test_collections(knowledge: Knowledge) -> None:
    made = knowledge.create_collection("recipes", "food", "family")
    assert knowledge.get_collection("recipes") == made and knowledge.create_collection("recipes", "other") == made
    assert [each.name for each in knowledge.list_collections()] == ["manual", "recipes"]
    assert knowledge.delete_collection("recipes") and not knowledge.delete_collection("recipes")
    assert knowledge.get_collection("recipes") is None


def test_grants(knowledge: Knowledge) -> None:
    made = knowledge.grant("manual", "bob")
    assert knowledge.grant("manual", "bob") == made
    knowledge.grant("manual", "ada")
    assert [each.grantee_agent_id for each in knowledge.list_grants("manual")] == ["ada", "bob"]
    assert knowledge.revoke("manual", "bob") and not knowledge.revoke("manual", "bob")
    for agent in ("", "argent"):
        with pytest.raises(ConfigError):
            knowledge.grant("manual", agent)
    with pytest.raises(StorageError, match="none of this name"):
        knowledge.grant("unknown", "bob")


def test_the_same_content_is_taken_in_once(knowledge: Knowledge) -> None:
    first = knowledge.ingest("manual", "Start", "Press the green button.", source="a.md", metadata={"a": 1})
    assert first.changed and first.document.metadata == {"a": 1} and len(first.chunks) == 1
    again = knowledge.ingest("manual", "Start", "Press the green button.", source="a.md")
    assert not again.changed and (again.document, again.chunks) == (first.document, first.chunks)
    elsewhere = knowledge.ingest("manual", "Copy", "Press the green button.", source="b.md")
    assert not elsewhere.changed and elsewhere.document == first.document
    assert knowledge.list_documents("manual") == [first.document]


@pytest.mark.parametrize("source", ["a.md", None])
def test_other_content_replaces_what_was_there(knowledge: Knowledge, source: str | None) -> None:
    first = knowledge.ingest("manual", "Start", "green " * 500, source=source)
    assert len(first.chunks) > 1 and [chunk.part for chunk in first.chunks] == list(range(len(first.chunks)))
    second = knowledge.ingest("manual", "Start", "blue", source=source)
    assert second.changed and second.document.id == first.document.id
    assert second.document.created_at == first.document.created_at
    assert [chunk.content for chunk in knowledge.get_chunks(first.document.id)] == ["blue"]
    assert knowledge.search("green") == [] and len(knowledge.search("blue")) == 1


def test_documents_of_other_sources_stay(knowledge: Knowledge) -> None:
    one = knowledge.ingest("manual", "Same title", "one", source="1").document
    two = knowledge.ingest("manual", "Same title", "two", source="2").document
    three = knowledge.ingest("manual", "Same title", "three").document
    assert {each.id for each in knowledge.list_documents("manual")} == {one.id, two.id, three.id}
    assert knowledge.delete_document(two.id) and not knowledge.delete_document(two.id)
    assert knowledge.search("two") == []


def test_search_by_words_and_embeddings(knowledge: Knowledge) -> None:
    knowledge.create_collection("other")
    green = knowledge.ingest("manual", "1", "the green button", embeddings=[[1.0, 0.0]]).chunks[0]
    blue = knowledge.ingest("manual", "2", "the blue button", embeddings=[[0.0, 1.0]]).chunks[0]
    other = knowledge.ingest("other", "3", "a green leaf").chunks[0]
    assert {each.chunk.content for each in knowledge.search("green")} == {green.content, other.content}
    assert [each.chunk for each in knowledge.search("green", collection="other")] == [other]
    assert [each.chunk for each in knowledge.search(embedding=[0.0, 2.0])] == [blue]
    fused = knowledge.search("green", [1.0, 0.1])
    assert fused[0].chunk == green and fused[0].score > fused[1].score
    assert knowledge.search() == knowledge.search(" ") == [] and len(knowledge.search("button", limit=1)) == 1
    assert knowledge.update_chunk_embeddings(other.document_id, {0: [1.0, 0.0], 7: [1.0]}) == 1
    assert len(knowledge.search(embedding=[1.0, 0.0])) == 2


def test_as_many_embeddings_as_chunks(knowledge: Knowledge) -> None:
    with pytest.raises(ConfigError, match="2 embeddings for 1 chunks"):
        knowledge.ingest("manual", "1", "text", embeddings=[[1.0], [2.0]])
    assert knowledge.list_documents("manual") == []


def test_a_collection_is_deleted_with_all_that_is_in_it(knowledge: Knowledge) -> None:
    knowledge.ingest("manual", "1", "green")
    knowledge.delete_collection("manual")
    assert knowledge.search("green") == []
    with pytest.raises(StorageError):
        knowledge.ingest("manual", "1", "green")
