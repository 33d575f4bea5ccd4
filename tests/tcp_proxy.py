"""A network and what can go wrong with it: a TCP proxy that forwards, loses all, resets, garbles or half closes."""

import contextlib
import os
import selectors
import socket
import struct
import threading
from typing import Self

from tests.ports import free_port


class TcpProxy:
    """Forwards 127.0.0.1:`port` to `target_port`. A context manager; one thread."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self.is_cut = False
        """True: bytes disappear, connections stay open, as with a cut cable."""
        self._target_port = target_port
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._dead: set[socket.socket] = set()
        """Clients whose server end is gone, and that do not know it."""
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()
        for one in list(self._pairs):
            self._close(one)
        self._listener.close()
        self._selector.close()

    def reset(self) -> None:
        """End all connections with a reset."""
        for one in list(self._pairs):
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RDWR)

    def half_open(self) -> None:
        """Close the server's ends and say nothing to the clients: their connections stay, and nobody answers."""
        for one in list(self._pairs):
            if one in self._clients and (other := self._pairs.get(one)):
                self._dead.add(one)
                with contextlib.suppress(OSError):
                    other.shutdown(socket.SHUT_RDWR)

    def garble(self) -> None:
        """Send random bytes along every connection, both ways."""
        for one in list(self._pairs):
            with contextlib.suppress(OSError):
                one.send(os.urandom(200))

    def _run(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    self._forward(key.fileobj)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._target_port), timeout=1)
        except OSError:
            client.close()
            return
        self._clients.add(client)
        for one, other in ((client, server), (server, client)):
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, one: socket.socket) -> None:
        try:
            data = one.recv(65536)
            if data and not self.is_cut and one not in self._dead:
                self._pairs[one].sendall(data)
        except (OSError, KeyError):
            data = b""
        if not data:
            self._close(one)

    def _close(self, one: socket.socket) -> None:
        other = self._pairs.get(one)
        for each in (one, None if other in self._dead else other):
            if each is not None and self._pairs.pop(each, None) is not None:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(each)
                each.close()
