"""Reads at a token: the rules, sent answers as a server would give them."""

from __future__ import annotations

from typing import Any

import pytest

from mirror.core.config.settings import ReadSettings, StorageSettings
from mirror.core.errors import StorageError
from mirror.core.positions import Lsn
from mirror.storage.operations.items import get_item
from mirror.storage.proofs import PositionRow
from mirror.storage.routing import OnPostgres, Pause, TokenRoutes
from mirror.storage.sessions import Token

LINEAGE = "00000000-0000-0000-0000-000000000001"


def routes(at: int, max_wait_ms: int = 0) -> TokenRoutes:
    settings = StorageSettings("postgres", "postgres", ("postgres",), reads=ReadSettings(max_wait_ms))
    return TokenRoutes(lambda: settings, Token(LINEAGE, Lsn(3, at), "memory"), "memory", "m1")


def row(frame: int) -> PositionRow:
    return PositionRow(3, frame, 1, 2, LINEAGE)


def answered(rules: TokenRoutes, frame: int) -> Any:
    """The answer to a read that a server at this frame was asked."""
    steps = rules.steps(get_item)
    assert next(steps) == OnPostgres(LINEAGE)
    try:
        steps.send(("answer", row(frame)))
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


def test_a_server_that_is_not_there_yet() -> None:
    with pytest.raises(StorageError, match="3:9, which is older than the token"):
        answered(routes(10), 9)
    assert answered(routes(10), 10) == "answer"


def test_it_is_asked_again_while_there_is_time() -> None:
    steps = routes(10, 60_000).steps(get_item)
    next(steps)
    assert isinstance(steps.send(("old", row(9))), Pause)
    assert steps.send(None) == OnPostgres(LINEAGE)
    with pytest.raises(StopIteration) as ended:
        steps.send(("new", row(10)))
    assert ended.value.value == "new"


def test_answers_do_not_go_back() -> None:
    """Behind one address there may be several servers, and the next one asked may be less far than the last."""
    rules = routes(10)
    assert answered(rules, 20) == "answer"
    with pytest.raises(StorageError, match="3:15, which is older than an answer before"):
        answered(rules, 15)
    assert answered(rules, 20) == "answer"
