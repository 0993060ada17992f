"""Texts, blobs, uuids and the like in an application's own tables: the vocabulary of :mod:`mirror.core.adopted`.

Canonical values: of ``boolean`` 0 and 1; of ``uuid`` the text with dashes, in lower case; of ``inet`` and ``cidr`` the
text, with a mask where it is not that of one address, of ``cidr`` always; of ``bytea`` bytes; of all else texts, of
``char`` without the blanks at its end.
"""

from __future__ import annotations

import ipaddress
import re

from mirror.core.adopted import Form
from mirror.parity.adopted_terms import Decode, Lossy, Misfit
from mirror.parity.values import Cell

_HEX = "[0-9a-f]{32}"
_DASHED = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_UUIDS = {
    "hex": re.compile(_HEX),
    "dashed": re.compile(_DASHED),
    "blob": re.compile("(?!)"),
    "": re.compile(f"(?:urn:uuid:)?(?:{_HEX}|{_DASHED})", re.IGNORECASE | re.ASCII),
}
_ADDRESS = re.compile(r"([0-9A-Fa-f:.]+)(?:/(0|[1-9][0-9]{0,2}))?")
_BOOLEANS = {"t": 1, "true": 1, "f": 0, "false": 0}


def decoder(form: Form) -> Decode:
    """What makes canonical values of these kinds."""
    match form.kind:
        case "uuid":
            return _uuid(form)
        case "boolean":
            return _boolean
        case "bytea":
            return _bytea
        case "enum":
            return _enum(form)
        case "inet" | "cidr":
            return _network(form)
        case _:
            return _text(form)


def _boolean(value: Cell) -> Cell:
    if isinstance(value, int | float) and value in (0, 1):
        return int(value)
    if isinstance(value, str) and value in _BOOLEANS:
        return _BOOLEANS[value]
    raise Misfit("no boolean")


def _uuid(form: Form) -> Decode:
    pattern = _UUIDS.get(form.only, _UUIDS[""])
    blobs = form.only not in ("hex", "dashed")

    def decode(value: Cell) -> Cell:
        if isinstance(value, str) and pattern.fullmatch(value):
            digits = value[-36:].lower().replace("-", "")[-32:]
        elif isinstance(value, bytes) and blobs and len(value) == 16:
            digits = value.hex()
        else:
            raise Misfit("no uuid")
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    return decode


def _text(form: Form) -> Decode:
    length, blanks = form.length, form.kind == "char"

    def decode(value: Cell) -> Cell | Lossy:
        if not isinstance(value, str):
            raise Misfit("no text")
        if "\0" in value:
            raise Misfit("a text with NUL")
        if length is not None and len(value) > length:
            raise Misfit("too long")
        if blanks and value.endswith(" "):
            return Lossy(value.rstrip(" "), "without the blanks at their end")
        return value

    return decode


def _bytea(value: Cell) -> Cell:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise Misfit("neither a blob nor a text")


def _enum(form: Form) -> Decode:
    labels = frozenset(form.labels)

    def decode(value: Cell) -> Cell:
        if not isinstance(value, str) or value not in labels:
            raise Misfit("none of its labels")
        return value

    return decode


def _network(form: Form) -> Decode:
    cidr = form.kind == "cidr"

    def decode(value: Cell) -> Cell:
        match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise Misfit("no address")
        try:
            address = ipaddress.ip_address(match[1])
        except ValueError as error:
            raise Misfit("no address") from error
        bits = address.max_prefixlen if match[2] is None else int(match[2])
        if bits > address.max_prefixlen:
            raise Misfit("no address")
        if cidr and int(address) & ((1 << (address.max_prefixlen - bits)) - 1):
            raise Misfit("bits right of the mask")
        return network_text(address.packed, bits, cidr=cidr)

    return decode


def network_text(packed: bytes, bits: int, *, cidr: bool) -> str:
    """The canonical text of an address of 4 or 16 bytes."""
    address = ipaddress.ip_address(packed)
    return f"{address}/{bits}" if cidr or bits != address.max_prefixlen else str(address)
