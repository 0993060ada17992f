"""Proof that Postgres holds what the source holds: all rows, to the bit, at a known position.

Imports nothing of the capture side (invariant 6): it reads SQLite through SQL and has codecs of its own.
"""
