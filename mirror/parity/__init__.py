"""Proof that Postgres holds what the source holds: all rows, to the bit, at a known position.

It reads SQLite through SQL and has codecs of its own: it must share no code with capture, decoding or applying
(invariant 6), because an error in one of them must not hide in the other.
"""
