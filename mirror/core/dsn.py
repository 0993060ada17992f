"""Passwords in connection strings: found and hidden without a driver, so that a program can do it before it has one.

A string that is neither a URI nor keywords is hidden as a whole, because it may contain anything. Where a string can be
read in two ways, as libpq does and as whoever wrote it meant it, what is a password in either is one.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "hidden"

_SECRETS = frozenset(("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"))
_URI = re.compile(r"postgres(?:ql)?://")
#: The keyword of a query of any URI whose value is for nobody to see.
_SECRET_KEYWORD = re.compile(r"password|passwd|passphrase|secret|token|signature|api_?key|_key$", re.IGNORECASE)
#: Where libpq ends the parts of a URI that is not encoded as it should be.
_DELIMITERS = re.compile(r"[@/?:#&]")
_USER_INFO = re.compile(r":(\S+)@")
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


def hide_in_uri(uri: str) -> str:
    """A URI of any scheme with :data:`HIDDEN` for its password, and for values of its query that are named like one."""
    scheme, mark, rest = re.split(r"(:/+)", uri, maxsplit=1)
    return scheme + mark + _uri(rest, HIDDEN)[0]


def passwords_in(dsn: str) -> set[str]:
    """The passwords in a connection string, as they are and as they are written there.

    Of a string that libpq reads otherwise than it was meant, or not at all, also the parts that libpq would name in its
    errors. What is public in the same string (its user, host or database) is no password.
    """
    if scheme := _URI.match(dsn):
        found = _passwords_in_uri(dsn[scheme.end() :])
        public = set(_DELIMITERS.split(dsn[scheme.end() :].rpartition("@")[2]))
        public.add(re.split("[:@/]", dsn[scheme.end() :], maxsplit=1)[0])
        return found - public
    found, public, at = set(), set(), 0
    while at < len(dsn.rstrip()):
        pair = _KEYWORD.match(dsn, at)
        if pair is None:
            # What follows a blank in a password without quotes; or it is no connection string at all.
            found |= set(_USER_INFO.findall(dsn))
            for name, equals, value in (word.partition("=") for word in dsn[at:].split()):
                if not equals or _is_secret(name):
                    found.add(value.strip("'") if equals else name)
            break
        value = pair[3][1:-1] if pair[3].startswith("'") else pair[3]
        (found if _is_secret(pair[2]) else public).add(re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL))
        at = pair.end()
    return found - public


def _is_secret(keyword: str) -> bool:
    return keyword.lower() in _SECRETS


def _passwords_in_uri(text: str) -> set[str]:
    found = set()
    for part in text.partition("?")[2].split("&"):
        keyword, _, value = part.partition("=")
        if _is_secret(unquote(keyword)):
            found |= {value, unquote(value)}
    user, at, _ = text.rpartition("@")
    _, colon, password = user.partition(":")
    if not (at and colon):
        return found
    if re.match(r"[^@/]*:\d*/", text):  # a host and its port: what comes later is no user's
        return found
    found |= {password, unquote(password)}
    if len(parts := _DELIMITERS.split(password)) > 1:
        # libpq takes what is before the first @ or / for the password, and the rest for host, port and database.
        found |= {*parts, *(f"{part}@" for part in parts if part)}
    return found


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
        secret = _is_secret(pair[2]) and pair[3] not in ("", "''")
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
        if _SECRET_KEYWORD.search(unquote(keyword)) and value:
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
