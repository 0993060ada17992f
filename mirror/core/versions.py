"""Versions: of this package, and of the files that it keeps in a state directory.

The state format is a whole number; it is raised when an older mirror would misread a file. Where a file has it:

===========================================  ==========================================================
file                                         the format in it
===========================================  ==========================================================
in the state directory: ``server.json``      as the next ones
in a source's folder:
``settings.json``, ``status.json``,          the member ``format``; beside it ``mirror``, the version of the
``parity.json``, ``shadow.json``             package that wrote it
a segment of the spool, ``shadow.redo``      two bytes of each record (:mod:`mirror.capture.spool`); that of the
                                             position in it
``position``                                 the last sign of its first eight bytes
===========================================  ==========================================================

A file without it is of format 1: mirrors of before did not write it. A mirror uses no file of a newer format: it says
so, and does not start beside one, so that it changes none. Only ``status.json`` and ``parity.json``, which tell what
was last, do not keep it from starting where they alone are newer, and are written anew then. What is in ``status.json``
has a version besides (:data:`~mirror.core.status.STATUS_VERSION`), which is refused in the same way.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import mirror
from mirror.core.errors import NewerStateError

#: The format of the files that this package writes, and the newest that it reads.
STATE_FORMAT = 1
#: How a newer package is installed.
UPGRADE = f"pip install --upgrade {shlex.quote('mirror[embedded]')}"


@cache
def package_version() -> str:
    """The version of this package; looking it up takes long."""
    return mirror.__version__


def stamped(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a state file of JSON holds, with the format and the version that wrote it."""
    return {**values, "format": STATE_FORMAT, "mirror": package_version()}


def without_stamp(values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`stamped`."""
    return {name: value for name, value in values.items() if name not in ("format", "mirror")}


def require_format(found: object, path: Path | str) -> None:
    """Raise ``NewerStateError`` if what a state file of JSON holds was written in a newer format."""
    if isinstance(found, Mapping) and isinstance(number := found.get("format", 1), int) and number > STATE_FORMAT:
        raise newer_state(number, path, str(found.get("mirror") or ""))


def require_version(found: object, path: Path | str, known: int) -> None:
    """Raise ``NewerStateError`` if the values in a state file have a newer version than ``known``."""
    if isinstance(found, Mapping) and isinstance(number := found.get("version", 1), int) and number > known:
        raise newer_state(number, path, str(found.get("mirror") or ""), form="version of its values", known=known)


def newer_state(
    number: int, path: Path | str, written_by: str = "", form: str = "state format", known: int = STATE_FORMAT
) -> NewerStateError:
    """The error for a file of a newer format; ``written_by``: the version of the package that wrote it, if known.

    ``form``: what has the number. ``known``: the newest that this package reads.
    """
    by = f"mirror {written_by}" if written_by else "a newer mirror"
    return NewerStateError(
        "use the state directory",
        str(path),
        f"it was made by {by} ({form} {number}); this is mirror {package_version()} ({form} {known})",
        next_step=f"upgrade this one: `{UPGRADE}`; or choose another --state-dir",
    )
