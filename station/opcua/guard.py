"""Who may talk to the OPC UA server, and how much: asyncua's server with an allow list, limits and no way round them.

What asyncua leaves open and is closed here: a channel without security may only ask which endpoints there are; the
certificate of the *channel* must be on the list, not only the one that a session shows; bytes that are no OPC UA end
the connection instead of being kept; a peer that does not read its answers is cut off. Everything refused is counted,
and logged now and then. Runs in the server's loop.
"""

import asyncio
import contextvars
import ipaddress
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from asyncua import Server, ua
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import Buffer
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.internal_server import InternalServer
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.ua_binary import header_from_binary, uatcp_to_binary

from station.complaints import Complaints

MAX_CONNECTIONS = 16
MAX_CHUNK_BYTES = 65_536
MAX_CHUNKS = 16
MAX_MESSAGE_BYTES = MAX_CHUNKS * MAX_CHUNK_BYTES
HEADER_BYTES = 8
MAX_WAITING = 2_000
"""Messages of one connection that wait; asyncua's client asks for some hundred things at once."""
PAUSE_AT = 200
"""Messages from which on a peer has to wait with the next."""
MAX_UNSENT_BYTES = 4 * 1024 * 1024
"""Of answers that a peer does not read, before it is cut off."""
LOGIN_WITHIN_S = 10.0
MAX_SUBSCRIPTIONS = 64
MAX_QUEUE = 1_000
"""Notifications kept for one monitored item."""
MAX_UNACKNOWLEDGED = 100
MESSAGE_KINDS = (b"HEL", b"OPN", b"MSG", b"CLO", b"ERR")

NO_SECURITY = "http://opcfoundation.org/UA/SecurityPolicy#None"
OPEN_REQUESTS = frozenset(
    ua.NodeId(getattr(ua.ObjectIds, f"{name}Request_Encoding_DefaultBinary"))
    for name in ("GetEndpoints", "FindServers", "CloseSecureChannel")
)
"""What anybody may ask: where the server is, and how to talk to it."""
SESSION_REQUESTS = OPEN_REQUESTS | {
    ua.NodeId(getattr(ua.ObjectIds, f"{name}Request_Encoding_DefaultBinary"))
    for name in ("CreateSession", "ActivateSession", "CloseSession")
}
"""What a trusted program may ask before a user has logged in."""

user_name: contextvars.ContextVar[str] = contextvars.ContextVar("user_name", default="")
"""Who calls the method that runs in this context."""

IsTrusted = Callable[[bytes], bool]
"""Whether a certificate (DER) is on the list of clients."""

_log = logging.getLogger(__name__)


class Door:
    """What every connection is asked about."""

    def __init__(self, allow: Sequence[str], is_trusted: IsTrusted) -> None:
        self._allow = [ipaddress.ip_network(network) for network in allow]
        self.is_trusted = is_trusted
        self.complaints = Complaints(_log)

    def lets_in(self, address: str) -> bool:
        """Return True if this address may connect."""
        peer = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(peer, "ipv4_mapped", None) or peer
        return not self._allow or any(mapped in network for network in self._allow)


class _Processor(UaProcessor):
    """The requests of one connection."""

    def __init__(self, server: InternalServer, transport: asyncio.Transport, limits: TransportLimits, door: Door):
        super().__init__(server, transport, limits)
        self._door = door

    def open_secure_channel(self, algohdr: Any, seqhdr: Any, body: Any) -> None:
        """Open or renew the channel, if its certificate is on the list."""
        is_secure = algohdr.SecurityPolicyURI != NO_SECURITY
        if is_secure and not self._door.is_trusted(algohdr.SenderCertificate or b""):
            raise PermissionError("shows a certificate that is not trusted; see the folder of rejected ones")
        super().open_secure_channel(algohdr, seqhdr, body)

    async def process_message(self, seqhdr: Any, body: Any) -> Any:
        """Answer a request, if one may ask for that on this channel."""
        kind = ua.ua_binary.nodeid_from_binary(body.copy())
        is_secure = self._connection.security_policy.URI != NO_SECURITY
        if kind not in (SESSION_REQUESTS if is_secure else OPEN_REQUESTS) and not self._has_user(is_secure):
            raise PermissionError("asks for a service without a secure channel and a user")
        if self.session is not None and self.session.user is not None:
            user_name.set(self.session.user.name or "")
        answer = await super().process_message(seqhdr, body)
        # asyncua answers a refused request with a fault and then returns None, which would end the connection.
        return answer is None or answer

    def _has_user(self, is_secure: bool) -> bool:
        return is_secure and self.session is not None and self.session.is_activated()


class _Protocol(OPCUAProtocol):
    """One connection."""

    def __init__(self, door: Door, **parts: Any) -> None:
        super().__init__(**parts)
        self._door = door
        self.since_s = time.monotonic()
        self._waiting_bytes = 0
        self._buffer: bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the peer in, or not; if there are too many, one that has not logged in gives way."""
        peer = transport.get_extra_info("peername")
        if not self._door.lets_in(str(peer[0])):
            self._door.complaints.say("not allowed", f"OPC UA: {peer[0]} is not in outputs.opcua.allow.")
            transport.close()
            return
        if len(self.clients) >= self.iserver.max_connections:
            self._make_room()
        super().connection_made(transport)
        if self.transport is None:
            self._door.complaints.say("too many", f"OPC UA: {peer[0]} is refused: {MAX_CONNECTIONS} are connected.")
            return
        self.transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)
        self.processor = _Processor(self.iserver, self.transport, self.limits, self._door)
        self.processor.set_policies(self.policies)

    def connection_lost(self, ex: BaseException | None) -> None:
        """Free everything of the connection."""
        if self.transport is not None:
            super().connection_lost(ex)

    def pause_writing(self) -> None:
        """Cut off a peer that does not read its answers."""
        self.refuse("does not read its answers")

    def data_received(self, data: bytes) -> None:
        """Take in what came, message by message; end the connection if it is not OPC UA, or too much of it.

        asyncua's own way keeps all that was read once for each message in it.
        """
        if self.transport is None or self.transport.is_closing():
            return
        whole, at = self._buffer + data, 0
        while len(whole) - at >= HEADER_BYTES:
            kind, size = whole[at : at + 3], int.from_bytes(whole[at + 4 : at + HEADER_BYTES], "little")
            if kind not in MESSAGE_KINDS or not HEADER_BYTES < size <= MAX_CHUNK_BYTES:
                self.refuse("sends what is no OPC UA, or too much in one piece")
                return
            if len(whole) - at < size:
                break
            if not self._put(whole[at : at + size]):
                return
            at += size
        self._buffer = whole[at:]

    def _put(self, message: bytes) -> bool:
        """Let one message wait for its turn; return False if it ended the connection."""
        try:
            header = header_from_binary(buffer := Buffer(message))
            self.messages.put_nowait((header, buffer))
        except Exception:  # noqa: BLE001 - outermost guard: a header that cannot be read, or too many at once
            self.refuse("sends a header that cannot be read, or too much at once")
            return False
        self._waiting_bytes += len(message)
        if self.messages.qsize() > PAUSE_AT or self._waiting_bytes > MAX_MESSAGE_BYTES:
            self._transport.pause_reading()
        return True

    async def _process_one_msg(self, header: Any, buf: Any) -> bool:
        self._waiting_bytes -= header.header_size + header.body_size
        if self.messages.qsize() <= PAUSE_AT // 2 and self._waiting_bytes <= MAX_MESSAGE_BYTES // 2:
            self._transport.resume_reading()
        try:
            return bool(await super()._process_one_msg(header, buf))
        except PermissionError as error:
            self._answer_refused()
            self.refuse(str(error))
        except Exception as error:  # noqa: BLE001 - outermost guard of a connection: whatever a peer sends ends it alone
            self.refuse(f"is cut off: {type(error).__name__}")
        return False

    @property
    def _transport(self) -> Any:
        return self.transport

    def _answer_refused(self) -> None:
        """Tell the peer that it is a matter of security; what exactly is in the log alone."""
        status = ua.StatusCode(ua.StatusCodes.BadSecurityChecksFailed)
        message = ua.ErrorMessage(status, "refused")
        if self.transport is not None:
            self.transport.write(uatcp_to_binary(ua.MessageType.Error, message))

    def refuse(self, why: str) -> None:
        """End this connection and say why, now and then."""
        address = self.peer_name[0] if self.peer_name else "?"
        self._door.complaints.say(why, f"OPC UA: {address} {why}.")
        self._buffer = b""
        if self.transport is not None and not self.transport.is_closing():
            # What is to be sent, at most a word, is sent; a peer that reads nothing is not waited for.
            (self.transport.abort if self.transport.get_write_buffer_size() else self.transport.close)()

    @property
    def is_logged_in(self) -> bool:
        """True once a user is there."""
        session = getattr(self.processor, "session", None)
        return session is not None and bool(session.is_activated())

    def _make_room(self) -> None:
        waiting = [one for one in self.clients if isinstance(one, _Protocol) and not one.is_logged_in]
        if waiting:
            oldest = min(waiting, key=lambda one: one.since_s)
            oldest.refuse("gives way: it has not logged in")
            self.clients.remove(oldest)


class _Listener(BinaryServer):
    """The listening socket."""

    def __init__(self, door: Door, *parts: Any) -> None:
        super().__init__(*parts)
        self._door = door

    def _make_protocol(self) -> OPCUAProtocol:
        return _Protocol(
            self._door,
            iserver=self.iserver,
            policies=self._policies,
            clients=self.clients,
            closing_tasks=self.closing_tasks,
            limits=self.limits,
        )


class GuardedServer(Server):
    """An OPC UA server that only those on the lists can use, and nobody can fill up."""

    def __init__(self, door: Door, user_manager: Any) -> None:
        super().__init__(user_manager=user_manager)
        self._door = door
        self.limits = TransportLimits(MAX_CHUNK_BYTES, MAX_CHUNK_BYTES, MAX_CHUNKS, MAX_MESSAGE_BYTES)
        inner = self.iserver
        inner.allow_remote_admin = False
        inner.max_connections = MAX_CONNECTIONS
        inner.max_pending_activation_seconds = LOGIN_WITHIN_S
        inner.max_pending_messages_per_connection = MAX_WAITING
        inner.max_subscriptions = MAX_SUBSCRIPTIONS
        inner.max_monitored_item_queue_size = MAX_QUEUE
        inner.max_unacked_messages_per_subscription = MAX_UNACKNOWLEDGED
        inner.max_session_timeout_ms = 120_000

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be used."""
        await self._setup_server_nodes()
        await self.iserver.start()
        host, port = self._get_bind_socket_info()
        self.bserver = _Listener(self._door, self.iserver, host, port, self.limits)
        self.bserver.set_policies(self._policies)
        try:
            await self.bserver.start()
        except OSError:
            await self.iserver.stop()
            raise
