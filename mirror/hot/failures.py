"""redis-py's errors as the project's: decided by class and by the code word of the answer, never by wording."""

from __future__ import annotations

import re

import redis.exceptions as theirs

from mirror.core.errors import HotAwayError, HotFullError, HotStateError, HotUnsureError
from mirror.core.redaction import redacted

#: The connection is of no use, but the next one may be.
BROKEN = (theirs.ConnectionError, theirs.TimeoutError)
#: Connected, and not let in: subclasses of ``ConnectionError`` that a retry does not help.
NOT_LET_IN = (theirs.AuthenticationError, theirs.AuthorizationError, theirs.AuthenticationWrongNumberOfArgsError)

#: How servers before 7.0 write what they refuse a script, around the error's own code word.
_FROM_SCRIPT = re.compile(r"@user_script: ?\d+: -([A-Z]+)\b")

_NEXT_STEPS = {
    "NOAUTH": "set MIRROR_REDIS_PASSWORD",
    "WRONGPASS": "check MIRROR_REDIS_USERNAME and MIRROR_REDIS_PASSWORD",
    "NOPERM": "give the user of MIRROR_REDIS_USERNAME the rights for the command and the keys (ACL SETUSER)",
    "READONLY": "connect to the primary server",
    "MOVED": "use a server without cluster mode: scripts use keys of several slots",
    "CROSSSLOT": "use a server without cluster mode: scripts use keys of several slots",
    "WRONGTYPE": "another program uses the key for something else: choose other names (mirror.hot.names)",
    "MISCONF": "the server cannot write its files: see its log, and free disk space",
    "NOREPLICAS": "bring the server's replicas back, or lower min-replicas-to-write",
}


def code_word(error: theirs.RedisError) -> str | None:
    """The first word of the server's error: ``OOM``, ``NOGROUP``. redis-py keeps it apart for some only."""
    if found := _FROM_SCRIPT.search(str(error)):
        return found[1]
    if error.status_code:
        return str(error.status_code)
    word = str(error).partition(" ")[0]
    return word if isinstance(error, theirs.ResponseError) and word.isupper() else None


def hot_error(error: theirs.RedisError, doing: str, place: str, *, unsure: bool = False) -> HotStateError:
    """The error for one of redis-py. ``unsure``: it was sent, and must not be sent twice.

    What redis-py and servers write is kept as the detail, without what is known as a secret.
    """
    reply = code_word(error)
    detail = redacted(" ".join(str(error).split()))[:500]
    if reply == "OOM":
        step = "free memory, or raise the server's maxmemory; until then it can be read, renewed and released only"
        return HotFullError(doing, place, detail, reply=reply, next_step=step)
    if isinstance(error, NOT_LET_IN):
        step = _NEXT_STEPS.get(reply or "", "check MIRROR_REDIS_USERNAME and MIRROR_REDIS_PASSWORD")
        return HotStateError(doing, place, detail, reply=reply, next_step=step)
    if isinstance(error, BROKEN):
        if unsure:
            step = "look whether it was done before it is done again"
            return HotUnsureError(doing, place, detail, reply=reply, next_step=step)
        return HotAwayError(doing, place, detail, reply=reply, next_step="check that the server runs there")
    return HotStateError(doing, place, detail, reply=reply, next_step=_NEXT_STEPS.get(reply or "", ""))
