"""Everything that is said to Postgres: keep it equal to a source, one transaction a batch (see :class:`.sink.Sink`).

It does not know where rows come from: it is given tables and changes of rows. ``cluster`` a server of our own in a
directory · ``embedded`` its use by several processes · ``migrate`` the mirror's own schema · ``holder`` and ``lease``
who may write a source · ``profiles`` how tables are held · ``codecs``, ``typed`` values · ``target`` one held table ·
``ddl`` statements that make and change tables · ``dml`` statements that change rows · ``rows`` changes of rows to
parameters · ``signals`` what is asked of whoever sends them · ``schema`` a batch's schema changes · ``apply`` one
batch · ``row_by_row`` a batch that was refused · ``refusals`` tables that are · ``load`` the first copy and the copy
after a loss · ``sink`` the way in.
"""
