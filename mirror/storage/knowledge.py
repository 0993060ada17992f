"""The methods of ``adapter.knowledge``: collections of documents, their grants, and search. In Postgres alone."""

from __future__ import annotations

from mirror.storage.facade import AsyncMethods, Methods, acall, call
from mirror.storage.operations import knowledge


class Knowledge(Methods):
    """Collections of documents."""

    create_collection = call(knowledge.create_collection)
    get_collection = call(knowledge.get_collection)
    list_collections = call(knowledge.list_collections)
    delete_collection = call(knowledge.delete_collection)
    grant = call(knowledge.grant)
    revoke = call(knowledge.revoke)
    list_grants = call(knowledge.list_grants)
    ingest = call(knowledge.ingest)
    update_chunk_embeddings = call(knowledge.update_chunk_embeddings)
    list_documents = call(knowledge.list_documents)
    get_chunks = call(knowledge.get_chunks)
    delete_document = call(knowledge.delete_document)
    search = call(knowledge.search)


class AsyncKnowledge(AsyncMethods):
    """:class:`Knowledge`, as coroutines."""

    create_collection = acall(knowledge.create_collection)
    get_collection = acall(knowledge.get_collection)
    list_collections = acall(knowledge.list_collections)
    delete_collection = acall(knowledge.delete_collection)
    grant = acall(knowledge.grant)
    revoke = acall(knowledge.revoke)
    list_grants = acall(knowledge.list_grants)
    ingest = acall(knowledge.ingest)
    update_chunk_embeddings = acall(knowledge.update_chunk_embeddings)
    list_documents = acall(knowledge.list_documents)
    get_chunks = acall(knowledge.get_chunks)
    delete_document = acall(knowledge.delete_document)
    search = acall(knowledge.search)
