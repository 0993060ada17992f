"""Secrets in a store: encrypted, revealed to whom may have them, and rotated. On Postgres, and on tables in a file."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror.core.errors import ConfigError, StorageError, UnsupportedError
from mirror.storage.facade import Runner
from mirror.storage.keys import AsyncKeys, Keys
from mirror.storage.models.keys import Rotation
from mirror.storage.secrets import Keyring
from tests.support.storage import on_sqlite
from tests.support.tables_of_postgres import tables_of_postgres

OLD, NEW = bytes(range(32)), bytes([7] * 32)


class Ring:
    """Keys that a test changes."""

    def __init__(self) -> None:
        self.keys = [OLD]

    def __call__(self) -> Keyring:
        return Keyring(self.keys)


@pytest.fixture(params=["tables", "postgres"])
def tables(request: pytest.FixtureRequest, folder: Path) -> Iterator[Runner]:
    """What runs operations."""
    if request.param == "postgres":
        yield request.getfixturevalue("postgres_stores").memory._runner
    else:
        yield from tables_of_postgres(folder)


@pytest.fixture
def ring() -> Ring:
    return Ring()


@pytest.fixture
def keys(tables: Runner, ring: Ring) -> Keys:
    return Keys(tables, ring)


def test_a_value_is_encrypted_at_rest(keys: Keys) -> None:
    made = keys.set_service_key("OPENAI_API_KEY", "sk-secret", service="openai", category="llm")
    assert keys.get_service_key("OPENAI_API_KEY") == made and made.name == "OPENAI_API_KEY"
    assert made.encrypted_value.startswith("enc:v1:") and "sk-secret" not in repr(keys.list_service_keys())
    assert keys.reveal_service_key("OPENAI_API_KEY") == "sk-secret"
    assert keys.reveal_service_key("unknown") is keys.get_service_key("unknown") is None


def test_set_once_more_keeps_what_is_not_given(keys: Keys) -> None:
    first = keys.set_service_key("A", "1", name="Name", service="s", allowed_agents=["ada"])
    again = keys.set_service_key("A", "2", category="c")
    assert (again.id, again.name, again.service, again.category) == (first.id, "Name", "s", "c")
    assert again.allowed_agents == ("ada",) and keys.reveal_service_key("A", "ada") == "2"
    assert keys.get_service_key("A") == again


def test_what_was_set_by_hand_is_not_overwritten(keys: Keys) -> None:
    keys.set_service_key("A", "by hand")
    kept = keys.set_service_key("A", "synced", source="org-sync")
    assert kept.source == "manual" and keys.reveal_service_key("A") == "by hand"
    keys.set_service_key("B", "1", source="org-sync")
    keys.set_service_key("B", "2", source="org-sync")
    assert keys.reveal_service_key("B") == "2"


@pytest.mark.parametrize(
    ("rules", "asking", "allowed"),
    [
        ({}, {}, True),
        ({}, {"agent_id": "ada"}, True),
        ({"deny_all": True}, {"agent_id": "ada"}, False),
        ({"deny_all": True, "allowed_agents": ["ada"]}, {"agent_id": "ada"}, False),
        ({"allowed_agents": ["Ada "]}, {"agent_id": "ada"}, True),
        ({"allowed_agents": ["ada"]}, {"agent_id": "bob"}, False),
        ({"allowed_agents": ["ada"]}, {}, False),
        ({"allowed_agents": ["ada"], "allowed_roles": ["ops"]}, {"role": "ops"}, True),
        ({"allowed_teams": ["t"]}, {"agent_id": "t", "role": "t"}, False),
        ({"allowed_teams": ["t"]}, {"team": "T"}, True),
    ],
)
def test_who_may_have_a_key(keys: Keys, rules: dict[str, Any], asking: dict[str, str], allowed: bool) -> None:
    keys.set_service_key("A", "secret", **rules)
    if allowed:
        assert keys.reveal_service_key("A", **asking) == "secret"
    else:
        with pytest.raises(StorageError) as error:
            keys.reveal_service_key("A", **asking)
        assert "secret" not in str(error.value)


def test_lists_and_deletes(keys: Keys) -> None:
    two = keys.set_service_key("B", "2", category="x")
    one = keys.set_service_key("A", "1", enabled=False)
    assert keys.list_service_keys() == [one, two]
    assert keys.list_service_keys(category="x") == keys.list_service_keys(enabled=True) == [two]
    assert keys.reveal_service_key("A") is None
    assert keys.delete_service_key("A") is True and keys.delete_service_key("A") is False


def test_credentials(keys: Keys) -> None:
    payload = {"accessToken": "t", "ü": [1, None]}
    made = keys.set_credential("p1", "anthropic", payload, credential_type="oauth", email="a@b")
    assert keys.get_credential("p1") == made and made.encrypted_payload.startswith("enc:v1:")
    assert keys.reveal_credential("p1") == payload and keys.reveal_credential("p2") is None
    again = keys.set_credential("p1", "anthropic", {"accessToken": "u"})
    assert (again.id, again.created_at, again.credential_type) == (made.id, made.created_at, "api_key")
    assert keys.reveal_credential("p1") == {"accessToken": "u"}
    assert keys.list_credentials(provider="anthropic") == keys.list_credentials() == [again]
    assert keys.list_credentials(provider="x") == []
    assert keys.delete_credential("p1") and not keys.delete_credential("p1")


def test_rotation(keys: Keys, ring: Ring) -> None:
    for n in range(5):
        keys.set_service_key(f"K{n}", str(n))
    keys.set_credential("p", "x", {"a": 1})
    ring.keys = [NEW, OLD]
    keys.set_service_key("K5", "5")
    assert [keys.reveal_service_key(f"K{n}") for n in range(6)] == list("012345"), "both keys are readable"
    assert keys.rotate() == Rotation(renewed=6, current=1)
    assert keys.rotate() == Rotation(renewed=0, current=7)
    ring.keys = [NEW]
    assert [keys.reveal_service_key(f"K{n}") for n in range(6)] == list("012345")
    assert keys.reveal_credential("p") == {"a": 1}


def test_rotation_that_is_stopped_goes_on(keys: Keys, ring: Ring, tables: Runner) -> None:
    for n in range(4):
        keys.set_service_key(f"K{n}", str(n))
    ring.keys = [NEW, OLD]
    run, left = tables.run, [3]

    def stopping(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return run(operation, args, kwargs)

    tables.run = stopping  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        keys.rotate()
    tables.run = run  # type: ignore[method-assign]
    assert [keys.reveal_service_key(f"K{n}") for n in range(4)] == list("0123")
    assert keys.rotate() == Rotation(renewed=2, current=2)


def test_a_value_that_changes_during_a_rotation_is_not_lost(
    keys: Keys, ring: Ring, tables: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.set_service_key("K", "old")
    ring.keys = [NEW, OLD]
    run = tables.run

    def changing(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found = run(operation, args, kwargs)
        if operation.name == "list_encrypted":
            keys.set_service_key("K", "new")
        return found

    monkeypatch.setattr(tables, "run", changing)
    assert keys.rotate().renewed == 0
    assert keys.reveal_service_key("K") == "new"


def test_without_its_key_a_value_stays_as_it_is(keys: Keys, ring: Ring) -> None:
    made = keys.set_service_key("K", "old")
    ring.keys = [NEW]
    for call in (lambda: keys.reveal_service_key("K"), keys.rotate):
        with pytest.raises(StorageError, match="none of the keys fits"):
            call()
    ring.keys = []
    with pytest.raises(ConfigError):
        keys.set_service_key("L", "x")
    assert keys.list_service_keys() == [made]


def test_as_coroutines(tables: Runner, ring: Ring) -> None:
    class Coroutines:
        async def run(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return tables.run(operation, args, kwargs)

    async def use() -> None:
        keys = AsyncKeys(Coroutines(), ring)
        await keys.set_service_key("A", "1", allowed_agents=["ada"])
        await keys.set_credential("p", "x", {"a": 1})
        assert await keys.reveal_service_key("A", agent_id="ada") == "1"
        assert await keys.reveal_credential("p") == {"a": 1}
        ring.keys = [NEW, OLD]
        assert await keys.rotate() == Rotation(2, 0)
        assert [key.variable for key in await keys.list_service_keys()] == ["A"]

    asyncio.run(use())


def test_sqlite_says_what_is_missing(folder: Path, ring: Ring) -> None:
    for stores in on_sqlite(folder):
        keys = Keys(stores.memory._runner, ring)
        for call in (keys.list_service_keys, keys.list_credentials, keys.rotate):
            with pytest.raises(UnsupportedError):
                call()
        with pytest.raises(UnsupportedError):
            keys.set_service_key("A", "1")
