"""Rows of secrets, which are in Postgres alone: their values are encrypted (:mod:`mirror.storage.secrets`).

``key_id``: the fingerprint of the key that has encrypted it, where this package did.
"""

from __future__ import annotations

from dataclasses import dataclass

from mirror.storage.tables import Millis, Row, Texts, table_of


@dataclass(frozen=True, slots=True)
class ServiceKey(Row, table="service_keys", source="postgres"):
    """A secret that programs know by the name of a variable, and who may have it: everybody, where nothing is said."""

    id: str
    variable: str
    name: str
    encrypted_value: str
    service: str | None
    category: str | None
    enabled: bool
    source: str
    allowed_roles: Texts
    allowed_agents: Texts
    allowed_teams: Texts
    deny_all: bool
    key_id: str | None
    created_at: Millis
    updated_at: Millis


@dataclass(frozen=True, slots=True)
class Credential(Row, table="auth_credentials", source="postgres"):
    """How a profile signs in at a provider: an encrypted JSON object."""

    id: str
    profile_id: str
    provider: str
    credential_type: str
    encrypted_payload: str
    email: str | None
    enabled: bool
    last_used_at: Millis | None
    cooldown_until: Millis | None
    error_count: int
    key_id: str | None
    created_at: Millis
    updated_at: Millis


SERVICE_KEYS = table_of(ServiceKey)
CREDENTIALS = table_of(Credential)


@dataclass(frozen=True, slots=True)
class Rotation:
    """How many values were encrypted with the first key, and how many had been before."""

    renewed: int
    current: int
