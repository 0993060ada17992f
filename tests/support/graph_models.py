"""A class of the program in :mod:`.graph_process`: nobody else has it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Order:
    number: int
    price: float
