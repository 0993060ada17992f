"""The way back: what programs write in Postgres after the switch is carried into the SQLite file.

It is for the time in which programs write to Postgres, and the file must stay good enough to go back to. Nothing is
added to the file, and no slot, right or restart is asked of Postgres. What this package must not do: write to the
tables in Postgres, or decide which store programs use; that is :mod:`mirror.cutover`.
"""
