"""What the normal run tries of a test's parameters."""

from __future__ import annotations

import pytest

from tests.support.quick import quick, spread


@pytest.mark.parametrize(
    ("number", "expected"), [(1, [0]), (2, [0, 5]), (3, [0, 3, 6]), (10, [*range(10)]), (11, [*range(10)])]
)
def test_a_few_are_spread_over_all(number: int, expected: list[int]) -> None:
    assert spread(range(10), number) == expected


def test_chosen_ones_are_among_them() -> None:
    first, second = quick("b", among=["a", "b"])
    assert [mark.name for mark in first.marks] == ["slow"] and not second.marks
    with pytest.raises(ValueError, match="not among the parameters"):
        quick("c", among=["a", "b"])
