"""The services of a running mirror to other processes of the same user: today its control socket.

Each connection has a thread of its own, and makes requests to the loop through
:class:`~mirror.sidecar.requests.Requests`; it must not touch anything else of the loop.
"""
