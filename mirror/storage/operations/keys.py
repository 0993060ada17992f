"""Secrets as they are kept: encrypted. In Postgres alone. (:mod:`mirror.storage.keys` encrypts and decrypts.)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from mirror.storage.arguments import Name
from mirror.storage.models.keys import CREDENTIALS, SERVICE_KEYS, Credential, ServiceKey
from mirror.storage.operations.base import UNSET, Context, Unset, given, reads, without, writes
from mirror.storage.statements import Delete, Insert, Op, Select, Update, eq, every, first, run
from mirror.storage.tables import Table

KeySource = Literal["manual", "org-sync", "env"]
CredentialType = Literal["api_key", "oauth", "token"]

#: The tables with encrypted values, and the column that has them.
ENCRYPTED = {SERVICE_KEYS.name: (SERVICE_KEYS, "encrypted_value"), CREDENTIALS.name: (CREDENTIALS, "encrypted_payload")}


def may_have(key: ServiceKey, agent_id: str | None, role: str | None, team: str | None) -> bool:
    """Whether an agent, a role or a team may have a key: any of these is enough. Upper and lower case are the same."""
    if key.deny_all:
        return False
    rules = ((key.allowed_agents, agent_id), (key.allowed_roles, role), (key.allowed_teams, team))
    if not any(allowed for allowed, _ in rules):
        return True
    return any(
        asking is not None and asking.strip().casefold() in {each.strip().casefold() for each in allowed}
        for allowed, asking in rules
    )


def _by(table: Table, column: str, value: str) -> Op[Any]:
    return first((yield from run(Select(table, eq(column, value)))))


@writes("postgres", many=True)
def set_service_key(
    ctx: Context,
    variable: Name,
    encrypted_value: str,
    name: str | None = None,
    service: str | Unset | None = UNSET,
    category: str | Unset | None = UNSET,
    source: KeySource = "manual",
    enabled: bool = True,
    allowed_roles: Sequence[str] | Unset = UNSET,
    allowed_agents: Sequence[str] | Unset = UNSET,
    allowed_teams: Sequence[str] | Unset = UNSET,
    deny_all: bool | Unset = UNSET,
    key_id: str | None = None,
) -> Op[ServiceKey]:
    """Keep a key, in place of the one with this variable; what is not given stays.

    One that was set by hand is not overwritten by another source: it is returned as it is.
    """
    now = ctx.millis()
    lists = given(allowed_roles=allowed_roles, allowed_agents=allowed_agents, allowed_teams=allowed_teams)
    values = given(service=service, category=category, deny_all=deny_all)
    values |= {column: tuple(items) for column, items in lists.items()}
    values |= {"encrypted_value": encrypted_value, "source": source, "enabled": enabled, "updated_at": now}
    values["key_id"] = key_id
    if name:
        values["name"] = name
    found: ServiceKey | None = yield from _by(SERVICE_KEYS, "variable", variable)
    if found is None:
        new = ServiceKey(
            ctx.new_id(), variable, name or variable, encrypted_value, None, None, enabled, source, (), (), (), False,
            key_id, now, now,
        )  # fmt: skip
        made: ServiceKey = replace(new, **values)
        if (yield from run(Insert(SERVICE_KEYS, without(made), ignore=True))):
            return made
        found = yield from _by(SERVICE_KEYS, "variable", variable)
    if found is not None and found.source == "manual" and source != "manual":
        return found
    yield from run(Update(SERVICE_KEYS, values, eq("variable", variable)))
    kept: ServiceKey = yield from _by(SERVICE_KEYS, "variable", variable)
    return kept


@reads("postgres")
def get_service_key(ctx: Context, variable: str) -> Op[ServiceKey | None]:
    """A key, with its encrypted value; None if there is none."""
    found: ServiceKey | None = yield from _by(SERVICE_KEYS, "variable", variable)
    return found


@reads("postgres")
def list_service_keys(ctx: Context, category: str | None = None, enabled: bool | None = None) -> Op[list[ServiceKey]]:
    """Keys by the names of their variables, with their encrypted values."""
    wanted = every(
        None if category is None else eq("category", category), None if enabled is None else eq("enabled", enabled)
    )
    return (yield from run(Select(SERVICE_KEYS, wanted, ("variable",))))


@writes("postgres")
def delete_service_key(ctx: Context, variable: str) -> Op[bool]:
    """Delete a key; False if there is none."""
    return (yield from run(Delete(SERVICE_KEYS, eq("variable", variable)))) > 0


@writes("postgres", many=True)
def set_credential(
    ctx: Context,
    profile_id: Name,
    provider: Name,
    encrypted_payload: str,
    credential_type: CredentialType = "api_key",
    email: str | None = None,
    key_id: str | None = None,
) -> Op[Credential]:
    """Keep how a profile signs in, in place of what there is for it; it is enabled, and without errors."""
    now = ctx.millis()
    new = Credential(
        ctx.new_id(),
        profile_id,
        provider,
        credential_type,
        encrypted_payload,
        email,
        True,
        None,
        None,
        0,
        key_id,
        now,
        now,
    )
    if (yield from run(Insert(CREDENTIALS, without(new), ignore=True))):
        return new
    values = without(new, "id", "profile_id", "created_at", "last_used_at")
    yield from run(Update(CREDENTIALS, values, eq("profile_id", profile_id)))
    kept: Credential = yield from _by(CREDENTIALS, "profile_id", profile_id)
    return kept


@reads("postgres")
def get_credential(ctx: Context, profile_id: str) -> Op[Credential | None]:
    """A credential, with its encrypted payload; None if there is none."""
    found: Credential | None = yield from _by(CREDENTIALS, "profile_id", profile_id)
    return found


@reads("postgres")
def list_credentials(ctx: Context, provider: str | None = None) -> Op[list[Credential]]:
    """Credentials by profile, with their encrypted payloads."""
    wanted = every(None if provider is None else eq("provider", provider))
    return (yield from run(Select(CREDENTIALS, wanted, ("profile_id",))))


@writes("postgres")
def delete_credential(ctx: Context, profile_id: str) -> Op[bool]:
    """Delete a credential; False if there is none."""
    return (yield from run(Delete(CREDENTIALS, eq("profile_id", profile_id)))) > 0


@reads("postgres", many=True)
def list_encrypted(ctx: Context) -> Op[list[tuple[str, str, str]]]:
    """(table, id, encrypted value) of all secrets."""
    found = []
    for name, (table, column) in ENCRYPTED.items():
        found += [(name, row.id, getattr(row, column)) for row in (yield from run(Select(table, order=("id",))))]
    return found


@writes("postgres")
def renew_encrypted(ctx: Context, table: str, row_id: str, old: str, new: str, key_id: str) -> Op[bool]:
    """Put one encrypted value in place of another; False if it is not that any more."""
    kept, column = ENCRYPTED[table]
    return (yield from run(Update(kept, {column: new, "key_id": key_id}, every(eq("id", row_id), eq(column, old))))) > 0
