"""Single values of the places that can set them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mirror.core.config.argent_json import variable


def first(*places: tuple[str | None, str], default: tuple[str | None, str]) -> tuple[str | None, str]:
    """The first value that is there, and where it comes from."""
    return next(((value, origin) for value, origin in places if value), default)


def text_in(section: Any, *names: str) -> str | None:
    """A text in a section of a file, None if it is not there or blank."""
    value = value_in(section, *names)
    return value.strip() or None if isinstance(value, str) else None


def value_in(section: Any, *names: str) -> Any:
    """A value in a section of a file, None if it is not there."""
    for name in names:
        section = getattr(section, name, None)
    # What is left out is UNSET, which counts as false. So do values that say something: an empty list, 0 and false.
    return section if section or section in ([], 0) else None


def of_environment(environment: Mapping[str, str], *names: str) -> list[tuple[str | None, str]]:
    """The value of the first of these variables that is set, for :func:`first`."""
    found = variable(environment, *names)
    return [] if found is None else [(found[1], f"environment {found[0]}")]
