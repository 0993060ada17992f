"""Codes that stay the same, and errors that keep their kind on their way through a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from mirror.core import errors
from mirror.core.checks import Code
from mirror.core.errors import (
    BusyError,
    ConfigError,
    ConstraintError,
    ControlError,
    DamagedError,
    FencedError,
    FormatError,
    HotAwayError,
    HotFullError,
    HotStateError,
    HotUnsureError,
    LateWriteError,
    LockLostError,
    LockTakenError,
    MirrorError,
    MovedBackError,
    NameTakenError,
    NewerSchemaError,
    NewerStateError,
    NotReadyError,
    NotRunningError,
    OldLogError,
    OthersWroteError,
    PausedError,
    PrivateIndexError,
    RefusedError,
    RepairError,
    ReplacedError,
    RequestError,
    SealedError,
    SinkError,
    SourceError,
    StateError,
    StorageError,
    TokenError,
    TooOldError,
    UnknownSourceError,
    UnsupportedError,
    WayBackLostError,
)
from mirror.sidecar.doctor_report import Report

#: Programs decide by these: one may be added, none may change.
CODES: dict[str, type[MirrorError]] = {
    "mirror": MirrorError,
    "source": SourceError,
    "source.format": FormatError,
    "source.format.damaged": DamagedError,
    "source.replaced": ReplacedError,
    "source.replaced.private_index": PrivateIndexError,
    "source.replaced.old_log": OldLogError,
    "state": StateError,
    "state.newer": NewerStateError,
    "postgres": SinkError,
    "postgres.fenced": FencedError,
    "postgres.refused": RefusedError,
    "postgres.refused.name_taken": NameTakenError,
    "postgres.refused.others_wrote": OthersWroteError,
    "postgres.busy": BusyError,
    "postgres.repair": RepairError,
    "postgres.unknown_source": UnknownSourceError,
    "postgres.sealed": SealedError,
    "postgres.way_back_lost": WayBackLostError,
    "postgres.newer_schema": NewerSchemaError,
    "cutover.not_ready": NotReadyError,
    "control": ControlError,
    "control.not_running": NotRunningError,
    "control.paused": PausedError,
    "control.request": RequestError,
    "hot": HotStateError,
    "hot.away": HotAwayError,
    "hot.full": HotFullError,
    "hot.late_write": LateWriteError,
    "hot.lock_lost": LockLostError,
    "hot.too_old": TooOldError,
    "hot.lock_taken": LockTakenError,
    "hot.unsure": HotUnsureError,
    "storage": StorageError,
    "storage.constraint": ConstraintError,
    "storage.unsupported": UnsupportedError,
    "storage.token": TokenError,
    "storage.moved_back": MovedBackError,
    "config": ConfigError,
}


def tree(kind: type[MirrorError]) -> Iterator[type[MirrorError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from tree(each)


def made(kind: type[MirrorError], *, retryable: bool) -> MirrorError:
    if issubclass(kind, SinkError):
        error: MirrorError = kind("do", "there", "what", sqlstate="42501", next_step="then")
    else:
        error = kind("do", "there", "what", next_step="then")
    error.retryable = retryable
    return error


def test_the_codes() -> None:
    found = {kind.code: kind for kind in tree(MirrorError) if kind.__module__ == errors.__name__}
    assert found == CODES
    assert errors.__doc__ is not None
    for code, kind in CODES.items():
        assert f"{kind.__name__} " in errors.__doc__ and f"``{code}``" in errors.__doc__, "the drawing names each"
        parent = kind.__base__
        if parent is not MirrorError and kind is not MirrorError:
            assert parent is not None and code.startswith(f"{CODES_OF[parent]}."), code


CODES_OF = {kind: code for code, kind in CODES.items()}


@pytest.mark.parametrize("retryable", [True, False])
@pytest.mark.parametrize("kind", CODES.values())
def test_an_error_keeps_its_kind_and_all_it_says(kind: type[MirrorError], retryable: bool) -> None:
    error = made(kind, retryable=retryable)
    again = MirrorError.from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(again) is kind
    assert str(again) == str(error) and again.retryable is retryable
    assert vars(again) | {"retryable": retryable} == vars(error) | {"retryable": retryable}
    assert again.args == error.args


def test_a_class_without_a_code_of_its_own_arrives_as_the_one_above() -> None:
    class SpecialError(StateError):
        """Of some module."""

    assert type(MirrorError.from_dict(SpecialError("do", "there").to_dict())) is StateError
    assert type(MirrorError.from_dict(StateError("do", "there").to_dict())) is StateError


@pytest.mark.parametrize(
    ("code", "kind"),
    [("postgres.repair.by_hand", RepairError), ("postgres.new", SinkError), ("new", MirrorError), ("", MirrorError)],
)
def test_a_code_of_another_version(code: str, kind: type[MirrorError]) -> None:
    data = {"code": code, "operation": "do", "place": "", "detail": "", "next_step": "", "retryable": True}
    error = MirrorError.from_dict(data)
    assert type(error) is kind and error.retryable and error.operation == "do"


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"code": 7, "operation": "do", "retryable": True},
        {"code": "state", "operation": None, "retryable": True},
        {"code": "state", "operation": "do"},
        {"code": "state", "operation": "do", "retryable": 1},
        {"code": "state", "operation": "do", "retryable": False, "detail": []},
    ],
)
def test_what_is_no_error(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="error"):
        MirrorError.from_dict(data)


def test_a_place_is_said_once() -> None:
    """An error that says its place in its detail does not say it twice; nor does a report that names it."""
    assert str(RefusedError("use a table", "public.t", "public.t is there")) == "use a table: public.t is there"
    assert str(RefusedError("use a table", "public.t", "it is there")) == "use a table (public.t): it is there"
    assert str(RefusedError("use a table", "t", "text is no date")) == "use a table (t): text is no date"
    report = Report("file.db")
    report.fails(Code.SOURCE, "a row", ConfigError("use a table", "t", "text is no date"))
    report.fails(Code.TABLE_UNMAPPED, "table t", ConfigError("map a table", "t", "its key is too long"))
    report.fails(Code.POSTGRES, "Postgres", SinkError("connect", "localhost", "localhost does not answer"))
    report.fails(Code.SOURCE, "source", SinkError("open", "/a/t", "no database"))
    assert [check.detail for check in report.findings] == [
        "t: text is no date",
        "its key is too long",
        "localhost does not answer",
        "/a/t: no database",
    ]
