"""Who may talk to the Modbus server, and how much: pymodbus's server with an allow list and limits.

An address that is not allowed is closed at once. At `MAX_CONNECTIONS` the connection silent for longest gives way, so
that dead ones, of a PLC whose cable was pulled, never lock it out. What is no Modbus ends its connection. All of that
is counted, and logged now and then. Runs in the server's thread.
"""

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import Sequence
from typing import Any, cast

from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import SimDevice

from station.complaints import Complaints

MAX_CONNECTIONS = 16
MAX_WAITING_BYTES = 260
"""The longest Modbus TCP frame. A PLC that sends the next request before it has the answer is not served."""
ARRIVE_S = 1.0
"""How long the end waits for connections that are being taken, and for answers that are being made."""
KEEPALIVE_S = 2
"""A peer that vanished without a word is noticed after about three times this."""

_log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class _Connection(ServerRequestHandler):
    """One connection. `heard_s` is when it last said something."""

    heard_s = 0.0
    is_refused = False

    def callback_connected(self) -> None:
        """Let the peer in, or not."""
        super().callback_connected()
        self.heard_s = time.monotonic()
        cast(GuardedServer, self.server).admit(self)

    def data_received(self, data: bytes) -> None:
        """Take in what came; end the connection if it is not Modbus TCP."""
        self.heard_s = time.monotonic()
        whole = self.recv_buffer + data
        if self.is_refused:
            return
        if len(whole) > MAX_WAITING_BYTES or whole[2:4].strip(b"\0"):
            cast(GuardedServer, self.server).refuse(self, "no Modbus", "sends what is no Modbus TCP")
            return
        super().data_received(data)


class GuardedServer(ModbusTcpServer):
    """A Modbus TCP server for the addresses in `allow`; empty: for all."""

    def __init__(
        self, device: SimDevice, address: tuple[str, int], allow: Sequence[str], complaints: Complaints
    ) -> None:
        super().__init__(device, address=address)
        self._allow = [ipaddress.ip_network(network) for network in allow]
        self._complaints = complaints

    def callback_new_connection(self) -> ServerRequestHandler:
        """Return what handles a new connection."""
        return _Connection(self, None, None, None)  # type: ignore[no-untyped-call] # pymodbus left out the annotations

    def admit(self, connection: _Connection) -> None:
        """Close the connection if its address is not allowed, or another one if there are too many."""
        if not self._is_allowed(_address(connection)):
            self.refuse(connection, "not allowed", "is not in outputs.modbus_server.allow")
            return
        _watch(connection)
        others = [one for one in self.active_connections.values() if isinstance(one, _Connection) and one.is_active()]
        if len(others) > MAX_CONNECTIONS:
            silent = min(others, key=lambda one: one.heard_s)
            self.refuse(silent, "too many", f"is closed: more than {MAX_CONNECTIONS} connections, silent for longest")

    def refuse(self, connection: _Connection, kind: str, why: str) -> None:
        """Close a connection and say why, now and then."""
        connection.is_refused = True
        self._complaints.say(kind, f"Modbus: {_address(connection)} {why}.")
        asyncio.get_running_loop().call_soon(connection.close)

    async def end(self) -> None:
        """Close the server and all its connections, also those that are just being taken.

        asyncio takes a connection in a task; a server that is closed before that has run leaves it open. So it is
        closed in a moment in which nothing else is under way.
        """
        end_s = time.monotonic() + ARRIVE_S
        while (arriving := asyncio.all_tasks() - {asyncio.current_task()}) and time.monotonic() < end_s:
            await asyncio.wait(arriving, timeout=ARRIVE_S)
        await self.shutdown()  # type: ignore[no-untyped-call] # pymodbus left out the annotation
        await asyncio.sleep(0)  # asyncio closes a socket one turn after its connection

    def _is_allowed(self, address: str) -> bool:
        try:
            peer = ipaddress.ip_address(address)
        except ValueError:
            return not self._allow
        mapped = getattr(peer, "ipv4_mapped", None) or peer
        return not self._allow or any(mapped in network for network in self._allow)


def _told(connection: _Connection, what: str) -> Any:
    """Return what asyncio knows of the connection; None when it is closed."""
    transport: asyncio.BaseTransport | None = connection.transport
    return None if transport is None else transport.get_extra_info(what)


def _address(connection: _Connection) -> str:
    peer = _told(connection, "peername")
    return str(peer[0]) if peer else "?"


def _watch(connection: _Connection) -> None:
    """Make the system notice a peer that vanished."""
    peer = _told(connection, "socket")
    if peer is not None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
