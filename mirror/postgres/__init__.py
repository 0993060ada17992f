"""Postgres: keep it equal to a source, one transaction per batch (see :class:`.sink.Sink`).

``cluster`` a server of our own in a directory · ``embedded`` its use by several processes · ``migrate`` the mirror's
own schema · ``holder`` and ``lease`` who may write a source · ``codecs`` values · ``target`` how a table is held ·
``ddl`` statements that make and change tables · ``dml`` statements that change rows · ``rows`` row changes to
statements' parameters · ``signals`` what is asked of whoever sends them · ``schema`` a batch's schema changes ·
``apply`` one batch · ``careful`` a batch that was refused · ``refusals`` tables that are · ``snapshot`` the first copy
and the copy after a loss · ``sink`` the way in.
"""
