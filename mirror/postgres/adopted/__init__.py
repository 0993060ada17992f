"""Tables that an application's own migrations made, and that a source is mirrored into: what they are, which columns of
the source go where, and how each value is written. Nothing of them is created, widened or renamed here.
"""
