"""A program's memory, tasks and teams: one interface over SQLite, Postgres, or both, chosen by configuration.

Each operation is written once (:mod:`.operations`), as a generator of statements that are data (:mod:`.statements`);
:mod:`.on_sqlite` and :mod:`.on_postgres` turn statements into SQL and run them. So the stores cannot drift apart in
what a method means, and the synchronous and the asynchronous interface are the same code.

Nothing here writes a row to Postgres that the mirror carries: while both are in use, writes go to SQLite only.
"""
