"""Passwords in connection strings: found and hidden without a driver, so that a program can do it before it has one.

A string that is neither a URI nor keywords is hidden as a whole, because it may contain anything. Where a string can be
read in two ways, as libpq does and as whoever wrote it meant it, what is a password in either is one. So is the value
of a keyword that libpq does not have (``pasword=…``); and such a keyword is itself taken for a part of the password
that is before it without quotes (``password=my se=cret``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple
from urllib.parse import unquote

HIDDEN = "hidden"

_SECRETS = frozenset(("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"))
#: All that libpq has had since version 10, whatever it was built with, but for :data:`_SECRETS`; in small letters only.
#: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_PUBLIC = frozenset(
    (
        "application_name", "authtype", "channel_binding", "client_encoding", "connect_timeout", "dbname",
        "fallback_application_name", "gssdelegation", "gssencmode", "gsslib", "host", "hostaddr", "keepalives",
        "keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname", "load_balance_hosts",
        "max_protocol_version", "min_protocol_version", "oauth_client_id", "oauth_issuer", "oauth_scope", "options",
        "passfile", "port", "replication", "require_auth", "requirepeer", "requiressl", "service", "servicefile",
        "ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert", "sslcertmode", "sslcompression", "sslcrl",
        "sslcrldir", "sslkey", "sslkeylogfile", "sslmode", "sslnegotiation", "sslrootcert", "sslsni",
        "target_session_attrs", "tcp_user_timeout", "tty", "user",
    )
)  # fmt: skip
_URI = re.compile(r"postgres(?:ql)?://")
#: The keyword of a query of a URI for others than libpq, whose value is for nobody to see.
_SECRET_KEYWORD = re.compile(r"password|passwd|passphrase|secret|token|signature|api_?key|_key$", re.IGNORECASE)
#: Where libpq ends the parts of a URI that is not encoded as it should be.
_DELIMITERS = re.compile(r"[@/?:#&]")
#: A question mark in a password: what is before it is neither a host alone nor a host and its port.
_ODD_PASSWORD = re.compile(r"[^@/?]*:(?!\d*\?)[^@/]*\?[^@/]*@")
#: A host and its port: what comes later is no user's.
_HOST_AND_PORT = re.compile(r"[^@/]*:\d*/")
_USER_INFO = re.compile(r":(\S+)@")
#: What a keyword is made of. Anything else before an equals sign may be the end of a secret.
_WORD = re.compile(r"[A-Za-z_]+")
#: A keyword and its value, quoted or not; a backslash escapes the next character.
_KEYWORD = re.compile(rf"(\s*)({_WORD.pattern})\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)", re.DOTALL)


class _Kind(Enum):
    """What is to be done with a keyword and its value."""

    PUBLIC = 1
    """Both may be shown."""
    SECRET = 2
    """The value may not; the keyword is one of libpq's."""
    UNKNOWN = 3
    """The same; libpq does not have the keyword."""
    PIECE = 4
    """Neither may: both may belong to the password before."""


class _Pair(NamedTuple):
    before: str
    """Blanks."""
    keyword: str
    written: str
    """The value as it is written there."""
    kind: _Kind

    @property
    def quoted(self) -> bool:
        return self.written.startswith("'")

    @property
    def leaves_doubt(self) -> bool:
        """Whether the value is a secret that has not been hidden yet, so that what follows may belong to it."""
        return self.kind is not _Kind.PUBLIC and self.written != HIDDEN

    def shown(self, instead: str) -> str:
        """With ``instead`` for what may not be shown; empty, if nothing is to be left of it then."""
        if self.kind is _Kind.PUBLIC:
            return f"{self.keyword}={self.written}"
        return instead and f"{instead if self.kind is _Kind.PIECE else self.keyword}={instead}"


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
    libpq = scheme.lower() in ("postgres", "postgresql")
    return scheme + mark + _uri(rest, HIDDEN, libpq=libpq)[0]


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
    found, public = set(), set()
    pairs, rest = _pairs(dsn)
    for pair in pairs:
        value = pair.written[1:-1] if pair.quoted else pair.written
        (public if pair.kind is _Kind.PUBLIC else found).add(re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL))
        if pair.kind is _Kind.PIECE:
            found.add(pair.keyword)
    if rest:
        # What follows a blank in a password without quotes; or it is no connection string at all.
        found |= set(_USER_INFO.findall(dsn))
        for name, equals, value in (word.partition("=") for word in rest.split()):
            if not equals or name not in _PUBLIC:
                found.add(value.strip("'") if equals else name)
    return found - public


def keywords_in(dsn: str) -> list[str]:
    """The keywords of a connection string that can be named without telling a piece of a password."""
    if scheme := _URI.match(dsn):
        text = dsn[scheme.end() :]
        if _ODD_PASSWORD.match(text):
            return []
        parts = _parameters(text.partition("?")[2], libpq=True)
        return [unquote(part.keyword) for part in parts if part.kind is not _Kind.PIECE and not _is_alias(part)]
    pairs, rest = _pairs(dsn)
    return [] if rest else [pair.keyword for pair in pairs if pair.kind is not _Kind.PIECE]


def _pairs(dsn: str) -> tuple[list[_Pair], str]:
    """The keywords with their values, and what is left that is neither."""
    found: list[_Pair] = []
    at, doubtful = 0, False
    while at < len(dsn.rstrip()):
        pair = _KEYWORD.match(dsn, at)
        if pair is None:
            return found, dsn[at:]
        made = _Pair(pair[1], pair[2], pair[3], _kind(pair[2], doubtful))
        if made.kind is _Kind.SECRET and pair[3] in ("", "''"):
            made = made._replace(kind=_Kind.PUBLIC)
        doubtful = made.leaves_doubt and (made.kind is _Kind.PIECE or not made.quoted)
        found.append(made)
        at = pair.end()
    return found, ""


def _kind(keyword: str, doubtful: bool) -> _Kind:
    """``doubtful``: the value before is not to be shown, and may go on here."""
    if _is_secret(keyword):
        return _Kind.SECRET
    if keyword in _PUBLIC:
        return _Kind.PUBLIC
    return _Kind.PIECE if doubtful or not _WORD.fullmatch(keyword) else _Kind.UNKNOWN


def _is_secret(keyword: str) -> bool:
    return keyword.lower() in _SECRETS


def _is_alias(part: _Pair) -> bool:
    """Whether it is what libpq takes for sslmode=require, in a URI alone."""
    return (unquote(part.keyword), unquote(part.written)) == ("ssl", "true")


def _parameters(query: str, *, libpq: bool) -> Iterator[_Pair]:
    """The parts of a URI's query; without an equals sign and a word before it, one has no keyword.

    ``libpq``: who reads it.
    """
    doubtful = False
    for part in query.split("&"):
        keyword, equals, value = part.partition("=")
        name = unquote(keyword)
        if not (equals and keyword):
            # With an @, it may be a user's and a server's.
            made = _Pair("", "", part, _Kind.PIECE if libpq and part and "@" not in part else _Kind.PUBLIC)
        elif not libpq:
            hidden = value and _SECRET_KEYWORD.search(name)
            made = _Pair("", keyword, value, _Kind.SECRET if hidden else _Kind.PUBLIC)
        else:
            made = _Pair("", keyword, value, _kind(name, doubtful))
            if _is_alias(made) or (made.kind is _Kind.SECRET and not value):
                made = made._replace(kind=_Kind.PUBLIC)
            elif made.kind is _Kind.UNKNOWN and "@" in value:
                made = made._replace(kind=_Kind.PIECE)
        doubtful = made.leaves_doubt
        yield made


def _passwords_in_uri(text: str) -> set[str]:
    found = set()
    for part in _parameters(text.partition("?")[2], libpq=True):
        if part.kind is not _Kind.PUBLIC:
            found |= {part.written, unquote(part.written)}
        if part.kind is _Kind.PIECE:
            found |= {part.keyword, unquote(part.keyword)}
    user, at, _ = text.rpartition("@")
    _, colon, password = user.partition(":")
    if not (at and colon) or _HOST_AND_PORT.match(text):
        return found
    found |= {password, unquote(password)}
    if len(parts := _DELIMITERS.split(password)) > 1:
        # libpq takes what is before the first @ or / for the password, and the rest for host, port and database.
        found |= {*parts, *(f"{part}@" for part in parts if part)}
    return found


def _split(dsn: str, instead: str) -> tuple[str, bool]:
    """The connection string with ``instead`` for each password (empty: left out), and whether it had one."""
    if scheme := _URI.match(dsn):
        shown, found = _uri(dsn[scheme.end() :], instead, libpq=True)
        return scheme[0] + shown, found
    pairs, rest = _pairs(dsn)
    if rest:
        return f"({HIDDEN}: not a connection string)", True
    if all(pair.kind is _Kind.PUBLIC for pair in pairs):
        return dsn.strip(), False
    shown = "".join(pair.before + text for pair in pairs if (text := pair.shown(instead)))
    return shown.strip(), True


def _uri(text: str, instead: str, *, libpq: bool) -> tuple[str, bool]:
    """What follows the scheme: ``user:password@host/database?keyword=value``. ``libpq``: who reads it."""
    if _ODD_PASSWORD.match(text):
        user, _, rest = text.rpartition("@")
        name = user.partition(":")[0]
        return f"{name}{':' if instead else ''}{instead}@{_uri(rest, instead, libpq=libpq)[0]}", True
    head, mark, query = text.partition("?")
    parts = list(_parameters(query, libpq=libpq))
    found = any(part.kind is not _Kind.PUBLIC for part in parts)
    texts = []
    for part in parts:
        if part.keyword:
            texts.append(part.shown(instead))
        else:
            texts.append(part.written if part.kind is _Kind.PUBLIC else instead)
    left = [each for each, part in zip(texts, parts, strict=True) if each or part.kind is _Kind.PUBLIC]
    whole = head + (mark if left else "") + "&".join(left)
    user, at, rest = whole.rpartition("@")
    name, colon, password = user.partition(":")
    if at and colon and password:
        return f"{name}{colon if instead else ''}{instead}@{rest}", True
    name, colon, password = head.partition(":")
    if "@" in text and not at and colon and password and not _HOST_AND_PORT.match(text):
        # The @ that ends a password may be in what is hidden of the query.
        return f"{name}{colon if instead else ''}{instead}{whole[len(head) :]}", True
    return whole, found
