"""Arguments mean the same on every store, and wrong ones are refused in the same way, before a store is asked."""

from __future__ import annotations

import inspect
import math
import traceback
import typing
from collections.abc import Callable
from typing import Any

import pytest

from mirror.core.errors import ConfigError, MirrorError, SinkError
from mirror.storage.agent_sessions import AgentSessions
from mirror.storage.filters import MOST_DEPTH
from mirror.storage.jobs import Jobs
from mirror.storage.keys import Keys
from mirror.storage.knowledge import Knowledge
from mirror.storage.secrets import Keyring
from mirror.storage.tables import MOST_DEPTH as MOST_JSON_DEPTH
from tests.support.storage import Stores

NO_TIMES = [
    "", "x", "yesterday", "20261128", "2026-11", "2026-11-28T07", "2026-11-31", "2026-11-28T24:00", "2026-11-28T10:60",
    "2026-11-28T10:00:60", "2026-11-28T10:00+18:00", "2026-11-28T10:00+0200", "2026-11-28 10:00:00 ", "now",
    "2026-W48-6", "0000-01-01", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00+01:00", "10000-01-01", "２０２６-11-28",
    "2026-11-28T10:00:00,5", "2026-11-28T10:00:00.", "2026-11-28\0",
]  # fmt: skip
#: Forms of times, and the same moments in another.
TIMES = {
    "2026-11-28": "2026-11-28 00:00:00", "2026-11-28T07:30": "2026-11-28T07:30:00Z",
    "2026-11-28 07:30:01": "2026-11-28T08:30:01+01:00", "2026-11-28T07:30:01.5Z": "2026-11-28 07:30:01.500",
    "2026-11-28T07:30:01+14:00": "2026-11-27T17:30:01Z", "2026-11-28 07:30-14:00": "2026-11-28T21:30",
    "2026-11-28T07:30:01.442Z": "2026-11-28T07:30:01.442000Z", "0001-01-01": "0001-01-01T00:00:00.000Z",
    "2024-02-29T23:59:59.999": "2024-03-01T00:59:59.999+01:00",
}  # fmt: skip


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


WRONG_TEXTS: list[Any] = [None, 5, "a\0b", "\ud800", ["a"], b"a"]
WRONG_LISTS: list[Any] = ["id", 5, b"id", [None], [5], ["a\0"], {"a": 1}]
WRONG_NUMBERS: list[Any] = ["5", 1.5, True, [], "x"]
DEEP: dict[str, Any] = {}
for _ in range(600):
    DEEP = {"not": DEEP}

Call = Callable[[Stores, Any], Any]
CALLS: dict[str, tuple[Call, list[Any]]] = {
    "get_item": (lambda s, x: s.memory.get_item(x), WRONG_TEXTS),
    "create_item summary": (lambda s, x: s.memory.create_item("event", x), WRONG_TEXTS),
    "create_item memory_type": (lambda s, x: s.memory.create_item(x, "a"), [*WRONG_TEXTS, "", " "]),
    "create_item extra": (
        lambda s, x: s.memory.create_item("event", "a", extra=x),
        [5, "x", [], {"a": "\0"}, {"a\0": 1}, {"a": ["\ud800"]}, {"a": math.nan}, {"a": {1, 2}}, {5: 1}, {"a": DEEP},
         {"a": [0.5, math.inf]}, {"a": [0.5, "\0"]}, {"a": [[0.5], [-math.inf]]}],
    ),
    "create_item happened_at": (lambda s, x: s.memory.create_item("event", "a", happened_at=x), [5, *NO_TIMES]),
    "create_item significance": (lambda s, x: s.memory.create_item("event", "a", significance=x), [None, "", "high"]),
    "create_item emotion": (
        lambda s, x: s.memory.create_item("event", "a", emotional_valence=x),
        ["1", None, math.nan, math.inf, 10**400, True],
    ),
    "create_item ttl": (lambda s, x: s.memory.create_item("event", "a", ttl=x), ["1", math.nan, -1, 10**400, True]),
    "create_items": (
        lambda s, x: s.memory.create_items(x),
        [
            None, 5, "ab", [None], ["ab"], {"a": 1}, [{"memory_type": "event", "summary": "a", "happened_at": "x"}],
            [{"memory_type": "event", "summary": "a", "significance": 5}],
            [{"memory_type": "event", "summary": "a", "embedding": [0.5, math.nan]}],
            [{"memory_type": "event", "summary": "a", "embedding": [0.5, math.inf]}],
        ],
    ),
    "update_item": (
        lambda s, x: s.memory.update_item("id", x),
        [None, 5, "x", [], {"id": "x"}, {"summary": None}, {"summary": "\0"}, {"happened_at": "yesterday"},
         {"significance": "x"}, {"embedding": "x"}, {"extra": {"a": "\0"}}],
    ),
    "update_item_embedding": (
        lambda s, x: s.memory.update_item_embedding("id", x),
        [None, "x", b"abcd", [], ["1"], [math.nan], [1e39], [0.0] * 16_001, {1: 2}],
    ),
    "update_item_embeddings": (
        lambda s, x: s.memory.update_item_embeddings(x),
        [None, "x", [], {"a": None}, {5: [1.0]}, {"a": [1.0], "b": ["x"]}],
    ),
    "get_items": (lambda s, x: s.memory.get_items(x), [None, *WRONG_LISTS]),
    "delete_items": (lambda s, x: s.memory.delete_items(x), [None, *WRONG_LISTS]),
    "list_items limit": (lambda s, x: s.memory.list_items(limit=x), [None, -1, *WRONG_NUMBERS]),
    "list_items offset": (lambda s, x: s.memory.list_items(offset=x), [None, -1, *WRONG_NUMBERS]),
    "list_items resource": (lambda s, x: s.memory.list_items(resource_id=x), [math.nan, 5, "\0", "\ud800"]),
    "list_live_candidates": (lambda s, x: s.memory.list_live_candidates(expires_before=x), [5, *NO_TIMES]),
    "search_by_keyword": (lambda s, x: s.memory.search_by_keyword(x), WRONG_TEXTS),
    "search_by_vector": (lambda s, x: s.memory.search_by_vector(x), [None, "x", [], [math.inf], [0.5] * 16_001]),
    "where": (
        lambda s, x: s.memory.list_items(where=x),
        [
            5, DEEP, {5: 1}, {"summary": "\0"}, {"summary\0": "a"}, {"extra.a": "\ud800"}, {"extra.a\0": 1},
            {"extra.a": math.nan}, {"extra.a": 2**70}, {"extra.a": {"gt": True}}, {"emotional_valence": 10**400},
            {"emotional_valence": math.inf}, {"reinforcement_count": math.nan}, {"summary": {"contains": "\0"}},
            {"summary": {"in": ["a", "\0"]}}, {"summary": {"in": b"abc"}}, {"or": [{"summary": "a"}] * 501},
            {"or": [{"or": [{"summary": "a"}] * 30}] * 30},
            *[{"created_at": {"lt": text}} for text in NO_TIMES],
        ],
    ),
    "tasks.create title": (lambda s, x: s.tasks.create(x), [*WRONG_TEXTS, "", " "]),
    "tasks.create tags": (lambda s, x: s.tasks.create("a", tags=x), WRONG_LISTS),
    "tasks.create depends_on": (lambda s, x: s.tasks.create("a", depends_on=x), WRONG_LISTS),
    "tasks.create priority": (lambda s, x: s.tasks.create("a", priority=x), ["", "asap", 5]),
    "tasks.create due_at": (lambda s, x: s.tasks.create("a", due_at=x), [2**60, -(2**60), *WRONG_NUMBERS]),
    "tasks.create metadata": (lambda s, x: s.tasks.create("a", metadata=x), ["x", [], 5, {"a": "\0"}]),
    "tasks.get": (lambda s, x: s.tasks.get(x), WRONG_TEXTS),
    "tasks.update status": (lambda s, x: s.tasks.update("id", status=x), [None, "", "done", 5]),
    "tasks.update title": (lambda s, x: s.tasks.update("id", title=x), [None, "", 5]),
    "tasks.list status": (lambda s, x: s.tasks.list(status=x), [5, "done", ["done"], [5], {"pending": 1}]),
    "tasks.list due": (lambda s, x: s.tasks.list(due_before=x), [2**60, *WRONG_NUMBERS]),
    "tasks.list tags": (lambda s, x: s.tasks.list(tags=x), WRONG_LISTS),
    "tasks.complete": (lambda s, x: s.tasks.complete(x), WRONG_TEXTS),
    "tasks.create_project": (
        lambda s, x: s.tasks.create_project("a", x),
        [None, "ab", [None], [{}], [{"title": ""}], [{"title": "b", "tags": "cd"}], [{"title": "b", "priority": "x"}]],
    ),
    "teams.create": (lambda s, x: s.teams.create(x, "key"), [*WRONG_TEXTS, "", " "]),
    "teams.list": (lambda s, x: s.teams.list(x), ["", "on", 5]),
    "teams.add_member": (lambda s, x: s.teams.add_member("id", "key", x), [None, "", "boss", 5]),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_wrong_arguments(stores: Stores, name: str) -> None:
    call, wrong = CALLS[name]
    for value in wrong:
        with pytest.raises(ConfigError) as error:
            call(stores, value)
        assert "\n" not in str(error.value) and error.value.next_step and error.value.place, (value, str(error.value))
    assert stores.memory.count_items() == 0 and stores.tasks.list() == [] and stores.teams.list(None) == []


def test_calls_that_do_not_fit_the_signature(stores: Stores) -> None:
    wrong: list[Callable[[Any], Any]] = [
        lambda memory: memory.create_item("event"), lambda memory: memory.create_item("event", "a", nothing=1),
        lambda memory: memory.get_item("a", "b"), lambda memory: memory.get_item("a", item_id="b"),
    ]  # fmt: skip
    for call in wrong:
        with pytest.raises(ConfigError, match=r"call (create|get)_item"):
            call(stores.memory)


@pytest.mark.parametrize("text", TIMES)
def test_times(stores: Stores, text: str) -> None:
    made = stores.memory.create_item("event", "a", happened_at=text)
    assert made.happened_at == text and stores.memory.get_item(made.id) == made
    wanted = {"happened_at": TIMES[text]}
    assert stores.memory.count_items(where=wanted) == stores.memory.count_items(where={"happened_at": text}) == 1
    assert stores.memory.count_items(where={"happened_at": {"gt": text}}) == 0


NUMBERS: list[tuple[dict[str, Any], int]] = [
    ({"reinforcement_count": 1.0}, 2), ({"reinforcement_count": 1.5}, 0), ({"reinforcement_count": {"ne": 1.5}}, 2),
    ({"reinforcement_count": {"gt": 0.5}}, 2), ({"reinforcement_count": {"gt": 1.5}}, 0),
    ({"reinforcement_count": {"gte": 1.5}}, 0), ({"reinforcement_count": {"lt": 1.5}}, 2),
    ({"reinforcement_count": {"lte": 0.5}}, 0), ({"reinforcement_count": {"lt": 1e300}}, 2),
    ({"reinforcement_count": {"gt": 1e300}}, 0), ({"reinforcement_count": {"gt": -(2**70)}}, 2),
    ({"reinforcement_count": {"in": [1.5, 1, 2**70]}}, 2), ({"extra.a": {"gt": -1e300}}, 1),
    ({"extra.a": {"contains": "1"}}, 0), ({"extra.b": {"contains": "r"}}, 0), ({"extra.list": {"contains": "1"}}, 0),
    ({"extra.list": {"contains": "x"}}, 1), ({"extra.object": {"contains": "x"}}, 0),
    ({"extra.text": {"contains": "1"}}, 1), ({"not": {"extra.a": {"contains": "1"}}}, 2),
]  # fmt: skip


def test_numbers_and_members(stores: Stores) -> None:
    extra = {"a": 1, "b": True, "list": [1, "x"], "object": {"x": "x"}, "text": "a1"}
    stores.memory.create_item("event", "a", extra=extra)
    stores.memory.create_item("event", "b")
    for where, found in NUMBERS:
        assert stores.memory.count_items(where=where) == found, where


def test_filters_as_deep_as_may_be(stores: Stores) -> None:
    stores.memory.create_item("event", "a")
    for name, count in (("not", MOST_DEPTH), ("or", 2 * (MOST_DEPTH // 2))):
        where: dict[str, Any] = {"summary": "a", "significance": "routine"}
        for _ in range(count):
            where = {"not": where} if name == "not" else {"or": [where, {"summary": "b"}]}
        assert stores.memory.count_items(where=where) == 1
        with pytest.raises(ConfigError):
            stores.memory.count_items(where={"and": [{"not": where}]})


def test_extra_as_deep_as_may_be(stores: Stores) -> None:
    extra: dict[str, Any] = {}
    for _ in range(MOST_JSON_DEPTH - 1):
        extra = {"a": extra}
    made = stores.memory.create_item("event", "a", extra=extra)
    assert stores.memory.get_item(made.id) == made


def test_a_list_may_be_read_once(stores: Stores) -> None:
    made = [stores.memory.create_item("event", text) for text in "ab"]
    assert stores.memory.get_items(item.id for item in made) == made
    assert stores.tasks.create("a", tags=iter(["x", "y"])).tags == ("x", "y")  # type: ignore[arg-type]
    assert stores.tasks.list(status=["pending"] * 70_000)[0].title == "a"


@pytest.mark.slow
def test_long_lists(stores: Stores) -> None:
    made = [stores.memory.create_item("event", text, extra={"a": text}) for text in "ab"]
    many = [f"{number}" for number in range(70_000)]
    assert stores.memory.get_items([made[1].id, *many, made[0].id]) == made[::-1]
    for column, value in (
        ("summary", "a"), ("extra.a", "a"), ("happened_at", None), ("reinforcement_count", 1), ("emotional_valence", 0),
    ):  # fmt: skip
        values: list[Any] = [value, *range(5, 70_000)] if isinstance(value, int) else [value, *many]
        if column == "happened_at":
            values = [None, *[f"2026-11-28T10:00:00.{number}" for number in range(70_000)]]
        assert made[0] in stores.memory.list_items(where={column: {"in": values}}), column
    assert stores.memory.count_items(where={"or": [{"summary": text} for text in ["a"] * 500]}) == 1
    with pytest.raises(ConfigError):
        stores.tasks.list(tags=many)
    with pytest.raises(ConfigError):
        stores.memory.get_relevant_lessons(many)
    assert stores.tasks.list(tags=many[:500]) == [] == stores.memory.get_relevant_lessons(many[:500])
    assert stores.memory.delete_items([*many, made[0].id]) == 1


def test_rows_are_hashed_by_their_key(stores: Stores) -> None:
    made = stores.memory.create_item("event", "a", extra={"x": [1]})
    found = stores.memory.get_item(made.id)
    assert hash(made) == hash(found) and len({made, found, stores.memory.create_item("event", "b")}) == 2
    assert len({stores.tasks.create("a", metadata={"x": []}), stores.tasks.create("b")}) == 2


VALUES: list[Any] = [
    None, 5, -1, 0, 2**70, 1.5, math.nan, True, "", "x", "a\0", "\ud800", b"x", [], [None], ["\ud800"], [math.inf], {},
    {5: 1}, {"a\0": 1}, {"x": object()}, {"x": None}, object(), "2026-13-01",
]  # fmt: skip


def _plain(hint: Any) -> Any:
    """A value that fits a parameter."""
    text = str(hint)
    for part, value in (
        ("Mapping", {}), ("float]", [1.0]), ("Sequence", ["x"]), ("Iterable", ["x"]), ("'time'", "2026-11-28"),
        ("bool", True), ("int", 1), ("float", 0.5),
    ):  # fmt: skip
        if part in text:
            return value
    return typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Literal else "x"


def _no_other_error(methods: Any) -> int:
    """Call each method with each of the values in the place of each argument; returns how many calls there were."""
    calls, wrong = 0, []
    for name, function in inspect.getmembers(type(methods), callable):
        if name.startswith("_") or name in ("rotate", "resolve_session_tool_policy_for_assignment"):
            continue
        original = inspect.unwrap(function)
        hints = typing.get_type_hints(original, include_extras=True)
        parameters = list(inspect.signature(original).parameters.values())[1:]
        needed = {each.name: _plain(hints[each.name]) for each in parameters if each.default is each.empty}
        needed.pop("more", None)
        for parameter in parameters:
            for value in VALUES:
                calls += 1
                try:
                    getattr(methods, name)(**needed | {parameter.name: value})
                except MirrorError as error:
                    if isinstance(error, SinkError) or "\n" in str(error):
                        wrong.append((name, parameter.name, value, str(error)))
                except Exception as error:
                    wrong.append((name, parameter.name, value, repr(error)))
    assert not wrong, (len(wrong), wrong[:20])
    return calls


@pytest.mark.parametrize("name", ["memory", "tasks", "teams"])
def test_no_other_error_comes_out(stores: Stores, name: str) -> None:
    if stores.kind != "dual":  # as the two others together
        assert _no_other_error(getattr(stores, name)) > 100


@pytest.mark.parametrize("name", ["jobs", "knowledge", "sessions", "keys"])
def test_no_other_error_comes_out_of_what_postgres_has(postgres_stores: Stores, name: str) -> None:
    runner = postgres_stores.memory._runner
    keys = Keys(runner, lambda: Keyring([bytes(32)]))
    methods = {"jobs": Jobs(runner), "knowledge": Knowledge(runner), "sessions": AgentSessions(runner), "keys": keys}
    assert _no_other_error(methods[name]) > 100


@pytest.mark.parametrize(
    "call",
    [
        lambda keys: keys.set_service_key("N", None), lambda keys: keys.set_service_key("", "s3cret"),
        lambda keys: keys.set_service_key("N", "s3cret\ud800"), lambda keys: keys.set_service_key("N"),
        lambda keys: keys.set_service_key("N", "s3cret", nothing="s3cret"),
        lambda keys: keys.set_service_key("N", "s3cret", allowed_roles="owner"),
        lambda keys: keys.set_credential("p", "x", None), lambda keys: keys.set_credential("p", "x", {"k": {"s3cret"}}),
        lambda keys: keys.set_credential("p", "x", {"k": "s3cret\ud800"}),
        lambda keys: keys.set_credential("p", "x", {}, credential_type="s"),
        lambda keys: keys.reveal_service_key("N", 5),
    ],
)  # fmt: skip
def test_no_error_shows_a_secret(postgres_stores: Stores, call: Callable[[Keys], Any]) -> None:
    with pytest.raises(ConfigError) as error:
        call(Keys(postgres_stores.memory._runner, lambda: Keyring([bytes(32)])))
    assert "s3cret" not in "".join(traceback.format_exception_only(error.value))
