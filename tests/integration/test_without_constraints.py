"""The adapter on Postgres as a mirror has made it: without the foreign keys that sql/.../constraints.sql adds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.storage import AGENT, Stores, postgres_program
from tests.support.tenants import make_tables


@pytest.fixture
def stores(folder: Path, dsn: str) -> Iterator[Stores]:
    make_tables(dsn)
    with psycopg.connect(dsn, autocommit=True) as owner:
        owner.execute("INSERT INTO agents (agent_id) VALUES (%s)", (AGENT,))
    with postgres_program(folder, dsn) as one:
        yield from one()


@pytest.mark.parametrize("how", ["delete_item", "delete_items", "delete_expired_items"])
def test_the_links_of_an_item_go_with_it(stores: Stores, how: str) -> None:
    memory = stores.adapter.memory
    kept, gone = memory.create_item("event", "kept"), memory.create_item("event", "gone", ttl=60)
    entity, category = memory.create_entity("Ada"), memory.create_category("work")
    for item in (kept, gone):
        memory.link_item_to_entity(item.id, entity.id)
        memory.link_item_to_category(item.id, category.id)
    if how == "delete_item":
        assert memory.delete_item(gone.id)
    elif how == "delete_items":
        assert memory.delete_items([gone.id]) == 1
    else:
        stores.clock.forward(seconds=61)
        assert memory.delete_expired_items() == 1
    assert stores.sql("SELECT item_id FROM item_entities") == [(kept.id,)]
    assert stores.sql("SELECT item_id FROM category_items") == [(kept.id,)]
    found = memory.get_entity(entity.id)
    assert found is not None and found.memory_count == 1


def test_nothing_is_left_that_names_what_was_deleted(stores: Stores) -> None:
    memory = stores.adapter.memory
    resource = memory.create_resource("session:1")
    item = memory.create_item("event", "kept", resource.id)
    entity, category = memory.create_entity("Ada"), memory.create_category("work")
    memory.link_item_to_entity(item.id, entity.id)
    memory.link_item_to_category(item.id, category.id)
    assert memory.delete_resource(resource.id) and memory.delete_entity(entity.id)
    assert memory.delete_category(category.id)
    found = memory.get_item(item.id)
    assert found is not None and found.resource_id is None and found.updated_at == item.updated_at
    assert stores.sql("SELECT 1 FROM item_entities UNION ALL SELECT 1 FROM category_items") == []
