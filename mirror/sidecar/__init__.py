"""The running mirror: one loop a source, and the supervisor that keeps each apart from the others.

``pipeline`` is the only loop, whoever starts it. It reads batches from the replica, applies them through
``mirror.postgres``, and answers what other threads ask (``requests``, ``mailbox``, ``serve``). Only the loop's thread
touches a source's replica and its Postgres connection. Nobody but the command line imports this package: programs talk
to a running mirror over its control socket (:mod:`mirror.core.control`).
"""
