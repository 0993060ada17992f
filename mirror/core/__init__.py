"""What all parts share: values, errors, settings, the state directory, locks, the client of the control socket.

Here is no work on anybody's database. It imports no other package of the mirror, and little else: programs whose files
are mirrored load it, too (:mod:`mirror.hook`).
"""
