"""Names of keys, and which names of agents make good ones.

Patterns have ``{id}`` where the agent's name goes, or the lock's. With a prefix, all of them begin with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from mirror.core.errors import ConfigError
from mirror.hot.given import shown

#: An agent of this name would have a key that is another's: ``agent:state:state`` is both a hash and a JSON text.
_RESERVED = frozenset(("state", "presence", "shared_context", "cross_channel_log", "lock"))
_GOOD = re.compile(r"[^\s:{}\x00-\x1f\x7f]{1,128}\Z")
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Names:
    """The keys in use. The defaults are the original program's, where it has such a key."""

    state: str = "agent:state:{id}"
    """Hash."""
    state_json: str = "agent:{id}:state"
    """The same as JSON, as the original documents it."""
    presence: str = "agent:presence:{id}"
    """``1`` for 30 s."""
    online: str = "agents:online"
    """Sorted set: agents by the time, in milliseconds, up to which they said that they are online. Ours."""
    dashboard: str = "channel:dashboard"
    """Channel."""
    family: str = "stream:family"
    """Stream of messages."""
    family_dead: str = "stream:family:dead"
    """Stream of messages that were given up. Ours."""
    family_sent: str = "stream:family:sent:{id}"
    """The id of a message, by a token of who sent it, for a minute. Ours."""
    shared_context: str = "agent:shared_context:{id}"
    """Hash, 24 h."""
    channel_log: str = "agent:cross_channel_log:{id}"
    """Stream of about 50 entries, 24 h."""
    lock: str = "agent:lock:{id}"
    """Who holds a lock, until its time is over. Ours."""
    fence: str = "agent:lock:{id}:fence"
    """The number of the last holder of a lock. Ours; never deleted."""

    changes: str = "stream:changes:{id}"
    """Stream of what the mirror of a source has applied to Postgres, by the path of its file. Ours."""
    changes_owner: str = "changes:owner:{id}"
    """Hash: the mirror that publishes there. Ours."""

    def with_prefix(self, prefix: str) -> Names:
        """The same names, each with a prefix before it: for several families on one server."""
        return replace(self, **{name: prefix + getattr(self, name) for name in self.__slots__})


def key(pattern: str, name: str) -> str:
    """The key of an agent or lock. Raises ``ConfigError`` for a name that would make it ambiguous."""
    name = _text(name)
    if not _GOOD.match(name) or name in _RESERVED:
        detail = f"{name!r:.200} is reserved" if name in _RESERVED else f"{name!r:.200} is no name that keys can have"
        step = "use a name of 1 to 128 characters without spaces, colons and braces"
        raise ConfigError("make the name of a key", "", detail, next_step=step)
    return pattern.replace("{id}", name)


def lock_key(pattern: str, name: str) -> str:
    """The key of a lock, whose name may have colons, as in ``heartbeat:ada``; not the ending of a fence's key."""
    name = _text(name)
    if name.endswith(":fence"):
        raise ConfigError("make the name of a key", "", f"{name!r:.200} ends with :fence", next_step="use another name")
    key(pattern, name.replace(":", "-"))
    return pattern.replace("{id}", name)


def plain(agent: str) -> str:
    """An agent's name as the original writes it in keys of shared context: of a-z, 0-9, _ and - alone."""
    name = _text(agent).strip().lower()
    if _PLAIN.match(name):
        return name
    return re.sub(r"-+\Z", "", re.sub(r"\A-+", "", re.sub(r"[^a-z0-9_-]+", "-", name)))[:64] or "main"


def _text(name: object) -> str:
    """A name, if it is a text; raises ``ConfigError``."""
    if not isinstance(name, str):
        raise ConfigError("make the name of a key", "", f"{shown(name)} is no name", next_step="use a text")
    return name
