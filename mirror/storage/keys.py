"""The methods of ``adapter.keys``: secrets, encrypted at rest. In Postgres alone.

Only ``reveal_...`` decrypts; everything else shows encrypted values. Who may have a service key is checked here, for
programs that keep to it: who has the keys of encryption and may read the table can read all secrets.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mirror.core.errors import ConfigError, StorageError
from mirror.storage.arguments import checked
from mirror.storage.facade import AsyncMethods, AsyncRunner, Methods, Runner, acall, call
from mirror.storage.models.keys import Credential, Rotation, ServiceKey
from mirror.storage.operations import keys
from mirror.storage.secrets import Keyring


class Keys(Methods):
    """Service keys and credentials."""

    def __init__(self, runner: Runner, keyring: Callable[[], Keyring]) -> None:
        """``keyring``: called at each use of the keys of encryption; raises ``ConfigError`` if there are none."""
        super().__init__(runner)
        self._keyring = keyring

    get_service_key = call(keys.get_service_key)
    list_service_keys = call(keys.list_service_keys)
    delete_service_key = call(keys.delete_service_key)
    get_credential = call(keys.get_credential)
    list_credentials = call(keys.list_credentials)
    delete_credential = call(keys.delete_credential)

    @checked
    def set_service_key(self, variable: str, value: str, **more: Any) -> ServiceKey:
        """Encrypt and keep a key. ``more``: the other arguments of ``operations.keys.set_service_key``."""
        ring = self._keyring()
        more["key_id"] = ring.fingerprints[0]
        return self._runner.run(keys.set_service_key, (variable, ring.encrypt(value)), more)

    @checked
    def reveal_service_key(
        self, variable: str, agent_id: str | None = None, role: str | None = None, team: str | None = None
    ) -> str | None:
        """A key's value; None if there is none that is enabled. Raises ``StorageError`` for who may not have it."""
        return _revealed(self.get_service_key(variable), agent_id, role, team, self._keyring)

    @checked
    def set_credential(self, profile_id: str, provider: str, payload: Mapping[str, Any], **more: Any) -> Credential:
        """Encrypt and keep how a profile signs in. ``more``: ``credential_type`` and ``email``."""
        ring = self._keyring()
        sealed = ring.encrypt(_json(payload))
        more["key_id"] = ring.fingerprints[0]
        return self._runner.run(keys.set_credential, (profile_id, provider, sealed), more)

    def reveal_credential(self, profile_id: str) -> dict[str, Any] | None:
        """How a profile signs in; None if there is no credential that is enabled."""
        return _payload(self.get_credential(profile_id), self._keyring)

    def rotate(self) -> Rotation:
        """Encrypt with the first key all that an older one has encrypted.

        May be stopped and called again, and called by several programs. Once it has renewed nothing, and all programs
        have the new key, the old one may be taken away.
        """
        ring, renewed, current = self._keyring(), 0, 0
        for table, row_id, value in self._runner.run(keys.list_encrypted, (), {}):
            new = ring.renewed(value)
            current += new == value
            changes = (table, row_id, value, new, ring.fingerprints[0])
            renewed += new != value and self._runner.run(keys.renew_encrypted, changes, {})
        return Rotation(renewed, current)


class AsyncKeys(AsyncMethods):
    """:class:`Keys`, as coroutines."""

    def __init__(self, runner: AsyncRunner, keyring: Callable[[], Keyring]) -> None:
        """``keyring``: called at each use of the keys of encryption; raises ``ConfigError`` if there are none."""
        super().__init__(runner)
        self._keyring = keyring

    get_service_key = acall(keys.get_service_key)
    list_service_keys = acall(keys.list_service_keys)
    delete_service_key = acall(keys.delete_service_key)
    get_credential = acall(keys.get_credential)
    list_credentials = acall(keys.list_credentials)
    delete_credential = acall(keys.delete_credential)

    @checked
    def set_service_key(self, variable: str, value: str, **more: Any) -> Awaitable[ServiceKey]:
        """Encrypt and keep a key. ``more``: the other arguments of ``operations.keys.set_service_key``."""
        ring = self._keyring()
        more["key_id"] = ring.fingerprints[0]
        return self._runner.run(keys.set_service_key, (variable, ring.encrypt(value)), more)

    @checked
    async def reveal_service_key(
        self, variable: str, agent_id: str | None = None, role: str | None = None, team: str | None = None
    ) -> str | None:
        """A key's value; None if there is none that is enabled. Raises ``StorageError`` for who may not have it."""
        return _revealed(await self.get_service_key(variable), agent_id, role, team, self._keyring)

    @checked
    def set_credential(
        self, profile_id: str, provider: str, payload: Mapping[str, Any], **more: Any
    ) -> Awaitable[Credential]:
        """Encrypt and keep how a profile signs in. ``more``: ``credential_type`` and ``email``."""
        ring = self._keyring()
        sealed = ring.encrypt(_json(payload))
        more["key_id"] = ring.fingerprints[0]
        return self._runner.run(keys.set_credential, (profile_id, provider, sealed), more)

    async def reveal_credential(self, profile_id: str) -> dict[str, Any] | None:
        """How a profile signs in; None if there is no credential that is enabled."""
        return _payload(await self.get_credential(profile_id), self._keyring)

    async def rotate(self) -> Rotation:
        """As :meth:`Keys.rotate`."""
        ring, renewed, current = self._keyring(), 0, 0
        for table, row_id, value in await self._runner.run(keys.list_encrypted, (), {}):
            new = ring.renewed(value)
            current += new == value
            changes = (table, row_id, value, new, ring.fingerprints[0])
            renewed += new != value and await self._runner.run(keys.renew_encrypted, changes, {})
        return Rotation(renewed, current)


def _json(payload: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(payload), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):  # their text, and the cause, would show a part of it
        raise ConfigError("keep a credential", "payload", "it is no object of JSON", next_step="correct it") from None


def _revealed(
    found: ServiceKey | None, agent_id: str | None, role: str | None, team: str | None, ring: Callable[[], Keyring]
) -> str | None:
    if found is None or not found.enabled:
        return None
    if not keys.may_have(found, agent_id, role, team):
        raise StorageError(
            "reveal a service key",
            found.variable,
            "its rules do not allow this agent, role or team to have it",
            next_step="name the agent in allowed_agents, the role in allowed_roles, or the team in allowed_teams",
        )
    return ring().decrypt(found.encrypted_value)


def _payload(found: Credential | None, ring: Callable[[], Keyring]) -> dict[str, Any] | None:
    if found is None or not found.enabled:
        return None
    payload: dict[str, Any] = json.loads(ring().decrypt(found.encrypted_payload))
    return payload
