"""A checkpoint of SqliteSaver, divided into the values of its channels, of which nothing is changed."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from mirror.adoption.checkpoint_values import AsStored, Stored, UndividedError, as_stored, divided, is_snapshot
from mirror.adoption.checkpoints import Write, _as_put
from tests.support.graph_models import Order

SERDE = JsonPlusSerializer(allowed_msgpack_modules=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text() | st.binary() | st.uuids(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(0, 9), inner)
        | st.builds(Order, inner, inner)
        | st.builds(_DeltaSnapshot, inner)
    ),
    max_leaves=8,
)


def checkpoint(values: dict[str, Any]) -> dict[str, Any]:
    return {"v": 4, "id": "x", "channel_values": values, "channel_versions": {}, "versions_seen": {}}


def parts(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = divided(*SERDE.dumps_typed(checkpoint(values)))["channel_values"]
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.text(), VALUES))
def test_each_value_is_as_a_saver_would_write_it(values: dict[str, Any]) -> None:
    found = parts(values)
    assert found.keys() == values.keys()
    for name, value in values.items():
        if isinstance(found[name], Stored | _DeltaSnapshot):
            assert AsStored().dumps_typed(found[name]) == SERDE.dumps_typed(value)
            assert isinstance(found[name], _DeltaSnapshot) == isinstance(value, _DeltaSnapshot)
        else:
            assert type(found[name]) is type(value) and found[name] == value
            json.dumps(found[name])


def test_what_json_would_not_keep_is_apart() -> None:
    found = parts({"nul": "a\0b", "real": 1e300, "text": "a", "number": 3, "none": None, "bytes": b"x"})
    assert {name for name, value in found.items() if isinstance(value, Stored)} == {"nul", "real", "bytes"}
    assert found["bytes"] == Stored("bytes", b"x")


def test_objects_stay_what_they_are() -> None:
    """As one whose class nobody can import would not, if it was read by a saver and written by another."""
    kind, data = SERDE.dumps_typed(checkpoint({"order": Order(7, 0.5), "said": HumanMessage("x", id="1")}))
    unknown = data.replace(b"graph_models", b"graph_nobody")
    values = divided(kind, unknown)["channel_values"]
    assert b"graph_nobody" in values["order"].data
    assert SERDE.loads_typed((values["said"].type, values["said"].data)) == HumanMessage("x", id="1")


def test_a_checkpoint_of_before() -> None:
    """JSON, with objects that only LangGraph makes of it."""
    said = {"lc": 2, "type": "constructor", "id": ["uuid", "UUID"], "method": None, "args": ["0" * 32], "kwargs": {}}
    found = divided("json", json.dumps(checkpoint({"id": said, "text": "a"})).encode())["channel_values"]
    assert found["text"] == "a"
    assert SERDE.loads_typed((found["id"].type, found["id"].data)) == uuid.UUID(int=0)


@pytest.mark.parametrize(
    ("kind", "data"),
    [("pickle", b""), ("msgpack+aes", b"x"), ("msgpack", b"\xc1"), ("msgpack", b"\x01"), ("json", b"{"), ("", b"")],
)
def test_what_cannot_be_divided(kind: str, data: bytes) -> None:
    with pytest.raises(UndividedError):
        divided(kind, data)


def test_a_snapshot_is_its_value() -> None:
    assert as_stored(_DeltaSnapshot(1)) == as_stored(1) == 1
    assert is_snapshot(as_stored(parts({"a": _DeltaSnapshot([1])})["a"]))
    assert not any(map(is_snapshot, (parts({"a": [1]})["a"], Stored("msgpack", b"\xc1"), Stored("bytes", b""), 1)))


def write(number: int, channel: str) -> Write:
    return Write("task", "path", number, channel, "msgpack", channel.encode())


def test_writes_get_their_own_numbers_again() -> None:
    """Special ones are put first, and then stand where ``put_writes`` has counted them."""
    found = [write(-3, "__interrupt__"), write(0, "a"), write(2, "b")]
    first, rest = _as_put(found)
    assert [channel for channel, _ in first] == ["__interrupt__"]
    assert [channel for channel, _ in rest] == ["a", "__interrupt__", "b"]
    assert list(_as_put([write(-1, "__error__")])) == [[("__error__", Stored("msgpack", b"__error__"))]]
    with pytest.raises(UndividedError):
        list(_as_put([write(1, "a")]))
