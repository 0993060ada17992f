"""Which of a test's parameters the normal run tries: a few, so that it stays short; ``-m slow`` tries the others.

With :func:`quick` a test chooses them. With the mark ``few(number)`` it says that any will do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
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


def mark_all_but_a_few(items: Iterable[pytest.Item]) -> None:
    """Have those of a test's parameters be ``slow`` that its mark ``few(number)`` leaves out."""
    tests: dict[tuple[str, str], list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("few"):
            tests[str(item.path), getattr(item, "originalname", item.name)].append(item)
    for of_test in tests.values():
        mark = of_test[0].get_closest_marker("few")
        assert mark is not None
        usual = [item for item in of_test if not item.get_closest_marker("slow")]
        chosen = spread(usual, *mark.args)
        for item in usual:
            if item not in chosen:
                item.add_marker(pytest.mark.slow)


def spread(values: Sequence[Any], number: int) -> list[Any]:
    """So many of them, the first and others at equal distances."""
    if number >= len(values):
        return list(values)
    return [values[at * len(values) // number] for at in range(number)]
