"""Secrets in what people and machines read: one function that every log, error, traceback and report passes.

A secret is found in two ways:

- by its form: the password of a URI of any scheme, ``password=…`` and the like, also as a variable or a member of JSON,
  ``PASSWORD '…'`` in SQL, what an ``Authorization`` header has;
- by its value: what :func:`remember_secret` and :func:`remember_dsn` were told, and what the variables of
  :data:`VARIABLES` hold, however it is written: percent-encoded, quoted, escaped. A driver's error may show a piece of
  a connection string that it has read otherwise than it was meant.

A value of fewer than eight characters is hidden where it is a word of its own. One of fewer than three, or of letters
alone and fewer than twelve, is hidden only by its form: a password that is an ordinary word is in texts of our own,
too, and not to show these as they are would tell it.

It does not know what rows contain: those are for who may read the database, and are shown by commands for them only.
"""

from __future__ import annotations

import json
import os
import re
from urllib.parse import quote, quote_plus

from mirror.core.dsn import HIDDEN, hide_in_uri, passwords_in

#: Environment variables that hold secrets, several with commas between.
VARIABLES = (
    "PGPASSWORD",
    "MIRROR_REDIS_PASSWORD",
    "MIRROR_SECRET_KEY",
    "MIRROR_ALERTS_SECRET",
    "MIRROR_WEBHOOK_SECRET",
)
#: From so many characters on a value is hidden also within a word, at all, and though it is of letters alone.
_WITHIN, _LEAST, _LEAST_LETTERS = 8, 3, 12
#: Values that are known at a time: of one that changes again and again the newest.
_MOST = 256
_NAMES = r"(?:password|passwd|passphrase|secret|token|api_?key|private_?key|credentials?)"
#: Each alternative begins where no longer word can, and takes time in proportion to the text.
_FORMS = rf"""
    (?P<uri> (?<![A-Za-z0-9+.-]) [A-Za-z][A-Za-z0-9+.-]* :/{{1,3}} [^\s/] \S* )
  | (?P<named> {_NAMES} = ) (?! {HIDDEN} [;,.:)]* (?: \s | $ ) ) (?: '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | \S+ )
  | (?P<member> ["'] [\w-]{{0,40}} {_NAMES} ["'] \s* : \s* ) (?: "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' )
  | (?P<sql> \b PASSWORD \s+ ) '(?:[^']|'')*'
  | (?P<header> \b (?: Authorization ["']? \s* [:=] \s* ["']? (?: \w+ \s+ )? | Bearer \s+ ) ) [^\s"',]+
    """
_FLAGS = re.IGNORECASE | re.DOTALL | re.VERBOSE

#: Without one of these, in small letters, a text has none of the forms: looking for them takes a hundred times less.
_HINTS = (":/", "passw", "passphrase", "secret", "token", "key", "credential", "authorization", "bearer")

_secrets: dict[str, None] = {}
#: What is new whenever a secret is; and what was compiled, for which one.
_stamp = object()
_compiled: tuple[object, re.Pattern[str] | None] = (_stamp, None)
_of_variables: tuple[str, ...] = ()


def remember_secret(*values: str) -> None:
    """Hide these values from now on. Thread: any."""
    global _stamp
    new = [value for value in values if _is_told_apart(value) and value not in _secrets]
    if not new:
        return
    for value in new:
        _secrets[value] = None
    while len(_secrets) > _MOST:
        _secrets.pop(next(iter(_secrets)), None)
    _stamp = object()


def _is_told_apart(value: str) -> bool:
    return len(value) >= (_LEAST_LETTERS if value.isalpha() else _LEAST)


def remember_dsn(dsn: str | None) -> None:
    """Hide the passwords of a connection string from now on. Thread: any."""
    if dsn:
        remember_secret(*passwords_in(dsn))


def redacted(text: str) -> str:
    """The text with :data:`~mirror.core.dsn.HIDDEN` for each secret in it; again redacted it stays the same."""
    small, known = text.lower(), _known()
    # Compiled when it is first used: most commands never do.
    shown = re.sub(_FORMS, _hide, text, flags=_FLAGS) if any(hint in small for hint in _HINTS) else text
    return shown if known is None else known.sub(HIDDEN, shown)


def _hide(found: re.Match[str]) -> str:
    if found.lastgroup == "uri":
        return hide_in_uri(found[0])
    assert found.lastgroup is not None
    mark = found[0][-1] if found.lastgroup in ("member", "sql") else ""
    return f"{found[found.lastgroup]}{mark}{HIDDEN}{mark}"


def _known() -> re.Pattern[str] | None:
    """What finds the values that are known; None: there is none."""
    global _compiled, _of_variables
    now = tuple(os.environ.get(name, "") for name in VARIABLES)
    if now != _of_variables:
        _of_variables = now
        remember_secret(*(part.strip() for value in now for part in (value, *value.split(","))))
    if _compiled[0] is not _stamp:
        stamp = _stamp  # before the values: one that comes meanwhile has another, and all is done again
        forms = {form for value in list(_secrets) for form in _forms(value)}
        patterns = map(_pattern, sorted(forms, key=len, reverse=True))
        _compiled = stamp, re.compile("|".join(patterns))
    return _compiled[1]


def _forms(value: str) -> set[str]:
    """How a value may be written."""
    encoded = {
        quote(value, safe="", errors="replace"),
        quote(value, errors="replace"),
        quote_plus(value, errors="replace"),
    }
    lower = {re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), form) for form in encoded}
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    escaped = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]}
    lines = {" ".join(value.split()), value.encode("unicode_escape").decode()}
    return {form for form in {value, quoted} | encoded | lower | escaped | lines if len(form) >= _LEAST}


def _pattern(form: str) -> str:
    if len(form) >= _WITHIN:
        return re.escape(form)
    before, after = (r"(?<!\w)" if form[0].isalnum() else "", r"(?!\w)" if form[-1].isalnum() else "")
    return f"{before}{re.escape(form)}{after}"
