"""What all packages share: values, errors, settings, the state directory, locks, the client of the control socket.

It must not open a database. It imports no other package of the mirror, and little else, because programs that have
their files mirrored load it, too (:mod:`mirror.hook`).
"""
