"""Bytes that SQLite wrote, kept as text: offset and 32 bytes a line, lines of zeros left out."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent
_WIDTH = 32


def load(name: str) -> bytes:
    """The bytes of a golden file."""
    lines = (_FOLDER / f"{name}.hex").read_text().splitlines()
    data = bytearray(int(lines[0].removeprefix("size ")))
    for line in lines[1:]:
        offset, _, text = line.partition(" ")
        row = bytes.fromhex(text)
        data[int(offset, 16) : int(offset, 16) + len(row)] = row
    return bytes(data)


def save(name: str, data: bytes) -> None:
    """Write a golden file."""
    lines = [f"size {len(data)}"]
    for offset in range(0, len(data), _WIDTH):
        row = data[offset : offset + _WIDTH]
        if any(row):
            lines.append(f"{offset:06x} {row.hex()}")
    (_FOLDER / f"{name}.hex").write_text("\n".join(lines) + "\n")
