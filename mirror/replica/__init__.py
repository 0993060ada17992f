"""The source as of the position that Postgres has: what the mirror keeps of it on its own disk.

``source_connection`` is the one SQLite connection to the source; ``copy`` reads its pages without a lock;
``spool_reader`` and ``batches`` read what capture has spooled; ``images`` reads single page images, ``shadow`` keeps
those of the applied position; ``replica`` puts them together and moves from batch to batch. Nothing here knows
Postgres.
"""
