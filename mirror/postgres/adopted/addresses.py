"""Addresses: ``inet``, ``cidr``.

An address is four decimal numbers without zeros in front, or IPv6 in any of its forms but with a scope (``%eth0``).
``/n`` after it is the length of its network, in decimal. Postgres' short forms (``10.1``), which it reads in one way as
inet and in another as cidr, are not taken. What Postgres gets is the address in its shortest form; the length is left
out of an inet that is one address.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

from mirror.core.adopted import Form
from mirror.core.values import Value
from mirror.postgres.adopted.conversion import Conversion, Note, clean_text, unheard
from mirror.postgres.codecs import Reject

NOT_AN_ADDRESS = "a text that is not an address"
RIGHT_OF_THE_MASK = "a network with bits right of its mask"

_ADDRESS = re.compile(r"([0-9A-Fa-f:.]+)(?:/(0|[1-9]\d{0,2}))?", re.ASCII)


def address(form: Form) -> Conversion:
    """Addresses, and networks of cidr."""
    of_network = form.kind == "cidr"

    def convert(value: Value, note: Note = unheard, /) -> str | None:
        if value is None:
            return None
        found = clean_text(value, "addresses")
        match = _ADDRESS.fullmatch(found)
        if match is None:
            raise Reject(NOT_AN_ADDRESS)
        try:
            ip = IPv6Address(match[1]) if ":" in match[1] else IPv4Address(match[1])
        except ValueError as error:
            raise Reject(NOT_AN_ADDRESS) from error
        bits = ip.max_prefixlen
        length = bits if match[2] is None else int(match[2])
        if length > bits:
            raise Reject(NOT_AN_ADDRESS)
        if of_network and int(ip) & ((1 << (bits - length)) - 1):
            raise Reject(RIGHT_OF_THE_MASK)
        text = _shortest(ip)
        return f"{text}/{length}" if of_network or length < bits else text

    return convert


def _shortest(ip: IPv4Address | IPv6Address) -> str:
    """As Postgres writes it, and Python from 3.13 on."""
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return f"::ffff:{ip.ipv4_mapped}"
    return str(ip)
