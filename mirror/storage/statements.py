"""What operations ask of a store: statements and conditions as data, without SQL.

A statement's *shape* is all of it but the values, so that a store can keep the SQL of each shape.

A condition about a column that is NULL is false, and its negation true: ``Not(Compare("mood", "eq", "calm"))`` is true
of a row without a mood. Comparing with None finds rows without a value.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from mirror.core.errors import ConfigError
from mirror.storage.tables import Embedding, Table, surely_fits

Result = TypeVar("Result")

Comparison = Literal["eq", "ne", "gt", "gte", "lt", "lte"]


class Condition:
    """Base of all conditions."""

    __slots__ = ()

    def shape(self) -> tuple[Any, ...]:
        """All but the values."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Compare(Condition):
    """A column (or ``extra.key``: a member of a JSON object) against a value; None with eq and ne: NULL."""

    column: str
    operator: Comparison
    value: Any

    def shape(self) -> tuple[Any, ...]:
        """Whether the value is None is a part of it."""
        return ("compare", self.column, self.operator, self.value is None)


@dataclass(frozen=True, slots=True)
class OneOf(Condition):
    """A column that has one of some values; with none of them, false."""

    column: str
    among: tuple[Any, ...]

    def shape(self) -> tuple[Any, ...]:
        """With the number of values."""
        return ("in", self.column, len(self.among))


@dataclass(frozen=True, slots=True)
class Contains(Condition):
    """A text that has a part, without regard to the case of ASCII letters; or a JSON list that has a text."""

    column: str
    part: str

    def shape(self) -> tuple[Any, ...]:
        """The column."""
        return ("contains", self.column)


@dataclass(frozen=True, slots=True)
class SameName(Condition):
    """A text equal to another without regard to the case of ASCII letters."""

    column: str
    name: str

    def shape(self) -> tuple[Any, ...]:
        """The column."""
        return ("same name", self.column)


@dataclass(frozen=True, slots=True)
class StartsWith(Condition):
    """A text that begins with another, exactly."""

    column: str
    prefix: str

    def shape(self) -> tuple[Any, ...]:
        """The column."""
        return ("starts with", self.column)


@dataclass(frozen=True, slots=True)
class Linked(Condition):
    """A column with a value that a column of another table has, in a row for which a condition is true."""

    column: str
    table: Table
    linked: str
    where: Condition

    def shape(self) -> tuple[Any, ...]:
        """With the shape of the condition."""
        return ("linked", self.column, self.table.name, self.linked, self.where.shape())


@dataclass(frozen=True, slots=True)
class Unexpired(Condition):
    """A memory item whose time to live has not ended at a time (ISO 8601, as ``extra.expiresAt`` is)."""

    now: str

    def shape(self) -> tuple[Any, ...]:
        """A constant."""
        return ("unexpired",)


@dataclass(frozen=True, slots=True)
class All(Condition):
    """All of some conditions; of none: true."""

    parts: tuple[Condition, ...] = ()

    def shape(self) -> tuple[Any, ...]:
        """With those of the parts."""
        return ("all", *[part.shape() for part in self.parts])


@dataclass(frozen=True, slots=True)
class Any_(Condition):  # noqa: N801 - Any is taken
    """Any of some conditions; of none: false."""

    parts: tuple[Condition, ...]

    def shape(self) -> tuple[Any, ...]:
        """With those of the parts."""
        return ("any", *[part.shape() for part in self.parts])


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """The opposite of a condition."""

    part: Condition

    def shape(self) -> tuple[Any, ...]:
        """With that of the part."""
        return ("not", self.part.shape())


def eq(column: str, value: Any) -> Compare:
    """The column has the value."""
    return Compare(column, "eq", value)


def every(*parts: Condition | None) -> All:
    """All of the conditions that are given."""
    return All(tuple(part for part in parts if part is not None))


# -- values that are computed in the store -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Add:
    """The column's value plus a number, within bounds."""

    amount: float | int
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class CountOf:
    """The number of rows of a table for which a condition (of texts) is true."""

    table: Table
    where: Condition


@dataclass(frozen=True, slots=True)
class Referring:
    """The number of rows of a table that have a row's key in a column, and for which a condition (of texts) is true.

    The row's table has a key of one column.
    """

    table: Table
    column: str
    where: Condition = All()


@dataclass(frozen=True, slots=True)
class Ranked:
    """An order: by a column's place among some texts. All other values, and rows without one, are last."""

    column: str
    texts: tuple[str, ...]


# -- statements ----------------------------------------------------------------------------------------


class Statement(Generic[Result]):
    """Base of all statements; ``Result``: what a store answers."""

    __slots__ = ()


#: No answer has more rows than this; a larger limit or offset is taken as it.
MOST_ROWS = 2**31 - 1


def _bounded(statement: Any, *names: str) -> None:
    """Check numbers of rows. Raises ``ConfigError`` for one that is none, or is negative."""
    for name in names:
        number = getattr(statement, name)
        if number is None:
            continue
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise ConfigError("read rows", name, f"{number!r}", next_step="give a number of rows, 0 or more")
        if number > MOST_ROWS:
            object.__setattr__(statement, name, MOST_ROWS)


def _checked(table: Table, values: Mapping[str, Any]) -> None:
    columns = table.by_name
    for name, value in values.items():
        column = columns.get(name)
        if column is not None and surely_fits(column, value):
            continue
        if not isinstance(value, Add | CountOf):
            table.check(name, value)


@dataclass(frozen=True, slots=True)
class Along:
    """A column of the rows that a table of links joins to a row: the names of an item's categories, say.

    ``own`` is the links' column with the row's key, ``other`` the one with the key in ``table``. A row's values come
    as a tuple in their order, texts by code points.
    """

    links: Table
    own: str
    other: str
    table: Table
    column: str


@dataclass(frozen=True, slots=True)
class Select(Statement[list[Any]]):
    """Rows, as the table's dataclass. ``order``: column names, ``-`` before one that descends; ties by the key."""

    table: Table
    where: Condition = All()
    order: tuple[str | Ranked, ...] = ()
    limit: int | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for a negative limit or offset."""
        _bounded(self, "limit", "offset")


@dataclass(frozen=True, slots=True)
class SelectCounting(Statement[list[tuple[Any, ...]]]):
    """Rows, in the order and number of a :class:`Select`; each is a tuple of the row and of the ``counts``."""

    select: Select
    counts: tuple[Referring, ...]


@dataclass(frozen=True, slots=True)
class Count(Statement[int]):
    """The number of rows."""

    table: Table
    where: Condition = All()


@dataclass(frozen=True, slots=True)
class CountBy(Statement[dict[str, int]]):
    """The number of rows by the value of a column."""

    table: Table
    column: str
    where: Condition = All()


@dataclass(frozen=True, slots=True)
class Insert(Statement[int]):
    """A row; the result is the number of rows inserted. ``ignore``: none if a row has what must be unique.

    ``replace``: in place of the row with an equal key, if there is one; ``values`` has all columns then.
    """

    table: Table
    values: Mapping[str, Any]
    ignore: bool = False
    replace: bool = False

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for a value that does not fit its column."""
        _checked(self.table, self.values)


@dataclass(frozen=True, slots=True)
class Update(Statement[int]):
    """Values, :class:`Add` or :class:`CountOf`, by column, of the rows for which the condition is true: how many."""

    table: Table
    values: Mapping[str, Any]
    where: Condition

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for a value that does not fit its column."""
        _checked(self.table, self.values)


@dataclass(frozen=True, slots=True)
class Delete(Statement[int]):
    """The number of rows deleted."""

    table: Table
    where: Condition


@dataclass(frozen=True, slots=True)
class Words(Statement[list[tuple[Any, ...]]]):
    """Rows that have any of the words of a text, the best first: (row, rank, values of each of ``along``).

    A larger rank is better; ranks of different stores are not comparable. ``shared``: rows of other agents that are
    shared with this one, instead of its own (Postgres only).
    """

    table: Table
    text: str
    limit: int
    where: Condition = All()
    shared: bool = False
    along: tuple[Along, ...] = ()

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for a negative limit, or what is no text."""
        _bounded(self, "limit")
        if not isinstance(self.text, str):
            raise ConfigError("search by words", detail=f"not a text: {self.text!r:.60}", next_step="give a text")


@dataclass(frozen=True, slots=True)
class Near(Statement[list[tuple[Any, ...]]]):
    """Rows with the most similar embeddings, the best first: (row, similarity, values of each of ``along``).

    The similarity is the cosine's, rounded (:data:`mirror.storage.places.SIMILARITY_DIGITS`), and above 0; ties by the
    key. Embeddings of another dimension are not compared. ``embedding``: its direction alone is kept.
    """

    table: Table
    embedding: Embedding
    limit: int
    where: Condition = All()
    along: tuple[Along, ...] = ()

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for a negative limit."""
        _bounded(self, "limit")
        object.__setattr__(self, "embedding", self.embedding.direction())


@dataclass(frozen=True, slots=True)
class Merged(Statement[list[tuple[Any, ...]]]):
    """Rows by two searches with one condition, the best first: (row, *places, values of each of ``near.along``).

    The places: by embeddings, the similarity, by words, the rank. A place counts from 0; it is None, and what is beside
    it, where that search did not find the row. What a row counts: :func:`mirror.storage.places.merged`.
    """

    near: Near
    words: Words
    weight: float
    """Of the place by embeddings, 0 to 1; that by words has the rest."""
    limit: int

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` for a negative limit."""
        _bounded(self, "limit")


@dataclass(frozen=True, slots=True)
class Together(Statement[list[list[Any]]]):
    """Several reads of one table in one snapshot, and in one round trip where a store can: the result of each."""

    parts: tuple[Select | Words | Near, ...]


@dataclass(frozen=True, slots=True)
class Pairs(Statement[list[tuple[Any, Any]]]):
    """(key, value) for each value that ``along`` joins to a row with one of the keys, by key and value."""

    along: Along
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counts(Statement[dict[str, Any]]):
    """The results of several counts in one snapshot, each by its name."""

    parts: tuple[tuple[str, Count | CountBy], ...]


@dataclass(frozen=True, slots=True)
class Summary(Statement[list[tuple[Any, ...]]]):
    """Rows in groups: (values of ``by``, number of rows, means of columns, numbers of rows with each condition).

    A mean is a float, None where no row has a value. The groups come in no order.
    """

    table: Table
    by: tuple[str, ...]
    means: tuple[str, ...] = ()
    counts: tuple[Condition, ...] = ()
    where: Condition = All()


@dataclass(frozen=True, slots=True)
class ComparesVectors(Statement[bool]):
    """Whether the store itself compares embeddings, by pgvector or vec0. It is answered without a look at rows."""


# -- operations ----------------------------------------------------------------------------------------

#: An operation under way: yields statements, is sent their results, returns the operation's result.
Op = Generator[Statement[Any], Any, Result]


def run(statement: Statement[Result]) -> Op[Result]:
    """Yield a statement from an operation: ``rows = yield from run(Select(...))``."""
    result: Result = yield statement
    return result


def first(rows: Sequence[Result]) -> Result | None:
    """The first of some rows; None if there is none."""
    return rows[0] if rows else None
