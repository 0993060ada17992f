"""Moving reads, and then writes, from SQLite to Postgres: today the guard rails before reads may move.

It reads Postgres and the status report of a mirror (:class:`~mirror.core.status.StatusReport`); it never imports the
running mirror, which may be another process or not run at all.
"""
