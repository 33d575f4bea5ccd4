"""Free TCP ports of this machine, for tests that open servers."""

import socket

_given: set[int] = set()
"""The system may name a port again that nobody has opened yet: two servers of one test would meet on it."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on and that this process was not given before."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = int(server.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port
