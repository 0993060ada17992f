"""A database router for Django: writes to SQLite, reads where the settings say, and never the past.

In the project's settings, beside a database for each store with the same migrations::

    DATABASE_ROUTERS = ["mirror.storage.routers.django.MirrorRouter"]
    MIRROR_ROUTER = {
        "SQLITE": "default",            # alias of the source
        "POSTGRES": "mirrored",         # alias of the database that its mirror fills
        "STATE_DIR": BASE_DIR / "state",
        "CONFIG": BASE_DIR / "mirror.json",
    }

``storage`` of that mirror.json has the settings (``backend``: dual, ``readFrom``: postgres), which are followed.

* In a transaction on SQLite (``atomic``, or with autocommit off) all reads stay on its connection, whether it has
  written yet or not. SQLite's transactions are serializable: a value that was read elsewhere could be of before
  another's write, and then be written over it. With ``ATOMIC_REQUESTS`` no read of a view is from Postgres.
* So do reads of models from which relations lead to a table that the mirror does not carry: a query may join it.
  Subqueries of models without a relation are not seen: for those to such tables name the database (``using``).
* Asynchronous views work: Django runs the ORM in threads, and the router with it.
* ``raw()`` takes a database when the query set is made, not when it is read: name it (``using``).
* Models of other databases need a router of their own, before this one.
* Postgres is asked for the position on the connection of the query. Give it ``connect_timeout`` in ``OPTIONS``: a read
  waits for a connection as long as that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import Error, connections

from mirror.core.errors import ConfigError
from mirror.storage.forks import Lock
from mirror.storage.routers.choosing import Choice

_KEYS = {"SQLITE", "POSTGRES", "STATE_DIR"}


class MirrorRouter:
    """Made by Django, without arguments. The files are opened with the first query. Thread: any."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._made: Choice | None = None

    def db_for_read(self, model: type[Any], **hints: Any) -> str:
        """The alias of the database that answers. Raises ``ConfigError``."""
        sqlite, postgres = self._aliases
        if _in_transaction(sqlite):
            return sqlite
        return postgres if self._choice.read(_reached(model), self._ask) else sqlite

    def db_for_write(self, model: type[Any], **hints: Any) -> str:
        """SQLite's alias; that of Postgres once the source was moved there.

        Raises ``SourceError``, retryable, while it is being moved, and ``ConfigError``.
        """
        sqlite, postgres = self._aliases
        if _in_transaction(sqlite):
            return sqlite
        return postgres if self._choice.write(self._ask) else sqlite

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool | None:
        """Objects of both databases are of one: whichever store they were read from."""
        return True if {one._state.db, other._state.db} <= set(self._aliases) else None

    @property
    def _aliases(self) -> tuple[str, str]:
        named = _named()
        return named["SQLITE"], named["POSTGRES"]

    @property
    def _choice(self) -> Choice:
        if self._made is None:
            with self._guard:
                if self._made is None:
                    named = _named()
                    source = connections[named["SQLITE"]].settings_dict["NAME"]
                    self._made = Choice(source, named["STATE_DIR"], named.get("CONFIG"), (Error,))
        return self._made

    def _ask(self, sql: str) -> Sequence[Sequence[Any]]:
        connection = connections[self._aliases[1]]
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                rows: list[tuple[Any, ...]] = cursor.fetchall()
                return rows
        except Error:
            if not connection.in_atomic_block:
                connection.close()  # else each later query of this thread would meet the broken connection
            raise


def _named() -> dict[str, Any]:
    named: dict[str, Any] = getattr(settings, "MIRROR_ROUTER", {})
    if missing := _KEYS - named.keys():
        detail = f"MIRROR_ROUTER in Django's settings has no {', '.join(sorted(missing))}"
        raise ConfigError("route reads", detail=detail, next_step="see mirror/storage/routers/django.py")
    return named


def _in_transaction(alias: str) -> bool:
    connection = connections[alias]
    return connection.in_atomic_block or (connection.connection is not None and not connection.autocommit)


#: By model: what :func:`_reached` has found.
_known: dict[type[Any], frozenset[str]] = {}


def _reached(model: type[Any]) -> frozenset[str]:
    """The tables of a model and of all that relations lead to from it, in small letters."""
    if (found := _known.get(model)) is not None:
        return found
    tables, waiting, seen = set[str](), [model], set[type[Any]]()
    while waiting:
        known = waiting.pop()
        if known in seen:
            continue
        seen.add(known)
        tables.add(known._meta.db_table.lower())
        fields = getattr(known._meta, "get_fields", None)  # the database cache's model, which is none, has no fields
        for field in () if fields is None else fields(include_hidden=True):
            waiting += [other for other in (field.related_model, _between(field)) if isinstance(other, type)]
    return _known.setdefault(model, frozenset(tables))


def _between(field: Any) -> Any:
    """The model of the rows that link two others."""
    return getattr(getattr(field, "remote_field", None), "through", None) or getattr(field, "through", None)
