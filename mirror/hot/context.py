"""What an agent said on its other channels: a hash with the last of it, and a log of about fifty entries, for 24 hours.

``agent:shared_context:{id}``: lastSessionKey, lastChannel, lastSummary, lastEventAt (milliseconds since 1970),
sessionId, runId. ``agent:cross_channel_log:{id}``, a stream: agentId, sessionKey, sessionId, runId, channel, summary,
timestampMs. ``{id}`` is the agent's name in the original's plain form (:func:`~mirror.hot.names.plain`); a field that
is not set is empty.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from mirror.core.errors import ConfigError
from mirror.hot.given import shown, whole
from mirror.hot.names import Names, key, plain
from mirror.hot.requests import Command, Steps, Transaction

#: Seconds after the last entry that hash and log are kept.
KEPT_SECONDS = 24 * 60 * 60
#: About as many entries are kept. (Servers delete whole nodes of up to a hundred entries: there may be 150.)
KEPT_ENTRIES = 50
_MOST = 25
_APPEND = "append to the log of channels"


@dataclass(frozen=True, slots=True)
class ChannelEvent:
    """Something that an agent said on a channel."""

    agent: str
    session_key: str
    summary: str
    timestamp_ms: int
    """Milliseconds since 1970; 0: not known."""
    session_id: str | None = None
    run_id: str | None = None
    channel: str | None = None


def append(
    names: Names,
    agent: str,
    *,
    session_key: str,
    summary: str,
    session_id: str = "",
    run_id: str = "",
    channel: str = "",
    timestamp_ms: int | None = None,
) -> Steps[str]:
    """Add an entry to an agent's log, and set its shared context; return the entry's id. ``timestamp_ms``: now.

    It is sent once: where the answer is lost, ``HotUnsureError`` is raised. Raises ``ConfigError`` for an empty summary
    or session, ``HotStateError``.
    """
    name = plain(agent)
    for value in (session_key, summary):
        if not isinstance(value, str):
            raise ConfigError(_APPEND, name, f"{shown(value)} is no text", next_step="give session_key and summary")
    session, text = session_key.strip(), summary.strip()
    if not session or not text:
        missing = "session_key" if not session else "summary"
        raise ConfigError(_APPEND, name, f"{missing} is empty", next_step="say what was said, and in which session")
    at = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms
    log, shared = key(names.channel_log, name), key(names.shared_context, name)
    entry = ("agentId", name, "sessionKey", session, "sessionId", session_id, "runId", run_id, "channel", channel)
    last = ("lastSessionKey", session, "lastChannel", channel, "lastSummary", text, "lastEventAt", at)
    answers = yield Transaction(
        _APPEND,
        (
            ("XADD", log, "MAXLEN", "~", KEPT_ENTRIES, "*", *entry, "summary", text, "timestampMs", at),
            ("EXPIRE", log, KEPT_SECONDS),
            ("HSET", shared, *last, "sessionId", session_id, "runId", run_id),
            ("EXPIRE", shared, KEPT_SECONDS),
        ),
        again=False,
    )
    return str(answers[0])


def read(
    names: Names, agent: str, *, limit: int = 10, exclude_session_key: str | None = None
) -> Steps[list[ChannelEvent]]:
    """The newest entries of an agent's log, oldest first. ``limit``: from 1 to 25.

    ``exclude_session_key``: the session that reads, which knows its own.
    """
    limit = whole("read the log of channels", str(agent), "limit", limit, _MOST)
    log = key(names.channel_log, plain(agent))
    rows = yield Command("read the log of channels", ("XREVRANGE", log, "+", "-", "COUNT", 3 * limit))
    found = [event for _, fields in rows if (event := _event(plain(agent), fields)) is not None]
    found = [event for event in found if event.session_key != (exclude_session_key or "").strip()][:limit]
    return sorted(found, key=lambda event: event.timestamp_ms)


def shared(names: Names, agent: str) -> Steps[dict[str, str]]:
    """An agent's shared context, by field; empty if there is none."""
    found = yield Command("read the shared context", ("HGETALL", key(names.shared_context, plain(agent))))
    return dict(found)


def _event(agent: str, fields: dict[str, str]) -> ChannelEvent | None:
    """None for an entry without session or summary, which is of another program."""
    texts = {name: value.strip() for name, value in fields.items()}
    session, summary = texts.get("sessionKey"), texts.get("summary")
    if not session or not summary:
        return None
    at = texts.get("timestampMs", "")
    return ChannelEvent(
        texts.get("agentId") or agent,
        session,
        summary,
        int(at) if at.isascii() and at.isdigit() else 0,
        texts.get("sessionId") or None,
        texts.get("runId") or None,
        texts.get("channel") or None,
    )
