"""CURVE for the ZeroMQ sockets that other machines reach: who connects proves a key, and the key must be on a list.

`Door` is the server's side: it closes sockets to all who are not listed, by ZAP (ZeroMQ RFC 27), in the worker's one
thread; until it has answered, nothing of a connection reaches a socket. `ClientKeys` is the other side. Sockets of
this machine (ipc, loopback) need neither. What is refused is counted, logged now and then, and never answered.
"""

import logging
import resource
from pathlib import Path

import zmq
from zmq.utils import z85

from station.complaints import Complaints
from station.key_files import CLIENT, STATION, Group, KeyPair, StationKeys, read_pair, read_public

HANDSHAKE_MS = 3000
"""Who connects and says nothing is cut off after so long: it holds a file descriptor."""
REQUESTS_PER_TURN = 50
"""Connections let in or refused in one turn of the worker's loop, which has parts to judge."""
FILES = 8192
"""So many connections and files the process may hold, if the system allows it: a flood must not keep files shut."""
_ZAP = "inproc://zeromq.zap.01"
_VERSION = b"1.0"

_log = logging.getLogger(__name__)


class Door:
    """ZAP handler of one context. `open` before any socket is guarded, `service` in each turn, `close` last."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: StationKeys) -> None:
        self._context = context
        self._keys = keys
        self._requests: zmq.Socket[bytes] | None = None
        self.complaints = Complaints(_log)
        """`refused`: connections of those who are not on the list."""

    def open(self) -> None:
        """Begin to answer for all guarded sockets of the context."""
        _allow_files()
        self._requests = self._context.socket(zmq.REP)
        self._requests.linger = 0
        self._requests.bind(_ZAP)

    def close(self) -> None:
        """Let nobody in any more. May be called in any state."""
        if self._requests is not None:
            self._requests.close()
            self._requests = None

    def guard(self, socket: zmq.Socket[bytes], group: Group) -> None:
        """Let only `group` connect to a socket that is not bound yet."""
        socket.curve_server = True
        socket.curve_secretkey = self._keys.own.secret
        socket.zap_domain = group.encode()
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without a handler nobody comes in, instead of everybody
        socket.handshake_ivl = HANDSHAKE_MS

    def service(self) -> None:
        """Answer those who wait at the door. Never waits itself."""
        for _ in range(REQUESTS_PER_TURN):
            if self._requests is None or not self._requests.poll(0):
                return
            self._requests.send_multipart(self._answer(self._requests.recv_multipart()))

    def _answer(self, request: list[bytes]) -> list[bytes]:
        """Return the reply to a ZAP request: version, its number, status code and text, user, no metadata."""
        _, number, domain, address, _, mechanism, *credentials = request
        public = z85.encode(credentials[0]) if mechanism == b"CURVE" and credentials else b""
        group = domain.decode()
        if self._keys.may_enter(Group(group), public):
            return [_VERSION, number, b"200", b"OK", public, b""]
        self.complaints.say(
            "refused",
            f"{address.decode()} was not let in: its key {public.decode() or 'none'} is not among the {group}.",
        )
        return [_VERSION, number, b"400", b"not on the list", b"", b""]


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class ClientKeys:
    """What a program shows that connects to a guarded socket."""

    def __init__(self, own: KeyPair, station: bytes) -> None:
        self._own = own
        self._station = station

    def show(self, socket: zmq.Socket[bytes]) -> None:
        """Prepare a socket that is not connected yet."""
        socket.curve_publickey, socket.curve_secretkey = self._own
        socket.curve_serverkey = self._station


def client_keys(folder: Path) -> ClientKeys:
    """Return the keys of a program elsewhere, or on the station's own machine those of the station.

    Raises ConfigurationError.
    """
    name = CLIENT if (folder / f"{CLIENT}.key_secret").exists() else STATION
    return ClientKeys(read_pair(folder, name), read_public(folder / f"{STATION}.key"))
