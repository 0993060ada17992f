"""Proof that Postgres has what the source has: all rows, to the bit, at a known position.

It reads SQLite through SQL and has codecs of its own: it must share no code with capture, decoding or applying
(invariant 6), so that an error in one of them cannot hide in the other.
"""
