"""Invariant 6: verification shares no code with capture."""

from __future__ import annotations

import ast
from pathlib import Path

import mirror.parity

ALLOWED = ("mirror.model", "mirror.errors", "mirror.parity")


def test_parity_imports_nothing_of_the_other_stages() -> None:
    """Of the package only the model and the errors; and never a second copy of SQLite (hazard 17)."""
    modules = sorted(Path(mirror.parity.__file__).parent.glob("*.py"))
    assert len(modules) > 5
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            for name in names:
                assert not name.startswith("mirror.") or name.startswith(ALLOWED), (module.name, name)
                assert not name.startswith("sqlite3"), module.name
