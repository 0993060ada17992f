"""Events for the dashboard, on ``channel:dashboard``: JSON with ``type``, ``agentId`` and ``data``.

Who listens hears what is published from then on. What is published while nobody listens, or while a listener's
connection is broken, is lost: that is what a channel is. Use the family's messages for what must arrive.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mirror.core.errors import ConfigError
from mirror.hot.given import shown
from mirror.hot.names import Names
from mirror.hot.requests import Command, Steps

Kind = Literal["task_update", "mood_change", "agent_status", "memory_stored"]
_KINDS = ("task_update", "mood_change", "agent_status", "memory_stored")
_PUBLISH = "publish an event"


@dataclass(frozen=True, slots=True)
class Event:
    """An event as it was heard."""

    type: str
    """One of :data:`Kind`; another program may send others."""
    agent: str
    data: Mapping[str, Any]


def publish(names: Names, kind: Kind, agent: str, data: Mapping[str, Any]) -> Steps[int]:
    """Publish an event; return how many connections heard it.

    It is sent once: where the answer is lost, ``HotUnsureError`` is raised. Raises ``ConfigError`` for an unknown kind
    and for data that JSON cannot hold, ``HotStateError``.
    """
    if kind not in _KINDS:
        raise ConfigError(_PUBLISH, names.dashboard, f"{kind!r} is no kind", next_step=f"use {', '.join(_KINDS)}")
    if not isinstance(data, Mapping):
        raise ConfigError(_PUBLISH, names.dashboard, f"the data is {shown(data)}", next_step="give an object")
    text = json_text({"type": kind, "agentId": agent, "data": dict(data)}, _PUBLISH, names.dashboard)
    return int((yield Command(_PUBLISH, ("PUBLISH", names.dashboard, text), again=False)))


def event_of(text: str) -> Event | None:
    """The event that a message is; None for what is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("type"), str):
        return None
    data = found.get("data")
    return Event(found["type"], str(found.get("agentId", "")), data if isinstance(data, dict) else {})


def json_text(value: Any, doing: str, place: str) -> str:
    """A value as JSON without spaces. Raises ``ConfigError`` for what JSON cannot hold."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(doing, place, str(error), next_step="use what JSON can hold") from error
