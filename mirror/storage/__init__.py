"""Storage adapters: what gives a program its memory, tasks and teams from SQLite, from Postgres, or from both.

It runs inside the user's program: it logs as that does, through :mod:`logging`; it must choose no copy of SQLite for
it, and must change nothing in the process that belongs to others. Which store answers is decided by settings that may
change at any time (:mod:`.flags`); Postgres is reached through pools of psycopg_pool. It must not import the sidecar,
with which it talks as any other program does.
"""
