"""Arguments mean the same on every store, and wrong ones are refused in the same way, before a store is asked."""

from __future__ import annotations

from tests.support.storage import Stores


def test_what_is_kept_in_extra_outlives_another_extra(stores: Stores) -> None:
    memory = stores.memory
    made = memory.create_item("event", "a", extra={"x": 1}, visibility="family", ttl=60)
    memory.update_item_summary(made.id, "b")
    changed = memory.update_item(made.id, {"extra": {"y": 2}})
    assert changed is not None and changed == memory.get_item(made.id)
    assert changed.extra["expiresAt"] == made.extra["expiresAt"] and changed.extra["visibility"] == "family"
    assert changed.extra["y"] == 2 and "x" not in changed.extra
    assert [entry["before"] for entry in memory.get_item_history(made.id)] == [{"summary": "a"}]
    named = memory.update_item(made.id, {"extra": {"visibility": "team", "expiresAt": None, "history": None}})
    assert named is not None and named.extra == {"visibility": "team"}
    stores.clock.forward(seconds=61)
    assert memory.get_item(made.id) == named
