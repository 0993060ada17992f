"""What is remembered of a whole state directory: the Postgres that its sources are mirrored into.

``server.json``, an object::

    {"connectionString": "host=db dbname=app user=mirror", "password": true, "format": 1, "mirror": "0.1.0"}

`mirror up` writes it once a source has begun in a server that was given, not in the embedded one. From then on commands
find the server by it where none is given. No password is ever in it: ``password`` says that there was one, so that who
lacks it can be told. The last two members are of every state file (:mod:`mirror.core.versions`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec

from mirror.core.errors import StateError
from mirror.core.files import write_atomically
from mirror.core.state_errors import state_error
from mirror.core.versions import require_format, stamped

#: Its name in the state directory.
SERVER_FILE = "server.json"
_READING = "read which Postgres is remembered"


class RememberedServer(msgspec.Struct, frozen=True):
    """A server that was given to the last `mirror up`."""

    dsn: str
    """Connection string, without a password."""
    needs_password: bool
    """Whether it was reached with a password that was given."""


def remembered_server(state_dir: Path) -> RememberedServer | None:
    """The server that the state directory remembers; None: there is none, or no such directory for this user.

    Raises ``StateError`` if it is damaged, newer or cannot be read: another server would be empty, and what is asked of
    it answered as if all was lost.
    """
    path = state_dir / SERVER_FILE
    try:
        known = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        if not (os.path.isdir(state_dir) and os.access(state_dir, os.X_OK)):
            return None  # what is done with it next says so
        if isinstance(error, PermissionError):
            step = "run it as the user that runs the mirror"
            raise StateError(_READING, str(path), error.strerror or str(error), next_step=step) from error
        raise state_error(error, path, _READING) from error
    except ValueError:
        known = None
    require_format(known, path)
    if not isinstance(known, dict) or not isinstance(dsn := known.get("connectionString"), str) or not dsn.strip():
        step = "name the server with --postgres: `mirror up` then writes it again"
        raise StateError(_READING, str(path), "it is damaged", next_step=step)
    return RememberedServer(dsn, known.get("password") is True)


def remember_server(state_dir: Path, server: RememberedServer) -> None:
    """Remember a server, atomically, for the owner's eyes alone. Raises ``OSError``."""
    values = {"connectionString": server.dsn, "password": server.needs_password}
    write_atomically(state_dir / SERVER_FILE, json.dumps(stamped(values)).encode(), durable=True)
