"""Collections of documents, in Postgres alone: what is in them, who may read them, and search.

Another agent's collection is read by its grants or its visibility, which row security checks. It is changed by its
owner alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from mirror.core.errors import ConfigError, StorageError
from mirror.storage.arguments import Name
from mirror.storage.chunks import OVERLAP, SIZE, split
from mirror.storage.models.knowledge import (
    CHUNKS,
    COLLECTIONS,
    DOCUMENTS,
    GRANTS,
    Chunk,
    ChunkResult,
    Collection,
    CollectionGrant,
    Document,
    Ingested,
)
from mirror.storage.operations.base import Context, embedding_of, reads, without, writes
from mirror.storage.statements import (
    Any_,
    Delete,
    Insert,
    Near,
    Op,
    Select,
    Update,
    Words,
    eq,
    every,
    first,
    run,
)

Visibility = Literal["private", "team", "family", "public"]

#: Of reciprocal ranks: how little the first places differ.
_FLAT = 60


def _collection(name: str) -> Op[Collection]:
    found: Collection | None = first((yield from run(Select(COLLECTIONS, eq("name", name)))))
    if found is None:
        raise StorageError(
            "find a collection", name, "this agent has none of this name", next_step="knowledge.create_collection"
        )
    return found


@writes("postgres", many=True)
def create_collection(
    ctx: Context, name: Name, description: str | None = None, visibility: Visibility = "private"
) -> Op[Collection]:
    """A collection of this agent with this name: a new one, or the one that there is, as it is."""
    now = ctx.stamp()
    made = Collection(ctx.new_id(), name, description, visibility, now, now)
    yield from run(Insert(COLLECTIONS, without(made), ignore=True))
    return (yield from _collection(name))


@reads("postgres")
def get_collection(ctx: Context, name: str) -> Op[Collection | None]:
    """This agent's collection of a name; None if there is none."""
    return first((yield from run(Select(COLLECTIONS, eq("name", name)))))


@reads("postgres")
def list_collections(ctx: Context) -> Op[list[Collection]]:
    """This agent's collections, by name."""
    return (yield from run(Select(COLLECTIONS, order=("name",))))


@writes("postgres")
def delete_collection(ctx: Context, name: str) -> Op[bool]:
    """Delete a collection with all that is in it; False if there is none."""
    return (yield from run(Delete(COLLECTIONS, eq("name", name)))) > 0


# -- grants --------------------------------------------------------------------------------------------


@writes("postgres", many=True)
def grant(ctx: Context, collection: str, agent_id: str) -> Op[CollectionGrant]:
    """Let another agent read a collection. Raises ``StorageError`` if this agent has no such collection."""
    if not agent_id or agent_id == ctx.agent:
        raise ConfigError("grant a collection", agent_id, "it is the owner's", next_step="name another agent")
    found = yield from _collection(collection)
    made = CollectionGrant(found.id, agent_id, ctx.stamp())
    yield from run(Insert(GRANTS, without(made), ignore=True))
    wanted = every(eq("collection_id", found.id), eq("grantee_agent_id", agent_id))
    [kept] = yield from run(Select(GRANTS, wanted))
    return kept  # type: ignore[no-any-return]


@writes("postgres", many=True)
def revoke(ctx: Context, collection: str, agent_id: str) -> Op[bool]:
    """Let another agent read a collection no more; False if it could not."""
    found = yield from _collection(collection)
    wanted = every(eq("collection_id", found.id), eq("grantee_agent_id", agent_id))
    return (yield from run(Delete(GRANTS, wanted))) > 0


@reads("postgres", many=True)
def list_grants(ctx: Context, collection: str) -> Op[list[CollectionGrant]]:
    """Who may read a collection beside its owner, by agent."""
    found = yield from _collection(collection)
    return (yield from run(Select(GRANTS, eq("collection_id", found.id), ("grantee_agent_id",))))


# -- documents -----------------------------------------------------------------------------------------


@writes("postgres", many=True)
def ingest(
    ctx: Context,
    collection: str,
    title: Name,
    content: str,
    source: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    chunk_size: int = SIZE,
    overlap: int = OVERLAP,
    embeddings: Sequence[Iterable[float]] | None = None,
) -> Op[Ingested]:
    """Take a document into a collection, cut into chunks (:func:`mirror.storage.chunks.split`), all of it or nothing.

    The same content is taken in once. Other content of the same ``source`` (or, without one, of the same title)
    replaces what was there. ``embeddings``: one for each chunk, in order; they can also be set later.
    """
    parts = split(content, chunk_size, overlap)
    vectors = [None] * len(parts) if embeddings is None else [embedding_of(each) for each in embeddings]
    if len(vectors) != len(parts):
        detail = f"{len(vectors)} embeddings for {len(parts)} chunks"
        raise ConfigError("take in a document", title, detail, next_step="give one for each of mirror.storage.chunks")
    found = yield from _collection(collection)
    # Changes nothing, but lets two programs not take in the same document at the same time.
    yield from run(Update(COLLECTIONS, {"name": found.name}, eq("id", found.id)))
    digest = hashlib.sha256(content.encode()).hexdigest()
    same = eq("title", title) if source is None else eq("source", source)
    equal = Any_((eq("content_hash", digest), every(same, eq("source", source))))
    there: list[Document] = yield from run(Select(DOCUMENTS, every(eq("collection_id", found.id), equal)))
    kept = next((each for each in there if each.content_hash == digest), None)
    if kept is not None:
        return Ingested(kept, tuple((yield from _chunks(kept.id))), False)
    now = ctx.stamp()
    document = Document(ctx.new_id(), found.id, title, source, digest, dict(metadata or {}), now, now)
    if there:
        document = replace(document, id=there[0].id, created_at=there[0].created_at)
        yield from run(Update(DOCUMENTS, without(document, "id", "created_at"), eq("id", document.id)))
        yield from run(Delete(CHUNKS, eq("document_id", document.id)))
    else:
        yield from run(Insert(DOCUMENTS, without(document)))
    for at, (part, vector) in enumerate(zip(parts, vectors, strict=True)):
        yield from run(Insert(CHUNKS, without(Chunk(document.id, at, found.id, part, vector, {}))))
    [written] = yield from run(Select(DOCUMENTS, eq("id", document.id)))
    return Ingested(written, tuple((yield from _chunks(document.id))), True)


def _chunks(document_id: str) -> Op[list[Chunk]]:
    return run(Select(CHUNKS, eq("document_id", document_id), ("part",)))


@writes("postgres", many=True)
def update_chunk_embeddings(ctx: Context, document_id: str, embeddings: Mapping[int, Iterable[float]]) -> Op[int]:
    """Set the embeddings of a document's chunks, by their ``part``; returns how many there were."""
    found = 0
    for part, embedding in embeddings.items():
        wanted = every(eq("document_id", document_id), eq("part", part))
        found += yield from run(Update(CHUNKS, {"embedding": embedding_of(embedding)}, wanted))
    return found


@reads("postgres", many=True)
def list_documents(ctx: Context, collection: str, limit: int = 50, offset: int = 0) -> Op[list[Document]]:
    """The documents of a collection, the one changed last first."""
    found = yield from _collection(collection)
    wanted = eq("collection_id", found.id)
    return (yield from run(Select(DOCUMENTS, wanted, ("-updated_at",), limit, offset)))


@reads("postgres")
def get_chunks(ctx: Context, document_id: str) -> Op[list[Chunk]]:
    """The chunks of a document, in order."""
    return (yield from _chunks(document_id))


@writes("postgres")
def delete_document(ctx: Context, document_id: str) -> Op[bool]:
    """Delete a document and its chunks; False if there is none."""
    return (yield from run(Delete(DOCUMENTS, eq("id", document_id)))) > 0


@reads("postgres", many=True)
def search(
    ctx: Context,
    query: str | None = None,
    embedding: Iterable[float] | None = None,
    collection: str | None = None,
    limit: int = 10,
    shared: bool = True,
) -> Op[list[ChunkResult]]:
    """Chunks by words and by an embedding, fused by their ranks, the best first.

    ``collection``: one of this agent's; None: all of them, and by words those that other agents let it read, unless
    ``shared`` is False.
    """
    where = every()
    if collection is not None:
        where = every(eq("collection_id", (yield from _collection(collection)).id))
    lists: list[list[Chunk]] = []
    if query is not None and query.strip():
        words = yield from run(Words(CHUNKS, query, limit, where))
        if shared and collection is None:
            words = words + (yield from run(Words(CHUNKS, query, limit, where, shared=True)))
        lists.append([row[0] for row in sorted(words, key=lambda row: -row[1])])
    if embedding is not None:
        near = yield from run(Near(CHUNKS, embedding_of(embedding), limit, where))
        lists.append([row[0] for row in near])
    scores: dict[tuple[str, int], float] = {}
    chunks: dict[tuple[str, int], Chunk] = {}
    for found in lists:
        for place, chunk in enumerate(found, 1):
            key = (chunk.document_id, chunk.part)
            chunks[key] = chunk
            scores[key] = scores.get(key, 0.0) + 1 / (_FLAT + place)
    best = sorted(scores, key=lambda key: (-scores[key], key))[:limit]
    return [ChunkResult(chunks[key], scores[key]) for key in best]
