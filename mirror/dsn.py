"""Passwords in connection strings: found and hidden without a driver, so that a program can do it before it has one.

A string that is neither a URI nor keywords is hidden as a whole: what it holds is not known.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "hidden"

_SECRETS = frozenset(("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"))
_URI = re.compile(r"postgres(?:ql)?://")
#: A keyword and its value, quoted or not; a backslash takes the next character as it is.
_KEYWORD = re.compile(r"(\s*)([^\s=']+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)", re.DOTALL)


def hide_password(dsn: str) -> str:
    """The connection string as it may be shown: each password is replaced by :data:`HIDDEN`."""
    return _split(dsn)[0]


def has_password(dsn: str) -> bool:
    """Whether there is, or may be, a password in a connection string."""
    return _split(dsn)[1]


def _split(dsn: str) -> tuple[str, bool]:
    """The connection string without passwords, and whether it had any."""
    if scheme := _URI.match(dsn):
        shown, found = _uri(dsn[scheme.end() :])
        return scheme[0] + shown, found
    shown, found, at = "", False, 0
    while at < len(dsn.rstrip()):
        pair = _KEYWORD.match(dsn, at)
        if pair is None:
            return f"({HIDDEN}: not a connection string)", True
        secret = pair[2].lower() in _SECRETS and pair[3] not in ("", "''")
        shown += f"{pair[1]}{pair[2]}={HIDDEN}" if secret else pair[0]
        found = found or secret
        at = pair.end()
    return shown.strip(), found


def _uri(text: str) -> tuple[str, bool]:
    """What follows the scheme: ``user:password@host/database?keyword=value``."""
    found = False
    head, mark, query = text.partition("?")
    parts = query.split("&")
    for index, part in enumerate(parts):
        keyword, equals, value = part.partition("=")
        if unquote(keyword).lower() in _SECRETS and value:
            parts[index], found = f"{keyword}{equals}{HIDDEN}", True
    whole = head + mark + "&".join(parts)
    user, at, rest = whole.rpartition("@")
    name, colon, password = user.partition(":")
    if at and colon and password:
        return f"{name}:{HIDDEN}@{rest}", True
    return whole, found
