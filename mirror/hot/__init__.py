"""Hot state on Redis or Valkey: what agents do now, who is online, their messages, and locks between them.

Names of keys and fields are those of the original program, so that each reads what the other writes. What is asked of
the server is written once, as generators of requests that are data (:mod:`.requests`); :mod:`.runners` sends them, on
threads or on an event loop. What has to be atomic is a script (``scripts/*.lua``), which every server from 6.2 runs.

It runs inside the user's program and logs as that does, through :mod:`logging`. Nothing here is the only copy of a row:
rows live in SQLite or Postgres. It must not import the sidecar, or hold a lock of the mirror's own.
"""
