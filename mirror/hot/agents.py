"""What agents do now: the hash ``agent:state:{id}``, and the same as JSON at ``agent:{id}:state``.

=================  =====================================================================
field of the hash  value, as text
=================  =====================================================================
status             idle, processing, contemplating or offline
lastActivity       time in UTC, ``2026-11-29T06:47:00.123Z``
currentMood        a word
currentValence     a number, as JSON has it
currentArousal     a number, as JSON has it
heartbeatAt        time in UTC
sessionKey         a text
=================  =====================================================================

The original's readers see the hash; the JSON, an object with the same fields, is what its documentation promises. Both
are written by one script, so nobody sees one without the other. The original itself writes the hash alone: after
that the JSON is as old as the last :func:`set_state` here.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, cast

from mirror.core.errors import ConfigError
from mirror.hot.given import is_number, shown
from mirror.hot.names import Names, key
from mirror.hot.requests import Command, Script, Steps

Status = Literal["idle", "processing", "contemplating", "offline"]
_STATUSES = ("idle", "processing", "contemplating", "offline")
#: Fields of :class:`AgentState` by their names in the hash.
_FIELDS = {
    "status": "status",
    "lastActivity": "last_activity",
    "currentMood": "current_mood",
    "currentValence": "current_valence",
    "currentArousal": "current_arousal",
    "heartbeatAt": "heartbeat_at",
    "sessionKey": "session_key",
}
_NUMBERS = ("currentValence", "currentArousal")


@dataclass(frozen=True, slots=True)
class AgentState:
    """What is known of an agent; None: it was never set."""

    status: str
    """One of :data:`Status`; ``offline`` where it was never set. Another program may have written another word."""
    last_activity: str
    """Time in UTC, as text; empty where it was never set."""
    current_mood: str | None = None
    current_valence: float | None = None
    current_arousal: float | None = None
    heartbeat_at: str | None = None
    session_key: str | None = None
    others: dict[str, str] = field(default_factory=dict)
    """Fields that other programs have added."""


def now_text() -> str:
    """The time now, in UTC, as JavaScript writes it: ``2026-11-29T06:47:00.123Z``."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def set_state(
    names: Names,
    agent: str,
    *,
    status: Status | None = None,
    last_activity: str | None = None,
    current_mood: str | None = None,
    current_valence: float | None = None,
    current_arousal: float | None = None,
    heartbeat_at: str | None = None,
    session_key: str | None = None,
) -> Steps[None]:
    """Set what is given of an agent's state; the rest stays. ``last_activity``: now, if it is not given.

    Raises ``ConfigError`` for a status or number that readers would not understand, ``HotStateError``.
    """
    doing = "set the state of an agent"
    if status is not None and status not in _STATUSES:
        step = f"use {', '.join(_STATUSES)}"
        raise ConfigError(doing, agent, f"{status!r} is no status", next_step=step)
    given = {
        "status": status,
        "lastActivity": now_text() if last_activity is None else last_activity,
        "currentMood": current_mood,
        "currentValence": _number(doing, agent, "current_valence", current_valence),
        "currentArousal": _number(doing, agent, "current_arousal", current_arousal),
        "heartbeatAt": heartbeat_at,
        "sessionKey": session_key,
    }
    flat = [text for name, value in given.items() if value is not None for text in (name, value)]
    keys = (key(names.state, agent), key(names.state_json, agent))
    yield Script(doing, "set_state", keys, (" ".join(_NUMBERS), *flat))


def get_state(names: Names, agent: str) -> Steps[AgentState | None]:
    """An agent's state; None if there is none."""
    found = yield Command("get the state of an agent", ("HGETALL", key(names.state, agent)))
    return state_of(found) if found else None


def state_of(fields: dict[str, str]) -> AgentState:
    """The state that a hash holds; a number that is none counts as not set."""
    known: dict[str, str | float | None] = {"status": "offline", "last_activity": ""}
    for name, attribute in _FIELDS.items():
        if name in fields:
            known[attribute] = _read_number(fields[name]) if name in _NUMBERS else fields[name]
    others = {name: value for name, value in fields.items() if name not in _FIELDS}
    return AgentState(others=others, **known)  # type: ignore[arg-type]


def forget_state(names: Names, agent: str) -> Steps[bool]:
    """Delete an agent's state; whether there was one."""
    keys = (key(names.state, agent), key(names.state_json, agent))
    return cast("int", (yield Command("delete the state of an agent", ("DEL", *keys)))) > 0


def _number(doing: str, agent: str, name: str, value: float | None) -> str | None:
    if value is None:
        return None
    if not is_number(value):
        raise ConfigError(doing, agent, f"{name}: {shown(value)} is no number", next_step="use a finite number")
    return json.dumps(value)


def _read_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
