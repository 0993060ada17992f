"""What the codecs of adopted columns share: how one tells what is lost, and what it refuses in every column."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, Protocol

from mirror.core.values import BadText, Uncomputed, Value
from mirror.postgres.codecs import BAD_TEXT, NUL_TEXT, Reject, kind_of, misfit

#: Is told each loss of a value, in a few words without the value.
Note = Callable[[str], object]


def unheard(_loss: str) -> None:
    """For who does not ask what is lost."""


class Conversion(Protocol):
    """SQLite's value as Postgres' text form of a type, None for NULL; raises :class:`Reject`."""

    def __call__(self, value: Value, note: Note = unheard, /) -> str | None:
        """``note`` is told what is lost."""


def refuse(value: Value, what: str) -> NoReturn:
    """Raise :class:`Reject` for a value of a kind that a column of ``what`` does not take."""
    if isinstance(value, BadText):
        raise Reject(BAD_TEXT)
    if isinstance(value, Uncomputed):
        raise Reject(misfit(value, what).reason)
    raise Reject(f"{kind_of(value)} in a column of {what}")


def clean_text(value: Value, what: str) -> str:
    """A text without NUL; raises :class:`Reject` for all others."""
    if type(value) is not str:
        refuse(value, what)
    if "\0" in value:
        raise Reject(NUL_TEXT)
    return value
