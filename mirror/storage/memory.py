"""The methods of ``adapter.memory``."""

from __future__ import annotations

from mirror.storage.facade import AsyncMethods, Methods, acall, call
from mirror.storage.operations import items


class Memory(Methods):
    """Memories, their topics, the entities in them, and what was learned."""

    create_resource = call(items.create_resource)
    get_resource = call(items.get_resource)
    list_resources = call(items.list_resources)
    update_resource_embedding = call(items.update_resource_embedding)
    delete_resource = call(items.delete_resource)
    create_item = call(items.create_item)
    create_items = call(items.create_items)
    get_item = call(items.get_item)
    get_items = call(items.get_items)
    list_items = call(items.list_items)
    count_items = call(items.count_items)
    find_item_by_hash = call(items.find_item_by_hash)
    delete_item = call(items.delete_item)
    delete_items = call(items.delete_items)
    update_item_embedding = call(items.update_item_embedding)
    update_item_embeddings = call(items.update_item_embeddings)
    reinforce_item = call(items.reinforce_item)
    update_item_summary = call(items.update_item_summary)
    update_item_significance = call(items.update_item_significance)
    update_item_emotion = call(items.update_item_emotion)
    update_item_reflection = call(items.update_item_reflection)
    update_item = call(items.update_item)
    get_item_history = call(items.get_item_history)
    delete_expired_items = call(items.delete_expired_items)


class AsyncMemory(AsyncMethods):
    """:class:`Memory`, as coroutines."""

    create_resource = acall(items.create_resource)
    get_resource = acall(items.get_resource)
    list_resources = acall(items.list_resources)
    update_resource_embedding = acall(items.update_resource_embedding)
    delete_resource = acall(items.delete_resource)
    create_item = acall(items.create_item)
    create_items = acall(items.create_items)
    get_item = acall(items.get_item)
    get_items = acall(items.get_items)
    list_items = acall(items.list_items)
    count_items = acall(items.count_items)
    find_item_by_hash = acall(items.find_item_by_hash)
    delete_item = acall(items.delete_item)
    delete_items = acall(items.delete_items)
    update_item_embedding = acall(items.update_item_embedding)
    update_item_embeddings = acall(items.update_item_embeddings)
    reinforce_item = acall(items.reinforce_item)
    update_item_summary = acall(items.update_item_summary)
    update_item_significance = acall(items.update_item_significance)
    update_item_emotion = acall(items.update_item_emotion)
    update_item_reflection = acall(items.update_item_reflection)
    update_item = acall(items.update_item)
    get_item_history = acall(items.get_item_history)
    delete_expired_items = acall(items.delete_expired_items)
