"""Each method of the original's storage has its counterpart here, with the same arguments in snake_case."""

from __future__ import annotations

import pytest

from tests.support.their_interface import TABLE, Theirs, methods, missing, table


@pytest.mark.parametrize("method", methods(), ids=lambda method: f"{method.section}-{method.name}")
def test_it_is_here(method: Theirs) -> None:
    assert missing(method) == []


def test_the_table_of_names_is_as_it_is_written_down() -> None:
    assert TABLE.read_text() == table(), "run: python -m tests.support.their_interface"


def test_all_of_the_interface_is_known() -> None:
    """As many as the original has: 71 on memory, 9 on tasks, 6 on teams, 18 on jobs, 7 on the adapter."""
    numbers: dict[str, int] = {}
    for method in methods():
        if method.section == "interface":
            part = method.name.partition(".")[0]
            numbers[part] = numbers.get(part, 0) + 1
    assert numbers == {"adapter": 7, "memory": 71, "tasks": 9, "teams": 6, "jobs": 18}
