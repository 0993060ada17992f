"""How the answers of two stores to one question are compared: by method. Pure: no files, no clock.

:data:`COMPARISONS` has the methods that need more than equality, in the words of GitHub's Scientist: ``compare`` finds
the difference, ``clean`` says what of it is kept as evidence, ``ignore`` names, with a reason, what is no difference.

Searches are compared by the statements in them, not by their results, because ranks of one store mean nothing in the
other (BM25 in SQLite, ``ts_rank`` in Postgres; Postgres also finds other forms of a word):

* Rows that both found must be equal.
* **By words**, each store is asked for :data:`DEPTH` matches at least. Where neither has more, Postgres must have found
  :data:`MATCHES` of what SQLite found (of the shorter list, if the query has words that Postgres leaves out); where one
  has more, it is not known which. That Postgres found more is no difference: it knows other forms of words. Each list
  must fall by the ranks of its own store. Of the pairs that both rank apart, :data:`AGREEMENT` must be in the same
  order, if both have :data:`LEAST_RANKS` ranks at least: less is a list the wrong way round, not another way to rank.
  (Of few ranks nothing can be said: one word of which Postgres knows another form puts all of them upside down.)
* **By both**, each of the two lists is compared; how a store makes one of them is not (the contract tests do that).
* **By embeddings**, similarities of rows that both found must agree to :data:`TOLERANCE`, and :data:`NEIGHBOURS` of
  each list be in the other (an index for vectors finds most, not all). A row that only ties with the last one of the
  other list does not count as missing there.

Two errors are equal, whatever they say. An error of one store alone is a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from itertools import combinations, pairwise
from typing import Any, NamedTuple

from mirror.core.errors import MirrorError
from mirror.storage.evidence import clean as cleaned
from mirror.storage.evidence import texts_apart
from mirror.storage.operations.base import Context, Operation
from mirror.storage.places import merged
from mirror.storage.statements import Merged, Near, Op, Together, Words
from mirror.storage.tables import Row, Table, table_of
from mirror.storage.words import search_words

#: Matches of words that each store is asked for at least.
DEPTH = 200
MATCHES = 0.7
AGREEMENT, LEAST_RANKS = 0.1, 5
#: Rows of which the order is compared, at most.
_ORDERED = 50
TOLERANCE = 1e-3
NEIGHBOURS = 0.8


class Ranked(NamedTuple):
    """A search in an operation, and what the store found: rows with rank, and maybe more."""

    statement: Words | Near
    found: list[tuple[Any, ...]]


@dataclass(slots=True)
class Outcome:
    """What a store made of an operation."""

    value: Any = None
    error: Exception | None = None
    ranked: list[Ranked] = field(default_factory=list)
    statements: int = 0
    """How many it was asked."""
    defect: Exception | None = None
    """What went wrong in recording, which says nothing about the store."""


class Difference(NamedTuple):
    """What differs."""

    kind: str
    """``rows``: one store has rows that the other has not. ``values``: of the same rows, or of an answer without rows.
    ``order``, ``overlap``: of a list, or a search. ``error``: one store failed.
    """
    sqlite: Any
    postgres: Any


class Ignore(NamedTuple):
    """What is no difference, although the answers differ."""

    reason: str
    applies: Callable[[Outcome, Outcome], bool]


Compare = Callable[[Outcome, Outcome], Difference | None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a method's answers are compared."""

    compare: Compare
    clean: Callable[[Any], Any] = cleaned
    """What is kept of a part of a difference: JSON values, bounded, without embeddings and secrets."""
    ignore: tuple[Ignore, ...] = ()


def method_of(operation: Operation[..., Any]) -> str:
    """The name of a method in :data:`COMPARISONS` and in ``mirror.read_differences``: ``items.get_item``."""
    return f"{operation.make.__module__.rpartition('.')[2]}.{operation.name}"


def recording(operation: Operation[..., Any], outcome: Outcome) -> Operation[..., Any]:
    """The operation, made so that its searches go into ``outcome``, and those by words are asked for more."""

    def make(ctx: Context, *args: Any, **kwargs: Any) -> Op[Any]:
        op = operation.make(ctx, *args, **kwargs)
        answer: Any = None
        while True:
            try:
                statement = op.send(answer)
            except StopIteration as stop:
                return stop.value
            outcome.statements += 1
            answer = yield _deeper(statement)
            try:
                answer = _note(statement, answer, outcome.ranked)
            except Exception as error:
                outcome.defect = error
                raise

    make.__name__, make.__module__ = operation.make.__name__, operation.make.__module__
    return replace(operation, make=make)


def _deeper(statement: Any) -> Any:
    if isinstance(statement, Together):
        return Together(tuple(map(_deeper, statement.parts)))
    if isinstance(statement, Merged):  # of both lists more can be said than of what is made of them
        return Together((statement.near, _deeper(statement.words)))
    if isinstance(statement, Words) and 0 < statement.limit < DEPTH:
        return replace(statement, limit=DEPTH)
    return statement


def _note(statement: Any, answer: Any, ranked: list[Ranked]) -> Any:
    """Note the searches in a statement; returns the answer that the operation expects."""
    if isinstance(statement, Words | Near):
        ranked.append(Ranked(statement, answer))
        return answer[: statement.limit] if statement.limit > 0 else answer
    if isinstance(statement, Merged):
        near, words = (
            _note(part, found, ranked) for part, found in zip((statement.near, statement.words), answer, strict=True)
        )
        return merged(near, words, statement.weight, statement.limit)
    if isinstance(statement, Together):
        return [_note(part, found, ranked) for part, found in zip(statement.parts, answer, strict=True)]
    return answer


def difference(method: str, sqlite: Outcome, postgres: Outcome) -> Difference | Ignore | None:
    """What differs, cleaned; or why what differs is ignored; None: they are equal."""
    comparison = comparison_of(method, sqlite, postgres)
    if sqlite.error is not None or postgres.error is not None:
        found = _errors(sqlite, postgres)
    else:
        found = comparison.compare(sqlite, postgres)
    if found is None:
        return None
    for ignore in comparison.ignore:
        if ignore.applies(sqlite, postgres):
            return ignore
    return Difference(found.kind, comparison.clean(found.sqlite), comparison.clean(found.postgres))


def comparison_of(method: str, sqlite: Outcome, postgres: Outcome) -> Comparison:
    """That of the method; else that of searches, if the stores were asked to search; else equality."""
    return COMPARISONS.get(method) or (SEARCH if sqlite.ranked or postgres.ranked else EQUALITY)


def _errors(sqlite: Outcome, postgres: Outcome) -> Difference | None:
    if sqlite.error is not None and postgres.error is not None:
        return None
    return Difference("error", *(_error(one.error) for one in (sqlite, postgres)))


def _error(error: Exception | None) -> str:
    if error is None:
        return "an answer"
    code = f" ({error.code})" if isinstance(error, MirrorError) else ""
    return f"{type(error).__name__}{code}: {error}"


# -- equality ------------------------------------------------------------------------------------------


def equal(sqlite: Outcome, postgres: Outcome) -> Difference | None:
    """The answers are equal: the same rows in the same order, with the same values."""
    return _unequal(sqlite.value, postgres.value)


def equal_but(*names: str) -> Compare:
    """The answers, dataclasses, are equal but for some fields."""

    def compare(sqlite: Outcome, postgres: Outcome) -> Difference | None:
        one, other = _values(sqlite.value), _values(postgres.value)
        for name in names:
            one.pop(name, None)
            other.pop(name, None)
        return _unequal(one, other)

    return compare


def _unequal(one: Any, other: Any) -> Difference | None:
    if one == other:
        return None
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return _unequal_lists(one, other)
    return Difference("rows" if one is None or other is None else "values", *_apart(one, other))


def _unequal_lists(one: Sequence[Any], other: Sequence[Any]) -> Difference:
    keys, others = [key_of(row) for row in one], [key_of(row) for row in other]
    if None in keys or None in others:
        return Difference("values", list(one), list(other))
    by_key, by_other = dict(zip(keys, one, strict=True)), dict(zip(others, other, strict=True))
    if by_key.keys() != by_other.keys() or len(keys) != len(others):
        missing = [row for key, row in by_key.items() if key not in by_other]
        more = [row for key, row in by_other.items() if key not in by_key]
        return Difference("rows", missing, more)
    changed = [_apart(row, by_other[key]) for key, row in by_key.items() if row != by_other[key]]
    if changed:
        return Difference("values", [left for left, _ in changed], [right for _, right in changed])
    return Difference("order", keys, others)


def _apart(one: Any, other: Any) -> tuple[Any, Any]:
    """Of two values of one kind: only that in which they differ, and what names them."""
    if isinstance(one, str) and isinstance(other, str):
        return texts_apart(one, other)
    left, right = _values(one), _values(other)
    if not left or not right:
        return one, other
    named = set(_key(type(one))) if isinstance(one, Row) else set()
    absent = object()
    names = [name for name in {**left, **right} if left.get(name, absent) != right.get(name, absent)]
    shown: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for name in [*sorted(named), *names]:
        if name in left and name in right:
            shown[0][name], shown[1][name] = _apart(left[name], right[name])
        else:
            for values, into in zip((left, right), shown, strict=True):
                if name in values:
                    into[name] = values[name]
    return shown


def _values(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, or the members of a dictionary; empty for anything else."""
    if isinstance(value, dict):
        return {str(name): member for name, member in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in fields(value)}
    return {}


@cache
def _table(row: Any) -> Table:
    return table_of(row)


def _key(row: Any) -> tuple[str, ...]:
    """The names of the key columns of a class of rows."""
    return _table(row).key


def key_of(row: Any) -> tuple[Any, ...] | None:
    """The key of a row; of a result that has a row: that of the row. None for anything else."""
    if isinstance(row, Row):
        return tuple(getattr(row, name) for name in _key(type(row)))
    for value in _values(row).values():
        if isinstance(value, Row):
            return key_of(value)
    return None


# -- searches ------------------------------------------------------------------------------------------


def searches(sqlite: Outcome, postgres: Outcome) -> Difference | None:
    """Each search in the operation found the same, as far as that can be said."""
    if [type(one.statement) for one in sqlite.ranked] != [type(one.statement) for one in postgres.ranked]:
        return _unequal(sqlite.value, postgres.value)
    for one, other in zip(sqlite.ranked, postgres.ranked, strict=True):
        judge = _near if isinstance(one.statement, Near) else _words
        if (found := _rows(one, other) or judge(one, other)) is not None:
            return found
    return None


def _rows(one: Ranked, other: Ranked) -> Difference | None:
    """The rows that both found are equal."""
    others = {key_of(found[0]): found[0] for found in other.found}
    changed = [
        _apart(found[0], others[key])
        for found in one.found
        if (key := key_of(found[0])) in others and others[key] != found[0]
    ]
    return Difference("values", [left for left, _ in changed], [right for _, right in changed]) if changed else None


def _words(one: Ranked, other: Ranked) -> Difference | None:
    ranks, others = _ranks(one), _ranks(other)
    common = [key for key in ranks if key in others]
    # A full list may go on, so that it is not known what is in it.
    known = not others or (len(ranks) < DEPTH and len(others) < DEPTH)
    expected = min(len(ranks), len(others) or DEPTH) if _has_left_out(one.statement) else len(ranks)
    if known and len(common) < MATCHES * expected:
        return Difference("overlap", _shown(ranks, others), _shown(others, ranks))
    if not (_falls(ranks) and _falls(others)):
        return Difference("order", list(ranks.items()), list(others.items()))
    judged = common[:_ORDERED]
    if min(len({found[key] for key in judged}) for found in (ranks, others)) < LEAST_RANKS:
        return None
    agreeing = total = 0
    for first, second in combinations(judged, 2):
        product = (ranks[first] - ranks[second]) * (others[first] - others[second])
        total += product != 0
        agreeing += product > 0
    if agreeing < AGREEMENT * total:
        return Difference("order", list(ranks.items()), list(others.items()))
    return None


def _near(one: Ranked, other: Ranked) -> Difference | None:
    ranks, others = _ranks(one), _ranks(other)
    common = [key for key in ranks if key in others]
    if any(abs(ranks[key] - others[key]) > TOLERANCE for key in common):
        return Difference("values", list(ranks.items()), list(others.items()))
    limit = one.statement.limit
    for mine, theirs in ((ranks, others), (others, ranks)):
        last = min(theirs.values(), default=0.0) + TOLERANCE if len(theirs) >= limit else 0.0
        missing = [key for key, similarity in mine.items() if key not in theirs and similarity > last]
        if len(missing) > (1 - NEIGHBOURS) * len(mine):
            return Difference("overlap", _shown(ranks, others), _shown(others, ranks))
    return None


def _ranks(ranked: Ranked) -> dict[Any, float]:
    return {key_of(found[0]): float(found[1]) for found in ranked.found}


def _falls(ranks: dict[Any, float]) -> bool:
    return all(before >= after for before, after in pairwise(ranks.values()))


def _shown(ranks: dict[Any, float], others: dict[Any, float]) -> dict[str, Any]:
    return {"found": len(ranks), "only here": [(key, rank) for key, rank in ranks.items() if key not in others]}


#: English words that Postgres looks for only where a search has no others (its configuration ``english``).
_FREQUENT = (
    "a about above after again against all am an and any are as at be because been before being below between both but"
    " by can did do does doing don down during each few for from further had has have having he her here hers herself"
    " him himself his how i if in into is it its itself just me more most my myself no nor not now of off on once only"
    " or other our ours ourselves out over own s same she should so some such t than that the their theirs them"
    " themselves then there these they this those through to too under until up very was we were what when where which"
    " while who whom why will with you your yours yourself yourselves"
)
_LEFT_OUT = frozenset(_FREQUENT.split())


def _words_of(statement: Words | Near) -> set[str]:
    return {word.lower() for word in search_words(statement.text)} if isinstance(statement, Words) else set()


def _has_left_out(statement: Words | Near) -> bool:
    return bool((words := _words_of(statement)) & _LEFT_OUT and words - _LEFT_OUT)


EQUALITY = Comparison(equal)
SEARCH = Comparison(searches)
#: By method (:func:`method_of`), where it is not what :func:`comparison_of` takes without that.
COMPARISONS: dict[str, Comparison] = {
    "stats.get_stats": Comparison(equal_but("vec_available")),
}
