"""What each method of the interface does: once, for all stores, as generators of statements.

An operation takes a :class:`~mirror.storage.operations.base.Context` and its own arguments. It does no I/O, so it can
be run again on another store. Reads that yield one statement are one round trip to Postgres, and prove by that
statement that they are fresh; reads that need several say so (``many``) and are run in one snapshot.
"""
