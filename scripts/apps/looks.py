"""What an application finds in SQLite and in Postgres, compared by value and by type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

#: By table, by key, the values of the object's columns, as the ORM gives them.
Seen = dict[str, dict[Any, dict[str, Any]]]
#: The objects, and the answers to the application's questions.
Look = tuple[Seen, dict[str, str]]
#: By table and column, the words by which a report tells of a difference.
Declared = Mapping[tuple[str, str], str]

#: How many differences are shown of each thing that is compared.
SHOWN = 3
_LONGEST = 60


class Compared(NamedTuple):
    """One thing that was compared."""

    good: bool
    said: str
    details: Sequence[str]


def declared_by(report: Mapping[str, Any], parity: Mapping[str, Any], hinted: Declared) -> Declared:
    """The differences that the reports of ``mirror adopt`` and ``mirror parity`` declare.

    ``hinted``: those that a hint of the former tells of, if it has these words.
    """
    declared = {
        (table["table"], each["column"]): each["reason"]
        for table in report["tables"]
        for each in table["findings"]
        if each["what"] == "loss"
    }
    declared |= {
        (table["table"], column["column"]): column["losses"][0]["how"]
        for table in parity["tables"]
        for column in table["columns"]
        if column["losses"]
    }
    for place, words in hinted.items():
        if any(words in hint for hint in report["hints"]):
            declared[place] = words
    return declared


def compare(
    in_sqlite: Look, in_postgres: Look, declared: Declared, rejects: Sequence[Mapping[str, Any]]
) -> Iterator[Compared]:
    """Compare both sides, but for what is declared. ``rejects``: as ``mirror rejects list`` has them."""
    (ours, asked), (theirs, answered) = in_sqlite, in_postgres
    yield Compared(ours.keys() == theirs.keys(), f"{len(ours)} models on both sides", ())
    for table in sorted(ours):
        rejected = {key_of(each["key"]) for each in rejects if each["table"] == table}
        yield _compare_model(table, ours[table], theirs.get(table, {}), declared, rejected)
    for question, answer in asked.items():
        there = answered.get(question)
        more = [] if there == answer else [f"Postgres: {there}"]
        yield Compared(not more, f"{question}: {shown(answer)}", more)


def _compare_model(
    table: str,
    ours: Mapping[Any, Mapping[str, Any]],
    theirs: Mapping[Any, Mapping[str, Any]],
    declared: Declared,
    rejected: set[str],
) -> Compared:
    missing = [key for key in ours if key not in theirs]
    undeclared = [f"missing: {key}" for key in missing if key_of(key) not in rejected]
    undeclared += [f"only in Postgres: {key}" for key in theirs if key not in ours]
    differing: dict[str, list[str]] = {}
    for key in ours.keys() & theirs.keys():
        for column, value in ours[key].items():
            there = theirs[key].get(column)
            if not same(value, there):
                differing.setdefault(column, []).append(f"{key}: {shown(value)} became {shown(there)}")
    details = [f"{key}: among the rejects, as the mirror says" for key in missing if key_of(key) in rejected]
    for column, each in sorted(differing.items()):
        said = declared.get((table, column))
        if said is None:
            undeclared += [f"{column}: {one}" for one in each]
        else:
            details.append(f"{column}: {len(each)} differ, declared: {said}; {min(each)}")
    equal = sum(key in theirs for key in ours)
    return Compared(not undeclared, f"{table}: {equal} objects", [*undeclared[:SHOWN], *details])


def shown(value: Any) -> str:
    """A value, in one short line."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text)} characters)"


def same(ours: Any, theirs: Any) -> bool:
    """Whether two values of Python are equal and of one type, in all depths."""
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(same(value, theirs[key]) for key, value in ours.items())
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return bool(ours == theirs)


def key_of(key: Any) -> str:
    """A key as it is compared with those of rejects, which are SQLite's values."""
    parts = key if isinstance(key, list | tuple) else [key]
    return " ".join(str(part).replace("-", "") for part in parts)
