"""A pool of redis-py that takes no connection back in the middle of something.

redis-py 8.1 hands a connection to the pool again also where an exception interrupted its connect, or came between a
command and its answer: Ctrl-C, or whatever else a signal's handler raises. The next command would then run in database
0, without a user, or get the answer of another.
"""

from __future__ import annotations

import sys
from typing import Any

import redis
import redis.exceptions


class InterruptiblePool(redis.ConnectionPool):
    """Disconnects what comes back while an exception is on its way, unless that is an answer.

    redis-py gives connections back in ``finally``, so :func:`sys.exception` has what ended their use. What the caller
    was handling already when it took the connection does not count. An interruption of :meth:`release` itself leaves
    the connection out of the pool.
    """

    def __init__(
        self, connection_class: type[redis.Connection | redis.UnixDomainSocketConnection], **options: Any
    ) -> None:
        """``options``: of a connection."""
        # No limit (redis-py's is 100): what an interruption has left out of the pool is counted for ever.
        super().__init__(connection_class=connection_class, max_connections=2**31, **options)
        self._amid: dict[object, BaseException | None] = {}

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        """A connection that is initialised, and has no answer waiting."""
        connection = super().get_connection()
        self._amid[connection] = sys.exception()
        return connection

    def release(self, connection: Any) -> None:
        """Take a connection back."""
        error = sys.exception()
        before = self._amid.pop(connection, None)
        if error is not None and error is not before and not isinstance(error, redis.exceptions.ResponseError):
            connection.disconnect()
        super().release(connection)
