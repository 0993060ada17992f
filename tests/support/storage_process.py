"""A program that calls each method of ``adapter.memory`` on a file, with a library of SQLite, with or without vec0.

``python -m tests.support.storage_process sqlite3|apsw yes|no memory.db``: prints what it made, as JSON.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any


class _Recorder:
    """The methods, noting which were called."""

    def __init__(self, memory: Any) -> None:
        self._memory = memory
        self.called: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.called.add(name)
        return getattr(self._memory, name)


def main(driver: str, vectors: str, database: str) -> None:
    """Run all of it."""
    importlib.import_module(driver)  # what is loaded is what the store uses
    if vectors == "no":
        sys.modules["sqlite_vec"] = None  # type: ignore[assignment]  # as if it were not installed
    from mirror.storage.memory import Memory
    from mirror.storage.on_sqlite.store import SQLiteStore
    from mirror.storage.operations.base import Context
    from tests.support.clock import Clock

    other = {"sqlite3": "apsw", "apsw": "_sqlite3"}[driver]
    store = SQLiteStore(Path(database))
    context = Context("main", Clock())

    class _Runner:
        def run(self, operation: Any, args: Any, kwargs: Any) -> Any:
            return store.run(context, operation, args, kwargs)

    with store._session() as session:
        execute = session.connection.execute
        able = vectors == "yes" and session.vectors
        if able:
            for name in ("memory_items", "entities", "categories"):  # as the original does when it opens the file
                execute(f"CREATE VIRTUAL TABLE IF NOT EXISTS vec_{name} USING vec0(embedding float[768])")
            for table, name in (("memory_items", "memory_items"), ("entities", "entities")):
                execute(
                    f"INSERT INTO vec_{name}(rowid, embedding) SELECT rowid, embedding FROM {table}"
                    f" WHERE length(embedding) = 3072 AND rowid NOT IN (SELECT rowid FROM vec_{name})"
                )
    memory = _Recorder(Memory(_Runner()))
    made = call_all(memory)
    counts = {}
    with store._session() as session:
        if able:
            execute = session.connection.execute
            for table, name in (("memory_items", "memory_items"), ("entities", "entities"),
                                ("memory_categories", "categories")):  # fmt: skip
                [(wrong,)] = execute(
                    f"SELECT count(*) FROM (SELECT rowid, embedding FROM vec_{name} EXCEPT"
                    f" SELECT rowid, embedding FROM {table} WHERE embedding IS NOT NULL)"
                )
                [(kept,)] = execute(f"SELECT count(*) FROM vec_{name}")
                [(own,)] = execute(f"SELECT count(*) FROM {table} WHERE length(embedding) = 3072")
                counts[name] = [wrong, kept, own]
    store.close()
    public = {name for name in vars(Memory) if not name.startswith("_")}
    print(json.dumps({
        "made": made, "not called": sorted(public - memory.called), "vectors": counts,
        "other library": other in sys.modules, "able": able, "compares": memory.get_stats().vec_available,
    }))  # fmt: skip
    store.close()


def call_all(memory: Any) -> dict[str, str]:
    """Call each method; returns the ids of what stays."""
    from mirror.core.errors import UnsupportedError

    x, y = [1.0] + [0.0] * 767, [0.0, 1.0] + [0.0] * 766
    resource = memory.create_resource("session:new", caption="what was said")
    memory.get_resource(resource.id), memory.list_resources()
    memory.update_resource_embedding(resource.id, x)
    memory.delete_resource(memory.create_resource("gone").id)
    item = memory.create_item(
        "event", "Zanzibar was warm", resource.id, "2026-11-01T00:00:00.000Z",
        {"b": 1.0, "a": ["é", None, True, 0.5], "ü": {}}, 1, 0.5, "calm", "core", "far away", "go again",
    )  # fmt: skip
    [batch, gone, also] = memory.create_items(
        [{"memory_type": "event", "summary": f"batch {n}", "embedding": y} for n in range(3)]
    )
    memory.get_item(item.id), memory.get_items([item.id]), memory.list_items(), memory.count_items()
    memory.find_item_by_hash(item.content_hash), memory.get_item_history(item.id)
    memory.update_item_embedding(item.id, x), memory.update_item_embeddings({batch.id: x})
    memory.reinforce_item(item.id), memory.update_item_summary(batch.id, "Changed to quokka")
    memory.update_item_significance(batch.id, "important"), memory.update_item_emotion(batch.id, -1, 1)
    memory.update_item_reflection(batch.id, "about wallabies", "hop"), memory.update_item(batch.id, {"lesson": None})
    category = memory.create_category("Fjords", "narrow water")
    memory.get_category(category.id), memory.get_category_by_name("Fjords"), memory.list_categories()
    memory.get_or_create_category("Fjords"), memory.update_category_name(category.id, "Fjords and bays")
    memory.update_category_summary(category.id, "Deep"), memory.update_category_embedding(category.id, x)
    memory.link_item_to_category(item.id, category.id), memory.get_category_items(category.id)
    memory.get_category_item_count(category.id), memory.get_item_categories(item.id)
    memory.link_item_to_category(batch.id, category.id), memory.unlink_item_from_category(batch.id, category.id)
    unwanted = memory.create_category("Unwanted")
    memory.update_category_embedding(unwanted.id, y), memory.delete_category(unwanted.id)
    memory.search_categories_by_keyword("fjords"), memory.search_categories_by_vector(x)
    entity = memory.create_entity("Quentin", "person", "friend", 1, "warm")
    memory.get_entity(entity.id), memory.find_entity_by_name("quentin"), memory.get_or_create_entity("QUENTIN")
    memory.list_entities(), memory.update_entity(entity.id, {"profile_summary": "reads"})
    memory.update_entity_embedding(entity.id, x)
    for linked in (item, gone, batch):
        memory.link_item_to_entity(linked.id, entity.id, "subject")
    memory.unlink_item_from_entity(batch.id, entity.id), memory.get_entity_items(entity.id)
    memory.get_item_entities(item.id), memory.get_item_entity_bond_map([item.id])
    memory.delete_item(gone.id), memory.delete_items([also.id]), memory.delete_expired_items()
    stranger = memory.create_entity("Stranger")
    memory.update_entity_embedding(stranger.id, y), memory.delete_entity(stranger.id)
    memory.search_entities_by_keyword("quen"), memory.search_entities_by_vector(x)
    reflection = memory.create_reflection("evening_cron", "A day", lessons_extracted=["one é"], mood="calm")
    memory.get_reflection(reflection.id), memory.list_reflections(), memory.get_recent_reflections()
    given = {"context": "a build", "action": "ran", "outcome": "broke", "tags": ["ci", 'q"é']}
    lesson = memory.create_lesson("mistake", lesson="Xylophones need care", **given)
    decayed = memory.create_lesson("success", lesson="Xylophones are loud", **given)
    memory.get_lesson(lesson.id), memory.list_lessons(), memory.count_lessons(), memory.search_lessons("xylophones")
    memory.search_lessons_by_keyword("xylophones"), memory.get_lessons_by_tool("make"), memory.get_lessons_by_tag("ci")
    memory.get_relevant_lessons(["make"], "xylophones"), memory.reinforce_lesson(lesson.id)
    memory.decay_lesson(decayed.id, 0.25), memory.decay_lessons(3650, 0.1)
    memory.merge_lesson_occurrences(decayed.id, 2, ["a", "b"])
    memory.delete_lesson(memory.create_lesson("mistake", lesson="gone", **given).id)
    skill = memory.create_personal_skill_candidate("Deploy", "How to", execution_steps=["build", "é"], confidence=1)
    memory.get_personal_skill_candidate(skill.id), memory.list_personal_skill_candidates()
    memory.update_personal_skill_candidate(skill.id, {"usage_count": 2, "last_used_at": "2026-11-28T12:00:00.000Z"})
    memory.delete_personal_skill_candidate(memory.create_personal_skill_candidate("x", "y").id)
    review = memory.create_personal_skill_review_event(skill.id, "operator", "promoted", details={"n": 1.0})
    memory.list_personal_skill_review_events(skill.id)
    facts = [memory.create_live_candidate("user", "preference", f"fact {n}", 0.5, "s") for n in range(4)]
    memory.get_live_candidate(facts[0].id), memory.list_live_candidates(), memory.get_live_candidate_stats()
    memory.mark_live_candidate_promoted(facts[0].id, item.id, "x"), memory.mark_live_candidate_merged(facts[1].id, "i")
    memory.mark_live_candidate_discarded(facts[2].id, "noise"), memory.mark_live_candidate_expired([facts[3].id])
    memory.record_promotion_event(facts[0].id, "sis", "retry", "error", None, "why")
    memory.list_promotion_events(facts[0].id)
    feedback = memory.record_model_feedback("p", "m", "fast", "chat", 1, 100, True, session_key="new session")
    memory.get_model_feedback(feedback.id), memory.get_latest_model_feedback_id("new session")
    memory.update_model_feedback_self_eval(feedback.id, 1, "fine")
    memory.update_model_feedback_user_rating("new session", "up"), memory.get_model_performance_stats()
    memory.get_model_performance_by_tier(), memory.count_model_feedback(), memory.get_stats()
    assert [one.item.id for one in memory.search_by_keyword("zanzibar")] == [item.id]
    with contextlib.suppress(UnsupportedError):  # other agents' rows are in Postgres
        raise AssertionError(memory.search_by_keyword_shared("zanzibar"))
    assert [one.id for one in memory.search_items_by_keyword("quokka wallabies")] == [batch.id]
    assert {one.item.id for one in memory.search_by_vector(x, 2)} == {item.id, batch.id}
    assert memory.search_items("zanzibar", x, scoring="identity", explain=True)[0].item.id == item.id
    return {
        "resources": resource.id, "memory_items": item.id, "changed": batch.id, "memory_categories": category.id,
        "entities": entity.id, "reflections": reflection.id, "lessons": lesson.id, "decayed": decayed.id,
        "personal_skill_candidates": skill.id, "personal_skill_reviews": review.id,
        "live_memory_candidates": facts[0].id, "expired": facts[3].id, "model_feedback": feedback.id,
    }  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
