"""What is created is what is read, of every kind and with every argument; and wrong arguments are refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mirror.core.errors import ConfigError, MirrorError
from mirror.storage.memory import Memory
from mirror.storage.models.memory import (
    CANDIDATES,
    CATEGORIES,
    ENTITIES,
    FEEDBACK,
    ITEMS,
    LESSONS,
    REFLECTIONS,
    RESOURCES,
    SKILLS,
)
from tests.contract.kinds import DELETABLE, KINDS

TABLES = {
    "resource": RESOURCES,
    "item": ITEMS,
    "category": CATEGORIES,
    "entity": ENTITIES,
    "reflection": REFLECTIONS,
    "lesson": LESSONS,
    "skill": SKILLS,
    "candidate": CANDIDATES,
    "feedback": FEEDBACK,
}
ARGUMENTS = [(name, argument) for name, kind in KINDS.items() for argument in kind.full]
#: Arguments that are no column, or one of another name or type.
_NOT_COLUMNS = {"ttl_hours"}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_created_is_what_is_read(memory: Memory, name: str) -> None:
    kind = KINDS[name]
    made = kind.make(memory)
    assert kind.read(memory, made) == made
    for argument, value in kind.least.items():
        assert getattr(made, argument) == value


@pytest.mark.parametrize("name", KINDS)
def test_with_all_arguments(memory: Memory, name: str) -> None:
    kind = KINDS[name]
    made = kind.make(memory, **kind.full)
    assert kind.read(memory, made) == made


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_each_argument_alone(memory: Memory, name: str, argument: str) -> None:
    kind = KINDS[name]
    value = kind.full[argument]
    made = kind.make(memory, **{argument: value})
    assert kind.read(memory, made) == made
    if argument not in _NOT_COLUMNS:
        assert getattr(made, argument) == (tuple(value) if isinstance(value, list) else value)
        assert getattr(made, argument) != getattr(KINDS[name].make(memory, **_other(name)), argument)


def _other(name: str) -> dict[str, Any]:
    """What makes a second row unlike the first."""
    return {"category": {"name": "2"}, "entity": {"name": "2"}, "candidate": {"fact_text": "2"}}.get(name, {})


@pytest.mark.parametrize("name", KINDS)
def test_rows_are_frozen(memory: Memory, name: str) -> None:
    made = KINDS[name].make(memory)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.id = "other"


@pytest.mark.parametrize("name", KINDS)
def test_what_is_not_there_is_none(memory: Memory, name: str) -> None:
    assert getattr(memory, KINDS[name].get)("no such id") is None


@pytest.mark.parametrize("name", DELETABLE)
def test_what_is_deleted_is_gone(memory: Memory, name: str) -> None:
    kind = KINDS[name]
    made = kind.make(memory)
    delete = getattr(memory, kind.delete)
    assert delete(made.id) is True
    assert kind.read(memory, made) is None
    assert delete(made.id) is False


@pytest.mark.parametrize("name", KINDS)
def test_what_is_needed_must_not_be_none(memory: Memory, name: str) -> None:
    """The original stores NULL where the table lets it, and raises its driver's error elsewhere."""
    for argument in KINDS[name].least:
        with pytest.raises(ConfigError):
            KINDS[name].make(memory, **{argument: None})


@pytest.mark.parametrize("name", KINDS)
def test_a_value_of_another_type_is_refused(memory: Memory, name: str) -> None:
    for argument in (KINDS[name].least | KINDS[name].full).keys() - _NOT_COLUMNS:
        with pytest.raises(ConfigError):
            KINDS[name].make(memory, **{argument: object()})


@pytest.mark.parametrize("name", KINDS)
def test_texts_of_all_kinds(memory: Memory, name: str) -> None:
    """Quotes, wildcards, other scripts, code points beyond 16 bits, line ends."""
    text = 'O\'Brien "100%_" \\ ñ 漢字 🦊 \r\n\t{}[]'
    argument = {
        "resource": "url", "item": "summary", "category": "name", "entity": "name", "reflection": "content",
        "lesson": "lesson", "skill": "title", "candidate": "fact_text", "feedback": "model",
    }[name]  # fmt: skip
    made = KINDS[name].make(memory, **{argument: text})
    assert getattr(KINDS[name].read(memory, made), argument) == text


@pytest.mark.parametrize("name", ["item", "category", "entity", "lesson"])
def test_half_of_a_surrogate_pair_is_refused(memory: Memory, name: str) -> None:
    argument = {"item": "summary", "category": "name", "entity": "name", "lesson": "lesson"}[name]
    with pytest.raises(ConfigError):
        KINDS[name].make(memory, **{argument: "half \ud800"})


@pytest.mark.parametrize("name", KINDS)
def test_lists_of_texts_are_tuples(memory: Memory, name: str) -> None:
    kind = KINDS[name]
    made = kind.make(memory, **kind.full)
    lists = [column.name for column in TABLES[name].columns if column.sequence]
    for argument in lists:
        assert getattr(made, argument) == tuple(kind.full[argument])


@pytest.mark.parametrize("name", ["reflection", "lesson", "skill", "candidate"])
def test_a_single_text_is_no_list(memory: Memory, name: str) -> None:
    """Otherwise each of its letters would be a tag."""
    for column in TABLES[name].columns:
        if column.sequence:
            with pytest.raises(ConfigError):
                KINDS[name].make(memory, **{column.name: "build"})


@pytest.mark.parametrize(
    ("name", "argument"),
    [("item", "emotional_valence"), ("entity", "bond_strength"), ("lesson", "confidence"), ("skill", "strength"),
     ("candidate", "confidence"), ("feedback", "complexity_score")],
)  # fmt: skip
def test_what_is_no_number_is_refused(memory: Memory, name: str, argument: str) -> None:
    for number in (float("nan"), float("inf"), -float("inf"), True, "1"):
        with pytest.raises(ConfigError):
            KINDS[name].make(memory, **{argument: number})


@pytest.mark.parametrize("extra", [{"n": float("nan")}, {"o": object()}, {"t": "\udfff"}, ["no", "object"]])
def test_what_is_no_json_is_refused(memory: Memory, extra: Any) -> None:
    with pytest.raises(MirrorError):
        memory.create_item(memory_type="event", summary="x", extra=extra)
    assert memory.count_items() == 0


@pytest.mark.parametrize("count", [2**63, -(2**63) - 1])
def test_more_than_64_bits_are_refused(memory: Memory, count: int) -> None:
    with pytest.raises(ConfigError):
        KINDS["skill"].make(memory, usage_count=count)


@pytest.mark.parametrize("name", ["item", "entity", "reflection", "lesson", "feedback"])
def test_rows_of_another_agent_are_not_written(memory: Memory, name: str) -> None:
    """The original ignores the agent on SQLite, so that one agent's memories become another's."""
    with pytest.raises(ConfigError):
        KINDS[name].make(memory, agent_id="somebody else")
