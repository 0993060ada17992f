"""A bare command in a next step gets the source and the options by which the mirror is reached."""

from __future__ import annotations

import pytest

from mirror.core.commands import command, completed
from mirror.cutover.onward import onward

SOURCE, OPTIONS = "/data/my shop.db", " --state-dir '/my state' --schema s"
WHOLE = "'/data/my shop.db' --state-dir '/my state' --schema s"


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("`mirror status` says why", f"`mirror status {WHOLE}` says why"),
        ("`mirror cutover finalize --acknowledge 'a b'`", f"`mirror cutover finalize {WHOLE} --acknowledge 'a b'`"),
        ("`mirror up '/data/my shop.db'`; `mirror wait`", f"`mirror up {WHOLE}`; `mirror wait {WHOLE}`"),
        ("start `mirror up FILE`", f"start `mirror up FILE{OPTIONS}`"),
        (f"`mirror parity {WHOLE} --repair`", f"`mirror parity {WHOLE} --repair`"),
        ("`mirror up '/data/my shop.db' --schema s`", f"`mirror up {WHOLE}`"),
        ("`mirror up /another.db`", "`mirror up /another.db`"),
        ("`mirror demo`, `mirror service install`", "`mirror demo`, `mirror service install`"),
        ("mirror.outbox; `REINDEX`", "mirror.outbox; `REINDEX`"),
    ],
)  # fmt: skip
def test_completed(text: str, made: str) -> None:
    assert completed(text, SOURCE, OPTIONS) == made
    assert completed(made, SOURCE, OPTIONS) == made, "once is enough"


def test_for_all_sources() -> None:
    assert completed("`mirror status`", "", OPTIONS) == f"`mirror status{OPTIONS}`"
    assert completed("`mirror status`", "", "") == "`mirror status`"


def test_each_phase_names_the_way_on_and_back() -> None:
    for phase, ways in ((1, ["advance"]), (2, ["rehearse", "advance", "rollback"]), (3, ["finalize", "rollback"])):
        steps = onward(phase, SOURCE, OPTIONS, " --acknowledge backups")
        assert [step.split()[2] for step in steps] == ways
        assert all(
            step.startswith(command(f"cutover {way}", SOURCE, OPTIONS)) for step, way in zip(steps, ways, strict=True)
        )
