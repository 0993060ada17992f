"""A rehearsal of the way to Postgres and back: on a clone of the file, in a schema of its own, under a replayed load.

It must not touch the live source's file, configuration, tables or rows in Postgres; what it makes is removed at its
end, or, if it was killed, by the next one.
"""
