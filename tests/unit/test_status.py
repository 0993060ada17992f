"""The status is a typed value with a version: its JSON is documented, and an older or newer reader understands it."""

from __future__ import annotations

import json
import re
import time
from importlib.resources import files
from typing import Any

import msgspec
import pytest
from msgspec import to_builtins
from msgspec.structs import fields

from mirror.core import status as status_module
from mirror.core.errors import SinkError
from mirror.core.positions import Lsn, Position, Salts
from mirror.core.status import (
    STATUS_VERSION,
    GapReport,
    HookReport,
    Phase,
    ProgressReport,
    RefusalReport,
    StatusDocument,
    StatusReport,
    json_schema,
)
from mirror.sidecar.status import SourceStatus

SCHEMA = json.loads((files("mirror.core") / "status.schema.json").read_text())


def full() -> StatusReport:
    """A report in which every field has something to say."""
    status = SourceStatus("/data/notes.db", "public")
    status.phase, status.captured, status.progress = Phase.SNAPSHOT, "1:2", ProgressReport(what="t", done=1)
    status.gaps = [GapReport(generation=1, reason="why", at="now")]
    status.refusals = [RefusalReport(table="t", reason="why")]
    status.hook = HookReport(writers=["python (pid 1)"], checked=1)
    status.is_interrupted(SinkError("connect to Postgres", "host", "refused", retryable=True))
    return status.report()


def test_the_schema_in_the_package_is_that_of_the_types() -> None:
    """To make it again, print ``json.dumps(json_schema(), indent=2)`` into the file."""
    assert json_schema() == SCHEMA


def test_every_field_is_documented() -> None:
    """By a description, where its name does not say all."""
    named = {"source", "schema", "phase", "version", "tables", "refusals", "gaps", "hook", "progress", "parity"}
    properties = SCHEMA["$defs"]["StatusReport"]["properties"]
    assert set(properties) == {field.name for field in fields(StatusReport)}
    for name, said in properties.items():
        assert name in named or "description" in json.dumps(said), name


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a JSON value is what a schema of msgspec's describes."""
    if "$ref" in schema:
        return _fits(value, SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return any(_fits(value, each) for each in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None)}
    kind = kinds.get(schema.get("type", ""), object)
    if schema.get("type") == "boolean":
        return isinstance(value, bool)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not object):
        return False
    if isinstance(value, dict) and "properties" in schema:
        return set(schema.get("required", ())) <= set(value) <= set(schema["properties"]) and all(
            _fits(each, schema["properties"][name]) for name, each in value.items()
        )
    if isinstance(value, list) and "items" in schema:
        return all(_fits(each, schema["items"]) for each in value)
    return True


@pytest.mark.parametrize("report", [full(), StatusReport(source="/a.db", schema="public")])
def test_a_report_is_what_the_schema_says(report: StatusReport) -> None:
    document = json.loads(msgspec.json.encode(StatusDocument(sources=[report])))
    assert _fits(document, SCHEMA)
    assert document["version"] == document["sources"][0]["version"] == STATUS_VERSION
    assert not _fits({**document, "sources": [{**document["sources"][0], "phase": "dancing"}]}, SCHEMA)
    assert msgspec.convert(document, StatusDocument).sources == [report]


def test_a_reader_of_another_version_understands_what_it_knows() -> None:
    said = to_builtins(full())
    del said["hook"]
    read = msgspec.convert(said | {"invented_later": [1]}, StatusReport)
    assert read.source == "/data/notes.db" and read.hook == HookReport()


def test_an_error_comes_with_its_code() -> None:
    report = full()
    assert report.phase is Phase.WAITING and report.error is not None
    assert report.error["code"] == "postgres" and report.error["retryable"] is True
    assert report.last_error == "connect to Postgres (host): refused"


def test_the_lag_is_unknown_where_capture_cannot_see() -> None:
    """Nothing captured waits to be applied, but what was committed meanwhile may be of any age."""
    status = SourceStatus("/data/notes.db", "public")
    for phase in (Phase.STARTING, Phase.SNAPSHOT, Phase.CATCHING_UP, Phase.REDIFF):
        status.phase = phase
        assert status.report().lag_seconds is None, phase
    status.has_caught_up(None)
    assert status.report().lag_seconds == status.report().worst_lag_seconds == 0.0
    status.has_caught_up("the spool is locked")
    assert status.phase is Phase.WAITING
    assert status.report().lag_seconds is None and status.report().worst_lag_seconds is None
    status.has_captured(Lsn(1, 2))
    lag = status.report().lag_seconds
    assert lag is not None and lag >= 0.0


def test_what_was_committed_during_the_first_copy_is_no_lag() -> None:
    """It has waited for the copy, and is applied after the mirror has caught up for the first time."""
    status = SourceStatus("/data/notes.db", "public")
    status.phase = Phase.SNAPSHOT
    status.has_caught_up(None)
    now = time.time()
    status.is_at(Position(Lsn(1, 2), Salts(1, 2), now - 30.0))
    worst = status.report().worst_lag_seconds
    assert worst is not None and worst < 30.0 and status.lags.history() == []
    status.is_at(Position(Lsn(1, 3), Salts(1, 2), now + 0.001))
    assert len(status.lags.history()) == 1


def test_nobody_writes_a_phase_as_a_text() -> None:
    """Phases are an enum: a text that is misspelled would be noticed by nobody."""
    root = files("mirror")
    assert status_module.__doc__
    for package in ("sidecar", "cli", "cutover", "core"):
        for path in (root / package).rglob("*.py"):  # type: ignore[attr-defined]
            found = re.search(r"phase\s*(?:==|!=|=)\s*\"", path.read_text())
            assert found is None, (path, found)
