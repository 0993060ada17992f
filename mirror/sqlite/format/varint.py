"""SQLite's variable-length integers: 1 to 9 bytes, big-endian, 7 bits a byte, the ninth byte whole.

======  =====================================================
byte    meaning
======  =====================================================
1 to 8  high bit: another byte follows; low seven bits: value
9       all eight bits: value
======  =====================================================
"""

from __future__ import annotations

from mirror.core.errors import FormatError


def read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Read the varint at ``offset``: its value as a signed 64-bit integer, and the offset after it.

    Raises ``FormatError`` when the data ends inside the varint.
    """
    try:
        byte = data[offset]
        if byte < 0x80:
            return byte, offset + 1
        value = byte & 0x7F
        for index in range(offset + 1, offset + 8):
            byte = data[index]
            value = (value << 7) | (byte & 0x7F)
            if byte < 0x80:
                return value, index + 1
        value = (value << 8) | data[offset + 8]
    except IndexError:
        raise FormatError("read a varint", f"offset {offset}", "the data ends inside it") from None
    return (value - (1 << 64) if value >= 1 << 63 else value), offset + 9
