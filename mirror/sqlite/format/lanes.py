"""The checksum of a page without numpy: all pairs of words at a time, as lanes of large integers.

The sums that :mod:`mirror.sqlite.format.wal` describes are ``sum(A**(n-1-i) (x_i, x_i + y_i))`` over the n pairs of
words of a page. Here a lane of 64 bits has one pair's number below 2**32, so that its product with another one stays
inside of it. The first half of the lanes times ``A**(n/2)``, plus the second half, are as many sums of half as many
pairs. So a few products of integers, which take some microseconds for a page, leave a few pairs.
"""

from __future__ import annotations

import struct
from array import array
from functools import lru_cache
from typing import NamedTuple

_MASK = 0xFFFFFFFF
#: So few lanes are added up one by one.
_FEW = 8

#: ``A**k``, which is symmetric, ((a, b), (b, d)), as (a, b, d).
Power = tuple[int, int, int]
#: The two numbers that a checksum consists of, each below 2**32.
Sums = tuple[int, int]


class _Half(NamedTuple):
    """One step: bits of the lanes that are left, masks of them and of the numbers in them, and ``A**lanes``."""

    bits: int
    whole: int
    numbers: int
    power: Power


class _Plan(NamedTuple):
    numbers: int
    """A mask of the numbers in all lanes of a page."""
    halves: tuple[_Half, ...]
    last: struct.Struct
    """The lanes that are left after them."""
    power: Power
    """``A**pairs``."""


def _numbers(lanes: int) -> int:
    return int.from_bytes(b"\xff\xff\xff\xff\0\0\0\0" * lanes, "little")


@lru_cache(maxsize=8)
def _plan(page_size: int) -> _Plan:
    powers: dict[int, Power] = {}
    (a, b, d), lanes = (1, 1, 2), 1
    while lanes <= page_size // 8:
        powers[lanes] = a, b, d
        a, b, d = (a * a + b * b) & _MASK, (a * b + b * d) & _MASK, (b * b + d * d) & _MASK
        lanes *= 2
    halves = tuple(
        _Half(64 * lanes, (1 << 64 * lanes) - 1, _numbers(lanes), power)
        for lanes, power in sorted(powers.items(), reverse=True)
        if _FEW <= lanes < page_size // 8
    )
    return _Plan(_numbers(page_size // 8), halves, struct.Struct(f"<{_FEW}Q"), powers[page_size // 8])


def page_sums(page: bytes, big_endian: bool, seed: Sums) -> Sums:
    """The checksum of a page (its size is a power of two, from 512 bytes on), continuing from ``seed``."""
    mask, halves, last, (a, b, d) = _plan(len(page))
    s0, s1 = seed
    s0, s1 = a * s0 + b * s1, b * s0 + d * s1
    if big_endian:
        words = array("I", page)
        words.byteswap()
        page = words.tobytes()
    pairs = int.from_bytes(page, "little")
    first = pairs & mask
    second = first + (pairs >> 32 & mask)
    for bits, whole, mask, (a, b, d) in halves:
        # The first pairs are in the lowest lanes.
        one, other = first & whole, second & mask
        first = ((a * one & mask) + (b * other & mask) + (first >> bits)) & mask
        second = ((b * one & mask) + (d * other & mask) + (second >> bits)) & mask
    add0 = add1 = 0
    for one, other in zip(
        *(last.unpack(lanes.to_bytes(last.size, "little")) for lanes in (first, second)), strict=True
    ):
        add0, add1 = add0 + add1 + one, add0 + 2 * add1 + other
    return (s0 + add0) & _MASK, (s1 + add1) & _MASK
