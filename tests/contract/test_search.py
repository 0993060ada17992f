"""Searches: what every store answers. Ranks of words differ between stores; what is found and clear orders do not."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mirror.core.errors import ConfigError, UnsupportedError
from mirror.storage.memory import Memory
from mirror.storage.models.memory import ITEMS, MemoryItem
from mirror.storage.models.results import SearchResult
from mirror.storage.operations.base import Context, Operation
from mirror.storage.operations.items import visible
from mirror.storage.operations.search import CATEGORY_NAMES
from mirror.storage.places import merged
from mirror.storage.reads import READS, Reason
from mirror.storage.statements import Merged, Near, Op, Words, eq, run
from mirror.storage.tables import Embedding
from tests.support.storage import Stores, set_columns

X, Y, Z, XY = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]


def create(memory: Memory, summary: str, embedding: list[float] | None = None, **more: Any) -> MemoryItem:
    [made] = memory.create_items([{"memory_type": "event", "summary": summary, "embedding": embedding} | more])
    return made


def items(found: list[SearchResult]) -> list[str]:
    return [result.item.id for result in found]


@pytest.mark.parametrize(
    "query",
    [
        "dragon", "Dragon", "DRAGON", "dragon?", "(dragon", '"dragon', "dragon*", "-dragon", "dragon AND", "OR dragon",
        "NEAR(dragon", "dragon:", "summary:dragon", "^dragon", "dragon OR unicorns", "unicorns dragon",
        "{dragon}", "dragon + dragon", "dragon\\", "'dragon'", "dragon; DROP TABLE memory_items", "%dragon%",
        "🦊 dragon",
    ],
)  # fmt: skip
def test_operators_in_a_query_are_no_operators(memory: Memory, query: str) -> None:
    """The original passes some of them on to FTS5, whose errors it takes as a reason to search with LIKE."""
    made = create(memory, "A dragon in the garden")
    create(memory, "Nothing of that")
    assert items(memory.search_by_keyword(query)) == [made.id]
    assert memory.search_items_by_keyword(query) == [made]
    assert items(memory.search_items(query)) == [made.id]


@pytest.mark.parametrize("query", ["", " ", "\n", "%", "_", "!!!", '"', "*", "()", "🦊", "' OR 1=1 --!"[:1]])
def test_a_query_without_words_finds_nothing(memory: Memory, query: str) -> None:
    create(memory, "100% of_it! (all)")
    assert memory.search_by_keyword(query) == memory.search_items_by_keyword(query) == memory.search_items(query) == []
    assert memory.search_categories_by_keyword(query) == []
    assert memory.search_lessons(query) == []


@pytest.mark.parametrize("word", ["Zürich", "naïve", "漢字", "Москва", "שלום", "café", "ñandú"])
def test_words_of_all_scripts(memory: Memory, word: str) -> None:
    """The original strips what is not ASCII from queries."""
    made = create(memory, f"before {word} after")
    create(memory, "before after")
    assert items(memory.search_by_keyword(word)) == [made.id]
    assert items(memory.search_by_keyword(f"{word} {word}")) == [made.id]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("naive", "so naïve a plan"), ("naïve", "so naive a plan"), ("RÉSUMÉ", "my resume"), ("cafe\u0301", "the café"),
        ("café", "the cafe\u0301"), ("Zurich", "in ZÜRICH"), ("Łódź", "to Łódz"), ("x", "at x.com today"),
        ("com", "at x.com today"), ("example", "https://www.example.org/a/b?c=d"), ("path", "in /a/path/to.txt"),
        ("txt", "in /a/path/to.txt"), ("ada", "to ada@mail.example"), ("milk", "oat-milk"), ("oat-milk", "milk"),
        ("09:30", "at 09:45"), ("bold", "<b>bold</b>"), ("kind", "kind_of_word"), ("or", "this or that"),
        ("is", "it IS so"), ("the", "The end"), ("s", "the user's cup"), ("t", "don't"), ("5", "-5"), ("3", "1.2.3"),
        ("hyphen", "soft\u00adhyphen"), ("नमस्ते", "वह नमस्ते"), ("สวัสดี", "สวัสดี"), ("שָׁלוֹם", "שָׁלוֹם"), ("한국어", "한국어"),
    ],
)  # fmt: skip
def test_what_is_a_word(memory: Memory, query: str, text: str) -> None:
    """No accents, any sign between words, and the most frequent words are words; parts of words are not."""
    create(memory, "organise histories, bother others, tests, 51")
    made = create(memory, text)
    assert items(memory.search_by_keyword(query)) == [made.id]
    category = memory.create_category("c", description=text)
    assert [found.id for found in memory.search_categories_by_keyword(query)] == [category.id]
    memory.create_lesson("mistake", "others", "a bother", "organised", "histories")
    lesson = memory.create_lesson("mistake", text, "a bother", "organised", "histories")
    assert [found.id for found in memory.search_lessons_by_keyword(query)] == [lesson.id]


def test_any_of_the_words(memory: Memory) -> None:
    one, other = create(memory, "the dragon sleeps"), create(memory, "a unicorn runs")
    assert set(items(memory.search_by_keyword("dragon unicorn"))) == {one.id, other.id}


@pytest.mark.parametrize("query", ["x", "x dragon"])
def test_words_of_one_letter_count_only_alone(memory: Memory, query: str) -> None:
    letter, dragon = create(memory, "plan x"), create(memory, "a dragon")
    assert items(memory.search_by_keyword(query)) == ([letter.id] if query == "x" else [dragon.id])


@pytest.mark.parametrize("many", [200, 5000])
def test_a_long_query(memory: Memory, many: int) -> None:
    made = create(memory, "a dragon")
    query = " ".join([*(f"word{number}" for number in range(many)), "dragon"])
    assert items(memory.search_by_keyword(query)) == [made.id]


@pytest.mark.parametrize("field", ["summary", "reflection", "lesson"])
def test_all_texts_of_an_item_are_searched(memory: Memory, field: str) -> None:
    made = create(memory, **{"summary": "nothing", field: "here be dragons"})
    assert items(memory.search_by_keyword("dragons")) == [made.id]


@pytest.mark.parametrize("query", [None, 5, b"dragon", ["dragon"]])
def test_a_query_is_a_text(memory: Memory, query: Any) -> None:
    for search in (memory.search_by_keyword, memory.search_items_by_keyword):
        with pytest.raises(ConfigError):
            search(query)
    if query is not None:
        with pytest.raises(ConfigError):
            memory.search_items(query)


def test_the_index_follows_changes(memory: Memory) -> None:
    made = create(memory, "a dragon")
    memory.update_item_summary(made.id, "a unicorn")
    assert memory.search_by_keyword("dragon") == [] and items(memory.search_by_keyword("unicorn")) == [made.id]
    memory.update_item_reflection(made.id, "about griffins")
    assert items(memory.search_by_keyword("griffins")) == [made.id]
    memory.delete_item(made.id)
    assert memory.search_by_keyword("unicorn") == []


def test_scores_descend_and_stay_above_0(memory: Memory) -> None:
    """The original's fall by 0.05 a place, below 0 after twenty."""
    for number in range(30):
        create(memory, "dragon " * (30 - number))
    scores = [result.score for result in memory.search_by_keyword("dragon", 30)]
    assert len(scores) == 30 and scores == sorted(scores, reverse=True)
    assert scores[0] == 1 and scores[5] == 0.5 and scores[-1] > 0


@pytest.mark.parametrize("how", ["keyword", "vector", "items", "items by words", "items by embedding"])
def test_results_have_the_names_of_categories(memory: Memory, how: str) -> None:
    """The original leaves them empty on SQLite."""
    made, bare = create(memory, "a dragon", X), create(memory, "a dragon, too", XY)
    for name in ("b", "a", 'c "quoted", é'):
        memory.link_item_to_category(made.id, memory.create_category(name).id)
    found = {
        "keyword": lambda: memory.search_by_keyword("dragon"),
        "vector": lambda: memory.search_by_vector(X),
        "items": lambda: memory.search_items("dragon", X),
        "items by words": lambda: memory.search_items("dragon"),
        "items by embedding": lambda: memory.search_items(embedding=X),
    }[how]()
    names = {result.item.id: result.categories for result in found}
    assert names == {made.id: ("a", "b", 'c "quoted", é'), bare.id: ()}
    assert all(result.parts is None for result in found)


def test_by_embeddings(memory: Memory) -> None:
    near, middle = create(memory, "near", X), create(memory, "middle", XY)
    create(memory, "other", Y)
    create(memory, "opposite", [-1.0, 0.0, 0.0])
    create(memory, "without")
    create(memory, "of another dimension", [1.0, 0.0])
    found = memory.search_by_vector(X)
    assert items(found) == [near.id, middle.id]
    assert [result.score for result in found] == pytest.approx([1, 0.5**0.5])
    assert items(memory.search_by_vector([100.0, 0.0, 0.0])) == items(found), "by the angle, not by the length"
    assert items(memory.search_by_vector(tuple(X), 1)) == [near.id]
    assert memory.search_by_vector([1.0] * 7) == []


@pytest.mark.parametrize("size", [3, 768])
def test_equally_similar_rows_are_ordered_by_their_ids(stores: Stores, memory: Memory, size: int) -> None:
    """Whatever a float32 sum makes of them: embeddings that are equal, or of one direction, in every search.

    Postgres gives at least four times as many candidates as are wanted, and does not look at more of equal ones.
    """
    made = random.Random(size)
    direction = [made.uniform(-1, 1) for _ in range(size)]
    scales = [1.0] * 20 + [made.uniform(0.1, 9) for _ in range(20)]
    rows = memory.create_items([
        {"memory_type": "event", "summary": "x", "embedding": [scale * each for each in direction]} for scale in scales
    ])  # fmt: skip
    query = [each + 0.3 * made.uniform(-1, 1) for each in direction]
    ids = sorted(row.id for row in rows)
    for limit in (10, 39, 100, *((1, 7) if stores.kind == "sqlite" else ())):
        for found in (
            memory.search_by_vector(query, limit),
            memory.search_by_vector(query, limit, where={"summary": "x"}),
            memory.search_items(embedding=query, limit=limit),
            memory.search_items("nothing", query, limit),
        ):
            assert items(found) == ids[:limit]
    names = [memory.create_category(f"n{at}").id for at in range(20)]
    for name, scale in zip(names, scales[10:30], strict=True):
        memory.update_category_embedding(name, [scale * each for each in direction])
    assert [one.category.id for one in memory.search_categories_by_vector(query, 20)] == sorted(names)


@pytest.mark.parametrize("size", [1e-44, 1e-25, 1e18, 1e30, 3e38])
def test_the_length_of_a_query_does_not_count(memory: Memory, size: float) -> None:
    """Even where float32 cannot square its numbers."""
    even, uneven = [1.0] * 768, [1.0, 0.2] * 384
    first, second = create(memory, "dragon", even), create(memory, "dragon", uneven)
    topic = memory.create_category("topic")
    memory.update_category_embedding(topic.id, even)
    query = [size] * 768
    for found in (memory.search_by_vector(query), memory.search_items("dragon", query, explain=True)):
        assert items(found) == [first.id, second.id]
    assert [one.score for one in memory.search_by_vector(query)] == pytest.approx([1, 0.83205], rel=1e-5)
    assert [one.score for one in memory.search_categories_by_vector(query)] == pytest.approx([1])


def test_vectors_of_zeros_are_similar_to_nothing(memory: Memory) -> None:
    create(memory, "zeros", [0.0, 0.0, 0.0])
    create(memory, "near", X)
    assert memory.search_by_vector([0.0, 0.0, 0.0]) == []
    assert [result.item.summary for result in memory.search_by_vector(X)] == ["near"]


@pytest.mark.parametrize("embedding", [[], [float("nan")], [float("inf"), 1.0], ["1"], "123", 5, None, [1e300], [None]])
def test_what_is_no_embedding(memory: Memory, embedding: Any) -> None:
    made = create(memory, "x")
    with pytest.raises(ConfigError):
        memory.search_by_vector(embedding)
    with pytest.raises(ConfigError):
        memory.update_item_embedding(made.id, embedding)
    if embedding is not None:
        with pytest.raises(ConfigError):
            memory.search_items("x", embedding)
    assert memory.get_item(made.id) == made


def test_another_agents_memories_are_not_searched_by_embedding(memory: Memory) -> None:
    """The original ignores the agent."""
    create(memory, "near", X)
    assert len(memory.search_by_vector(X, agent_id="argent")) == 1
    with pytest.raises(ConfigError):
        memory.search_by_vector(X, agent_id="somebody else")


@pytest.mark.parametrize("how", ["keyword", "items by keyword", "vector", "items"])
def test_expired_items_are_not_found(stores: Stores, memory: Memory, how: str) -> None:
    kept = create(memory, "a dragon", X)
    gone = memory.create_item("event", "a dragon", ttl=60)
    memory.update_item_embedding(gone.id, X)

    def found() -> int:
        return {
            "keyword": lambda: len(memory.search_by_keyword("dragon")),
            "items by keyword": lambda: len(memory.search_items_by_keyword("dragon")),
            "vector": lambda: len(memory.search_by_vector(X)),
            "items": lambda: len(memory.search_items("dragon", X)),
        }[how]()

    assert found() == 2
    stores.clock.forward(seconds=61)
    assert found() == 1 and memory.get_item(kept.id) is not None


@pytest.mark.parametrize("gone", [1, 30])
def test_a_search_fills_its_limit_past_expired_items(stores: Stores, memory: Memory, gone: int) -> None:
    for number in range(gone):
        made = memory.create_item("event", f"a dragon dragon {number}", ttl=60)
        memory.update_item_embedding(made.id, X)
    for number in range(5):
        create(memory, f"one dragon among other words {number}", XY)
    stores.clock.forward(seconds=61)
    assert len(memory.search_by_keyword("dragon", 5)) == len(memory.search_by_vector(X, 5)) == 5
    assert len(memory.search_items("dragon", X, 5)) == 5


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"significance": "core"}, {"core"}), ({"memory_type": {"in": ["event"]}}, {"core", "plain"}),
        ({"extra.topic": "a"}, {"plain"}), ({"not": {"extra.topic": "a"}}, {"core", "profile"}),
        ({"summary": {"contains": "PLAIN"}}, {"plain"}), ({"significance": "none"}, set()),
    ],
)  # fmt: skip
def test_searches_with_a_filter(memory: Memory, where: dict[str, Any], found: set[str]) -> None:
    create(memory, "dragon core", X, significance="core")
    create(memory, "dragon plain", X, extra={"topic": "a"})
    create(memory, "dragon profile", X, memory_type="profile")
    for results in (
        memory.search_by_keyword("dragon", where=where),
        memory.search_by_vector(X, where=where),
        memory.search_items("dragon", X, where=where),
    ):
        assert {result.item.summary.split()[1] for result in results} == found


@pytest.mark.parametrize(
    ("types", "count"), [(["event"], 2), (["event", "profile"], 3), (["no"], 0), ([], 3), (None, 3)]
)
def test_types(memory: Memory, types: list[str] | None, count: int) -> None:
    """Of words, too: the original looks at the type only in what it finds by embeddings."""
    create(memory, "dragon", X)
    create(memory, "dragon", Y)
    create(memory, "dragon", X, memory_type="profile")
    assert len(memory.search_items("dragon", X, memory_types=types)) == count


def test_both_are_better_than_one(memory: Memory) -> None:
    words = create(memory, "a dragon, and many other things that are far from it")
    both, vector = create(memory, "dragon", XY), create(memory, "far", X)
    found = memory.search_items("dragon", X, explain=True)
    assert items(found) == [both.id, vector.id, words.id]
    parts = {result.item.id: result.parts or {} for result in found}
    assert parts[both.id]["words"] == pytest.approx(0.3) and parts[both.id]["vector"] == pytest.approx(0.7 / 1.2)
    assert parts[vector.id]["vector"] == pytest.approx(0.7) and "words" not in parts[vector.id]
    assert parts[vector.id]["similarity"] == pytest.approx(1)
    assert "vector" not in parts[words.id]
    for result in found:
        assert result.score == pytest.approx(sum((result.parts or {}).get(name, 0) for name in ("words", "vector")))


@pytest.mark.parametrize(("weight", "first"), [(1, "vector"), (0.9, "vector"), (0.1, "words"), (0, "words")])
def test_the_weight_of_embeddings(memory: Memory, weight: float, first: str) -> None:
    create(memory, "dragon words")
    create(memory, "the vector", X)
    found = memory.search_items("dragon", X, vector_weight=weight)
    assert found[0].item.summary.endswith(first)
    assert len(found) == (1 if weight in (0, 1) else 2)


def test_without_one_of_the_two(memory: Memory) -> None:
    words, vector = create(memory, "dragon"), create(memory, "other", X)
    assert items(memory.search_items("dragon")) == [words.id] and memory.search_items("dragon")[0].score == 1
    assert items(memory.search_items(None, X)) == [vector.id] and memory.search_items("", X)[0].score == 1
    assert memory.search_items() == [] == memory.search_items("nothing") == memory.search_items("nothing", Z)


def test_by_similarity(memory: Memory) -> None:
    near, far = create(memory, "near", X), create(memory, "far", XY)
    for _ in range(20):
        memory.reinforce_item(far.id)
    assert items(memory.search_items(embedding=X)) == [near.id, far.id]


def test_by_salience(stores: Stores, memory: Memory) -> None:
    old = create(memory, "old", X)
    stores.clock.forward(days=60)
    new, confirmed = create(memory, "new", X), create(memory, "confirmed", X)
    memory.reinforce_item(confirmed.id)
    found = memory.search_items(embedding=X, scoring="salience", explain=True)
    assert items(found) == [confirmed.id, new.id, old.id]
    parts = {result.item.id: result.parts or {} for result in found}
    assert parts[old.id]["recent"] == pytest.approx(0.25, rel=1e-3)
    assert parts[confirmed.id]["confirmed"] == pytest.approx(1.585, rel=1e-3) and parts[new.id]["confirmed"] == 1
    assert parts[old.id]["salience"] == pytest.approx(0.25, rel=1e-3)
    slow = memory.search_items(embedding=X, scoring="salience", half_life_days=60, explain=True)
    assert (slow[-1].parts or {})["recent"] == pytest.approx(0.5, rel=1e-3)


def test_by_identity(stores: Stores, memory: Memory) -> None:
    core = create(memory, "core", XY, significance="core")
    stores.clock.forward(days=365)
    bound, plain = create(memory, "bound", X), create(memory, "plain", X)
    felt = create(memory, "felt", X, emotional_valence=-2.0, emotional_arousal=1.0)
    odd = create(memory, "odd", X)
    set_columns(memory, ITEMS, odd.id, {"significance": "unheard of"})
    for name, bond in (("weak", 0.1), ("strong", 1.0)):
        memory.link_item_to_entity(bound.id, memory.create_entity(name, bond_strength=bond).id)
    found = memory.search_items(embedding=X, scoring="identity", explain=True)
    assert items(found)[:3] == [core.id, felt.id, bound.id]
    parts = {result.item.id: result.parts or {} for result in found}
    assert parts[core.id]["recent"] == 1 and parts[core.id]["identity"] == pytest.approx(2.5)
    assert parts[felt.id]["emotion"] == 2 and parts[bound.id]["bond"] == pytest.approx(1.3)
    assert parts[plain.id]["identity"] == pytest.approx(1, rel=1e-3)
    assert parts[odd.id]["identity"] == pytest.approx(1, rel=1e-3), "a significance that is not known counts as routine"


@pytest.mark.parametrize("created", ["2026-10-29 12:00:00", "2026-10-29T12:00:00.000Z"])
def test_age_is_that_of_either_form_of_a_time(stores: Stores, memory: Memory, created: str) -> None:
    made = create(memory, "old", X)
    stores.sql(f"UPDATE memory_items SET created_at = '{created}' WHERE id = '{made.id}'")
    [found] = memory.search_items(embedding=X, scoring="salience", explain=True)
    assert (found.parts or {})["recent"] == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    "arguments",
    [
        {"scoring": "best"}, {"vector_weight": 1.1}, {"vector_weight": -0.1}, {"vector_weight": float("nan")},
        {"half_life_days": 0}, {"half_life_days": -1}, {"memory_types": "event"}, {"memory_types": [1]},
        {"where": {"nothing": 1}}, {"where": []},
    ],
)  # fmt: skip
def test_wrong_arguments(memory: Memory, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        memory.search_items("dragon", X, **arguments)


def test_explained(memory: Memory) -> None:
    create(memory, "a dragon", X)
    assert (memory.search_by_vector(X, explain=True)[0].parts or {}) == pytest.approx({"similarity": 1})
    parts = memory.search_by_keyword("dragon", explain=True)[0].parts or {}
    assert parts["words"] == 1 and set(parts) == {"words", "rank"}


def test_shared_items_of_others_are_not_ones_own(stores: Stores) -> None:
    """They are in Postgres alone, and never counted as fresh."""
    memory = stores.memory
    memory.create_item("event", "a dragon", visibility="family")
    if stores.kind == "sqlite":
        for query in ("dragon", "!!!"):
            with pytest.raises(UnsupportedError, match="backend to dual"):
                memory.search_by_keyword_shared(query)
        return
    before = READS.values()
    assert memory.search_by_keyword_shared("dragon") == memory.search_by_keyword_shared("!!!") == []
    with pytest.raises(ConfigError):
        memory.search_by_keyword_shared(5)  # type: ignore[arg-type]
    counted = {key: number - before.get(key, 0) for key, number in READS.values().items()}
    assert {key: number for key, number in counted.items() if number} == {("postgres", Reason.SHARED): 2}


@pytest.mark.parametrize("filtered", [False, True], ids=["all", "filtered"])
def test_two_lists_become_one_as_the_rule_says(memory: Memory, filtered: bool) -> None:
    """Whether it is done in the store's SQL or here: the same rows in the same order, with the same places."""
    made = random.Random(7)
    memory.create_items([
        {
            "memory_type": made.choice(["event", "fact"]),
            "summary": " ".join(made.choices(["dragon", "garden", "tea", "moon", "ship"], k=made.randint(1, 6))),
            "embedding": [made.uniform(-0.3, 1) for _ in range(3)] if number % 3 else None,
            "significance": made.choice(["routine", "core"]),
        }
        for number in range(60)
    ])  # fmt: skip

    def both(ctx: Context, weight: float, candidates: int, limit: int) -> Op[tuple[Any, Any]]:
        wanted = visible(ctx, eq("significance", "core") if filtered else None)
        near = Near(ITEMS, Embedding(X), candidates, wanted, (CATEGORY_NAMES,))
        words = Words(ITEMS, "dragon moon", candidates, wanted, along=(CATEGORY_NAMES,))
        expected = merged((yield from run(near)), (yield from run(words)), weight, limit)
        return (yield from run(Merged(near, words, weight, limit))), expected

    operation = Operation(both, "memory", reads=True, many=True)
    for weight in (0.0, 0.3, 0.7, 1.0):
        for candidates, limit in ((40, 20), (40, 1), (8, 4), (3, 10), (0, 5), (5, 0), (200, 200)):
            found, expected = memory._runner.run(operation, (weight, candidates, limit), {})
            assert [(row.id, *more) for row, *more in found] == [(row.id, *more) for row, *more in expected]
            assert len(found) == len(expected) and (limit == 0 or candidates == 0 or found)
