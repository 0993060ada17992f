"""What is not new costs nothing: a loop's turn makes no new figures out of the old ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from msgspec.structs import replace

from mirror.core.status import HookReport, Phase, RefusalReport
from mirror.core.tables import Column, Table
from mirror.postgres.ledger import Ledger
from mirror.postgres.refusals import Refusal
from mirror.sidecar.hooktalk.facade import HookTalk
from mirror.sidecar.kept_report import kept_report
from mirror.sidecar.next_steps import next_steps
from mirror.sidecar.status import SourceStatus


class Counted(Mapping[str, Table]):
    """Tables, and how often they were walked over."""

    def __init__(self, tables: dict[str, Table]) -> None:
        self._tables = tables
        self.walks = 0

    def __getitem__(self, name: str) -> Table:
        return self._tables[name]

    def __len__(self) -> int:
        return len(self._tables)

    def __iter__(self) -> Iterator[str]:
        self.walks += 1
        return iter(self._tables)


def tables(*names: str) -> Counted:
    return Counted(
        {
            name: Table(name, 2, (Column("v", "", "BLOB"),), (), None, False, (0,), left_out=("computed",))
            for name in names
        }
    )


def test_tables_are_walked_over_when_there_are_others() -> None:
    status = SourceStatus("/a.db", "public")
    held = tables("t", "u")
    for _ in range(3):
        status.describes(held, "maya", "generic")
    assert (held.walks, status.tables, status.left_out) == (1, 2, ["t.computed", "u.computed"])
    status.describes(tables("t"), None, "memustore")
    assert (status.tables, status.agent, status.profile) == (1, None, "memustore")


def test_refusals_are_told_again_when_they_are_others() -> None:
    status = SourceStatus("/a.db", "public")
    status.lacks(1, [Refusal("t", "why", "what")])
    told = status.refusals
    assert told == [RefusalReport(table="t", reason="why", next_step="what")]
    status.lacks(2, [Refusal("t", "why", "what")])
    assert status.refusals is told and status.rejects == 2
    status.lacks(2, [Refusal("t", "another why", "what")])
    assert status.refusals[0].reason == "another why"
    status.lacks(0, [])
    assert status.refusals == []


def test_what_hooks_have_told_is_told_again_when_it_is_more() -> None:
    status, hooks = SourceStatus("/a.db", "public"), HookTalk(lambda: None)
    ledger = cast("Ledger", None)  # nothing is to be written down
    hooks.check(ledger, status)
    told = status.hook
    assert told == HookReport()
    hooks.check(ledger, status)
    assert status.hook is told
    hooks.hooked.lost += 1
    hooks.check(ledger, status)
    assert status.hook.lost == 1


def test_the_next_step_names_the_same_source(tmp_path: Path) -> None:
    """Pasted into a shell: with the options, and quoted."""
    report = kept_report(Path("/data/my notes.db"), "public", tmp_path)
    (step,) = next_steps(report, " --state-dir /state")
    assert step == "start it with `mirror up '/data/my notes.db' --state-dir /state`"
    (step,) = next_steps(replace(report, phase=Phase.FAILED), " --state-dir /state")
    assert step.endswith("start `mirror up '/data/my notes.db' --state-dir /state`")
