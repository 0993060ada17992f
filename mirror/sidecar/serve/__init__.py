"""What a running mirror serves to other processes of the same user: today its control socket.

A conversation has a thread of its own and asks the loop through :class:`~mirror.sidecar.requests.Requests`; it must not
touch anything else of the loop.
"""
