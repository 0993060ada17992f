"""Which of a test's parameters the normal run tries: a few, so that it stays short; ``-m slow`` tries the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def quick(*values: Any, among: Iterable[Any]) -> list[Any]:
    """All parameters of ``among``, in order; those that are not in ``values`` are ``slow``.

    A tuple is one set of parameters. A value that is not among them is a mistake: raises ``ValueError``.
    """
    found = list(among)
    if missing := [value for value in values if value not in found]:
        raise ValueError(f"not among the parameters: {missing}")
    return [_param(value, values) for value in found]


def _param(value: Any, chosen: Collection[Any]) -> Any:
    several = value if isinstance(value, tuple) else (value,)
    return pytest.param(*several, marks=() if value in chosen else pytest.mark.slow)
