"""All that is sent to Postgres: keeps it equal to a source, one transaction a batch (see :class:`.sink.Sink`).

It does not know where rows come from: the caller passes tables and changes of rows. ``cluster`` the embedded server in
a directory · ``embedded`` its use by several processes · ``migrate`` the mirror's own schema · ``holder`` and ``lease``
which process may write a source · ``profiles`` how tables are stored · ``codecs``, ``typed`` values · ``target`` where
one table is stored · ``ddl`` statements that make and change tables · ``dml`` statements that change rows · ``rows``
changes of rows to parameters · ``signals`` requests to the caller to send rows again · ``schema`` a batch's schema
changes · ``shared_tables`` tables with rows of several agents · ``apply`` one batch · ``row_by_row`` a batch that was
refused · ``refusals`` refused rows and tables · ``load`` the first copy and the copy after a loss · ``repair`` a table
that differs · ``vectors`` vector indexes · ``ledger`` gaps, discrepancies, writers · ``failures`` psycopg's errors ·
``sink`` the entry point.
"""
