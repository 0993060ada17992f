"""Passwords in connection strings: found and hidden without a driver, so that a program can do it before it has one.

A string that is neither a URI nor keywords is hidden as a whole, because it may contain anything.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "hidden"

_SECRETS = frozenset(("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"))
_URI = re.compile(r"postgres(?:ql)?://")
#: A keyword and its value, quoted or not; a backslash escapes the next character.
_KEYWORD = re.compile(r"(\s*)([^\s=']+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)", re.DOTALL)


def hide_password(dsn: str) -> str:
    """The connection string for display: each password is replaced by :data:`HIDDEN`."""
    return _split(dsn, HIDDEN)[0]


def without_password(dsn: str) -> str:
    """The connection string without its passwords, for use where they are found elsewhere (``~/.pgpass``).

    Empty if ``dsn`` is not a connection string.
    """
    shown, found = _split(dsn, "")
    return "" if found and shown.startswith("(") else shown


def has_password(dsn: str) -> bool:
    """Whether there is, or may be, a password in a connection string."""
    return _split(dsn, HIDDEN)[1]


def _split(dsn: str, instead: str) -> tuple[str, bool]:
    """The connection string with ``instead`` for each password (empty: left out), and whether it had one."""
    if scheme := _URI.match(dsn):
        shown, found = _uri(dsn[scheme.end() :], instead)
        return scheme[0] + shown, found
    shown, found, at = "", False, 0
    while at < len(dsn.rstrip()):
        pair = _KEYWORD.match(dsn, at)
        if pair is None:
            return f"({HIDDEN}: not a connection string)", True
        secret = pair[2].lower() in _SECRETS and pair[3] not in ("", "''")
        if not secret:
            shown += pair[0]
        elif instead:
            shown += f"{pair[1]}{pair[2]}={instead}"
        found = found or secret
        at = pair.end()
    return shown.strip(), found


def _uri(text: str, instead: str) -> tuple[str, bool]:
    """What follows the scheme: ``user:password@host/database?keyword=value``."""
    found = False
    head, mark, query = text.partition("?")
    parts = []
    for part in query.split("&"):
        keyword, equals, value = part.partition("=")
        if unquote(keyword).lower() in _SECRETS and value:
            found = True
            if instead:
                parts.append(f"{keyword}{equals}{instead}")
        else:
            parts.append(part)
    whole = head + (mark if parts else "") + "&".join(parts)
    user, at, rest = whole.rpartition("@")
    name, colon, password = user.partition(":")
    if at and colon and password:
        return f"{name}{colon if instead else ''}{instead}@{rest}", True
    return whole, found
