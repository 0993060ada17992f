"""A program's memory, tasks and teams: one interface over SQLite, Postgres, or both, chosen by configuration.

Each operation is written once (:mod:`.operations`), as a generator of statements that are data (:mod:`.statements`);
:mod:`.on_sqlite` and :mod:`.on_postgres` turn statements into SQL and run them. So the stores cannot drift apart in
what a method means, and the synchronous and the asynchronous interface are the same code. Which store answers is
decided by settings that may change at any time (:mod:`.flags`).

It runs inside the user's program: it logs as that does, through :mod:`logging`; it chooses no copy of SQLite where the
program has one, and changes nothing in the process that belongs to others. It must not import the sidecar, with which
it talks as any other program does. Nothing here writes a row to Postgres that the mirror carries: while both stores are
in use, writes go to SQLite only.
"""
