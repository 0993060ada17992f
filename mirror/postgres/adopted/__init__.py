"""What only tables have that the application's own migrations made: types that it chose, and rows that are there.

``codecs`` SQLite's values as values of such a column (:class:`~mirror.core.adopted.Form`), each kind in a module of its
own: ``times``, ``instants``, ``intervals``, ``numbers``, ``texts``, ``json_values``, ``addresses``, ``arrays``;
``writing`` the form in which a value is written. ``catalog`` the application's tables · ``mapping`` a source's table
onto one of them · ``decisions`` what was decided, kept in Postgres.

The codecs are pure, and total: a value becomes text that Postgres reads alike under all settings of a session, or a
:class:`~mirror.postgres.codecs.Reject`.
"""
