"""What is remembered of one source in its state folder: the Postgres schema of its tables, and whether it is paused.

``settings.json``, an object::

    {"schema": "public", "paused": true, "format": 1, "mirror": "0.1.0"}

The schema is written once the mirror has registered the source in Postgres; ``mirror.sources`` then has the same. Later
commands on the source find its tables by it, independently of other sources in the same state directory. ``paused`` is
there while the source is paused (`mirror pause`): so that lasts until it is resumed, however often a mirror is started.
The last two are of every state file (:mod:`mirror.core.versions`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from pathlib import Path
from typing import Any

from mirror.core.errors import NewerStateError, StateError
from mirror.core.files import write_atomically
from mirror.core.state_errors import state_error
from mirror.core.versions import require_format, stamped, without_stamp

_FILE = "settings.json"
_READING = "read what is remembered of the source"
#: Schemas that are never proposed.
_RESERVED = frozenset({"public", "mirror", "information_schema"})


def remembered_schema(folder: Path) -> str | None:
    """The schema of the source with this state folder; None: it was never mirrored.

    Raises ``StateError`` if what is remembered is damaged, newer or cannot be read, because a guess could mean the
    tables of another schema.
    """
    return _read(folder).get("schema")


def remember_schema(folder: Path, schema: str) -> None:
    """Remember the schema, atomically; other remembered values stay, if they can be read. Raises ``OSError``."""
    _remember(folder, "schema", schema)


def is_paused(folder: Path) -> bool:
    """Whether the source is paused. Raises ``StateError`` as :func:`remembered_schema` does."""
    return _read(folder).get("paused") is True


def remember_paused(folder: Path, *, paused: bool) -> None:
    """Remember, atomically, whether the source is paused. Raises ``OSError``."""
    _remember(folder, "paused", paused)


#: A source's loop notes the schema, another thread that it is paused. (A command does so only where no mirror runs.)
_one_at_a_time = threading.Lock()


def _remember(folder: Path, name: str, value: str | bool) -> None:
    with _one_at_a_time:
        try:
            known = _read(folder)
        except NewerStateError:
            raise
        except StateError:
            known = {}
        if known.get(name, False) != value:
            write_atomically(folder / _FILE, json.dumps(stamped(known | {name: value})).encode(), durable=True)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / _FILE
    try:
        known = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except PermissionError as error:
        raise StateError(
            _READING,
            str(path),
            error.strerror or str(error),
            next_step="run it as the user that runs the mirror, or let this user read the file",
        ) from error
    except OSError as error:
        raise state_error(error, path, _READING) from error
    except ValueError:
        known = None
    if not isinstance(known, dict) or not isinstance(known.get("schema", ""), str):
        raise StateError(
            _READING,
            str(path),
            "it is damaged",
            next_step="name the schema once: `mirror up SOURCE --schema NAME` writes it again",
        )
    require_format(known, path)
    return without_stamp(known)


def proposed_schema(source: Path, taken: str) -> str:
    """A name for a schema of the source's own, made from the name of its file; ``taken``: one that it must not be."""
    name = re.sub(r"[^a-z0-9]+", "_", source.stem.lower()).strip("_")[:40]
    if not name or name[0].isdigit() or name.startswith("pg_"):
        name = f"mirror_{name}".rstrip("_")
    if name == taken or name in _RESERVED:
        name += "_" + hashlib.sha256(os.fsencode(source)).hexdigest()[:6]
    return name
