"""The table of outcomes, made of nothing but the file of outcomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: What the last runs came to, by writer and mode.
OUTCOMES = HERE / "outcomes.json"
TABLE = HERE / "OUTCOMES.md"
_HEAD = """# What each writer came to

Made by `python -m scripts.apps.writers`; the words and the modes are explained in [README.md](README.md).

| writer | version | SQLite | mode | outcome | harm to the program |
| --- | --- | --- | --- | --- | --- |
"""

#: Outcomes by ``writer/mode``; of a writer that could not be installed ``writer`` alone, with the reason.
Outcomes = dict[str, dict[str, Any]]


def load(path: Path = OUTCOMES) -> Outcomes:
    """Return the outcomes of earlier runs; none if there is no file."""
    if not path.exists():
        return {}
    found: Outcomes = json.loads(path.read_text())
    return found


def save(outcomes: Outcomes, path: Path = OUTCOMES) -> None:
    """Write the outcomes, sorted, so that a run changes only the lines of what it ran."""
    path.write_text(json.dumps(outcomes, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def table(outcomes: Outcomes) -> str:
    """Return the Markdown text of all outcomes."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for _, made in sorted(outcomes.items(), key=_place):
        if "mode" in made:
            key = tuple(_cell(made[name]) for name in ("title", "library", "sqlite", "outcome", "harm"))
            rows.setdefault(key, []).append(_mode(made))
    lines = [
        f"| {title} | {library} | {sqlite} | {', '.join(modes)} | {_bold(outcome)} | {harm or 'none'} |"
        for (title, library, sqlite, outcome, harm), modes in rows.items()
    ]
    text = _HEAD + "\n".join(lines) + "\n"
    if notes := _notes(outcomes):
        text += "\nAlso seen:\n\n" + "\n".join(notes) + "\n"
    if absent := ["- " + _cell(f"{made['title']}: {made['absent']}") for made in outcomes.values() if "absent" in made]:
        text += "\nNot run, because it could not be installed:\n\n" + "\n".join(absent) + "\n"
    return text


def _place(item: tuple[str, Mapping[str, Any]]) -> tuple[str, str]:
    _, made = item
    return str(made["title"]).lower(), str(made.get("mode", ""))


def _mode(made: Mapping[str, Any]) -> str:
    """Return the mode's name, with what the file is where the name says otherwise."""
    name, journal = str(made["mode"]), str(made["journal"])
    wanted = "WAL" if "wal" in name.split() else "rollback"
    return name if journal == wanted else f"{name} (file: {journal})"


def _notes(outcomes: Outcomes) -> list[str]:
    found: dict[str, list[str]] = {}
    for _, made in sorted(outcomes.items(), key=_place):
        for note in made.get("notes", []):
            found.setdefault(_cell(f"{made['title']}: {note}"), []).append(str(made["mode"]))
    return [f"- {note} ({', '.join(modes)})" for note, modes in found.items()]


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _bold(outcome: str) -> str:
    return f"**{outcome}**" if outcome.startswith("SILENT") else outcome
