"""The running mirror: one loop per source, and the supervisor that keeps the sources apart.

``pipeline`` is the only loop, for `mirror up` and for programs alike. It reads batches from the replica, applies them
through ``mirror.postgres``, and answers the requests of other threads (``requests``, ``mailbox``, ``serve``). Only the
loop's thread touches a source's replica and its Postgres connection. Only the command line imports this package:
programs talk to a running mirror over its control socket (:mod:`mirror.core.control`).
"""
