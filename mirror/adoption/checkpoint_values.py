"""The values of LangGraph's checkpoints, carried as SQLite has them: no object is made of them.

A checkpoint of SqliteSaver is one value with all channels in it; PostgresSaver keeps each channel apart. A saver makes
objects of a value when it reads it, and of an object whose class cannot be imported its bare contents: read and written
by a program that is not the application, an ``Order(7)`` would silently become ``{"id": 7}``. So a value is divided
without a look into what it contains, and given to PostgresSaver with a serializer that passes it through.

A value has a type and bytes (:mod:`langgraph.checkpoint.serde.jsonplus`):

=============== ================================================================================================
``msgpack``     MessagePack; objects are extensions: a code (7 is a snapshot of a DeltaChannel), and MessagePack again
``json``        JSON, by LangGraph before 2025; objects are ``{"lc": 2, "type": "constructor", …}``
``bytes``       itself, also ``bytearray``
``null``        None, without bytes
others          ``pickle``, or encrypted (``msgpack+aes``): a checkpoint of these cannot be divided
=============== ================================================================================================
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde.types import _DeltaSnapshot

_DELTA_SNAPSHOT = 7


class UndividedError(Exception):
    """A checkpoint that cannot be divided into its channels; the text says why."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A value as a saver has it."""

    type: str
    data: bytes


class AsStored:
    """The serializer for a saver that reads and writes values as they are."""

    def dumps_typed(self, value: Any) -> tuple[str, bytes]:
        """The type and the bytes of a value; of anything else nothing, as nobody looks at what a saver makes itself."""
        value = as_stored(value)
        return (value.type, value.data) if isinstance(value, Stored) else ("", b"")

    def loads_typed(self, data: tuple[str, bytes]) -> Stored:
        """The value of a type and bytes."""
        return Stored(data[0], bytes(data[1]))


class _Extension:
    """An extension of MessagePack."""

    __slots__ = ("code", "data")

    def __init__(self, code: int, data: bytes) -> None:
        self.code, self.data = code, data

    @staticmethod
    def packed(value: Any) -> ormsgpack.Ext:
        """For the packer, which asks for what it does not know."""
        assert isinstance(value, _Extension)
        return ormsgpack.Ext(value.code, value.data)


def as_stored(value: Any) -> Any:
    """The value in a snapshot; anything else as it is."""
    return value.value if isinstance(value, _DeltaSnapshot) else value


def is_snapshot(value: Any) -> bool:
    """Whether a value is a snapshot of a DeltaChannel, in which all that was written before is."""
    if not isinstance(value, Stored) or value.type != "msgpack":
        return False
    try:
        found = _unpacked(value.data)
    except ormsgpack.MsgpackDecodeError:
        return False
    return isinstance(found, _Extension) and found.code == _DELTA_SNAPSHOT


def divided(kind: str, data: bytes) -> dict[str, Any]:
    """A checkpoint of which the channels' values are :class:`Stored`, in a snapshot's place too; but for those that
    PostgresSaver keeps within the checkpoint, as JSON, and that JSON keeps as they are.

    Raises :class:`UndividedError`.
    """
    if kind == "msgpack":
        whole = _of_msgpack(data)
    elif kind == "json":
        whole = _of_json(data)
    else:
        raise UndividedError(f"it is of the type {kind or 'none'}, which only its program can read")
    if not isinstance(whole, dict) or not isinstance(whole.get("channel_values"), dict):
        raise UndividedError("it is no checkpoint")
    return whole | {"channel_values": {name: _apart(value, kind) for name, value in whole["channel_values"].items()}}


def _of_msgpack(data: bytes) -> Any:
    try:
        whole = _unpacked(data)
        if _packed(whole) != data:
            raise UndividedError("its bytes are not those that LangGraph writes")
    except (ormsgpack.MsgpackDecodeError, ormsgpack.MsgpackEncodeError) as error:
        raise UndividedError(f"it cannot be read: {error}") from error
    return whole


def _of_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise UndividedError(f"it cannot be read: {error}") from error


def _unpacked(data: bytes) -> Any:
    return ormsgpack.unpackb(data, ext_hook=_Extension, option=ormsgpack.OPT_NON_STR_KEYS)


def _packed(value: Any) -> bytes:
    return ormsgpack.packb(value, default=_Extension.packed, option=ormsgpack.OPT_NON_STR_KEYS)


def _apart(value: Any, kind: str) -> Any:
    """A channel's value. Of floats JSON would not keep all: so none is within the checkpoint."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, str) and _is_plain(value)):
        return value
    if isinstance(value, bytes):
        return Stored("bytes", value)
    if kind == "json":
        return Stored("json", json.dumps(value).encode())
    if isinstance(value, _Extension) and value.code == _DELTA_SNAPSHOT:
        return _DeltaSnapshot(Stored("msgpack", _packed(value)))
    return Stored("msgpack", _packed(value))


def _is_plain(text: str) -> bool:
    """Whether Postgres' JSON can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair
        return False
    return "\0" not in text
