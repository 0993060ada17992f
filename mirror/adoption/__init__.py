"""``mirror adopt``: finds out how a SQLite file goes into the tables that its application's migrations made in
Postgres, which values do not fit there and why, and remembers what was decided. Changes neither the file nor those
tables.
"""
