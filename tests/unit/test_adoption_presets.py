"""Which program's tables these are, and what was decided of a source."""

from __future__ import annotations

import msgspec
import pytest

from mirror.adoption.presets import PRESETS, Preset, are_checkpoints, find_presets, named
from mirror.core.free_sequences import Numbers
from mirror.core.rules import OMIT
from mirror.postgres.adopted.decisions import Decisions


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_each_is_found_on_either_side(preset: Preset) -> None:
    marks = preset.marks
    assert find_presets(marks, ()) == find_presets((), [name.upper() for name in marks]) == [preset]


def test_all_marks_are_needed_on_one_side() -> None:
    assert find_presets(["schema_migrations", "t"], ["ar_internal_metadata"]) == []
    assert [each.name for each in find_presets(["django_migrations", "alembic_version"], [])] == ["django", "alembic"]
    assert named("django") == PRESETS[0] and named("none") is None


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_what_is_compared_is_kept(preset: Preset) -> None:
    decisions = Decisions(kept=preset.kept)
    for mark in preset.marks:
        assert decisions.left_out(mark) == "kept"


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_sequences_are_of_columns_that_are_mirrored(preset: Preset) -> None:
    decisions = Decisions(kept=preset.kept, excluded=preset.excluded)
    for name, numbers in preset.sequences.items():
        assert len(set(numbers)) == len(numbers), name
        for each in numbers:
            table, dot, column = each.column.partition(".")
            assert table == each.table and dot and column and not decisions.left_out(table), (name, each)


def test_the_sequences_of_synapse() -> None:
    """All that no column has; those of streams go on above how far the stream has come, too, which has no rows left."""
    preset = named("synapse")
    assert preset is not None and len(preset.sequences) == 21
    streams = {
        name: [each for each in numbers if each.table == "stream_positions"]
        for name, numbers in preset.sequences.items()
    }
    assert all(len(each) == 1 for each in streams.values() if each)
    names = [each[0].where for each in streams.values() if each]
    assert len(set(names)) == len(names) == 16
    assert preset.sequences["device_inbox_sequence"] == (
        Numbers("device_inbox.stream_id"),
        Numbers("device_federation_outbox.stream_id"),
        Numbers("stream_positions.stream_id", where=("stream_name", "to_device")),
    )
    assert all(each.negated for each in preset.sequences["events_backfill_stream_seq"])
    assert preset.sequences["cache_invalidation_stream_seq"] == ()


def test_checkpoints_of_langgraph_are_another_model() -> None:
    key = {"thread_id", "checkpoint_ns", "checkpoint_id"}
    assert are_checkpoints({"checkpoints": {*key, "checkpoint", "type"}, "writes": {*key, "task_id", "idx", "channel"}})
    assert not are_checkpoints({"checkpoints": {*key, "checkpoint"}})
    assert not are_checkpoints({"checkpoints": {*key, "checkpoint"}, "writes": {"id"}})


def test_decisions_are_read_as_they_were_written() -> None:
    decisions = Decisions(
        schema="app",
        preset="django",
        excluded=("a*",),
        tables={"u": "v"},
        columns={"t": {"a": "b"}},
        dropped={"t": ("x", "y")},
        computed={"t": ("z",)},
        units={"t": {"at": "ms"}},
        only={"t": {"id": "hex"}},
        rounded={"t": ("n",)},
        keys={"t": None, "u": ("id",)},
        sequences={"s": (Numbers("t.a", negated=True), Numbers("t.b", pattern="(.)", where=("c", "d"))), "none": ()},
        real_digits=15,
    )
    assert msgspec.json.decode(msgspec.json.encode(decisions), type=Decisions) == decisions
    assert msgspec.json.decode(b'{"later": 1}', type=Decisions) == Decisions()
    assert decisions.rules.columns == {"t.x": OMIT, "t.y": OMIT, "t.z": OMIT}


def test_names_in_any_letters() -> None:
    decisions = Decisions(excluded=("Cache_?",), tables={"Users": "auth_user"}, units={"T": {"At": "ms"}})
    assert decisions.left_out("cache_1") == "excluded" and decisions.left_out("cache_12") == ""
    assert decisions.target_of("users") == "auth_user" and decisions.unit_of("t", "at") == "ms"
    assert Decisions(rounded={"Store": ("TTL",)}).rounds("store", "ttl") and not decisions.rounds("t", "at")
    assert decisions.unit_of("t", "other") == decisions.only_of("t", "at") == decisions.target_column("t", "at") == ""
