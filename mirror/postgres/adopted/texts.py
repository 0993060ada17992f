"""Texts and bytes: ``text``, ``varchar``, ``char``, ``citext``, enums, ``bytea``, ``uuid``.

A uuid is 32 hexadecimal digits in any case, with or without dashes after the 8th, 12th, 16th and 20th and with or
without ``urn:uuid:`` before it, or a blob of 16 bytes.
"""

from __future__ import annotations

import re
import struct

from mirror.core.adopted import Form
from mirror.core.values import Value
from mirror.postgres.adopted.conversion import Conversion, Note, clean_text, refuse, unheard
from mirror.postgres.codecs import MAX_ROW_BYTES, OVERSIZED, Reject, size_of

TOO_MANY = "a text of too many characters"
SPACES = "spaces at the end"
NOT_A_LABEL = "a text that is no label of the enum"
NOT_A_UUID = "a text that is not a uuid"
NOT_16_BYTES = "a blob that has not 16 bytes, in a column of uuids"

_DASHED = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_PARTS = struct.Struct("8s4s4s4s12s")


def check_size(value: str | bytes) -> None:
    """Raise :class:`Reject` for what no row of Postgres has room for."""
    if 4 * len(value) > MAX_ROW_BYTES and size_of(value) > MAX_ROW_BYTES:
        raise Reject(OVERSIZED)


def text(form: Form) -> Conversion:
    """Texts, of at most the form's length; of char, spaces at the end are not given back."""
    most, padded = form.length, form.kind == "char"

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if value is None:
            return None
        found = clean_text(value, "texts")
        if most is not None and len(found) > most:
            raise Reject(TOO_MANY)
        if padded and found.endswith(" "):
            note(SPACES)
        check_size(found)
        return found

    return convert


def enum(form: Form) -> Conversion:
    """Labels."""
    labels = frozenset(form.labels)

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if type(value) is str and value in labels:
            return value
        if value is None:
            return None
        clean_text(value, "labels")
        raise Reject(NOT_A_LABEL)

    return convert


def bytea(form: Form) -> Conversion:
    """Blobs, and the bytes of texts."""

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if value is None:
            return None
        if type(value) is not bytes and type(value) is not str:
            refuse(value, "bytes")
        check_size(value)
        return "\\x" + (value.encode() if isinstance(value, str) else value).hex()

    return convert


def uuid(form: Form) -> Conversion:
    """Uuids, in lower case with dashes."""

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if type(value) is str:
            if len(value) != 32:
                value = value.lower().removeprefix("urn:uuid:")
                if _DASHED.fullmatch(value) is not None:
                    return value
            try:
                raw = bytes.fromhex(value)
            except ValueError as error:
                raise Reject(NOT_A_UUID) from error
            if len(raw) != 16 or len(value) != 32:  # spaces between digits were left out
                raise Reject(NOT_A_UUID)
        elif value is None:
            return None
        elif type(value) is not bytes:
            refuse(value, "uuids")
        elif len(value) != 16:
            raise Reject(NOT_16_BYTES)
        else:
            raw = value
        return b"-".join(_PARTS.unpack(raw.hex().encode())).decode()

    return convert
