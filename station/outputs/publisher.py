"""Output to subscribers: the verdict stream (ZeroMQ PUB) and its snapshot socket (ROUTER).

The stream may lose messages to a slow or late subscriber; the snapshot socket answers with all verdicts of the journal
since a given one, so that everyone can end with the same table. Runs in the worker's thread and has none of its own:
`heartbeat` and `service` answer waiting snapshot requests without waiting for any. Sending never blocks.

Stream: two frames, `verdict.<recipe>.<evaluation>` and the verdict as JSON; `heartbeat.<station>` each second.
Snapshot: request {"since": [epoch, seq]}; reply verdicts, oldest first, then {"end": [epoch, seq]} of the newest
verdict. A reply holds at most `SNAPSHOT_VERDICTS`: ask again from the last one until `end` is reached.
"""

import errno
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import zmq

from station import verdict_json
from station.complaints import Complaints
from station.curve import Door
from station.errors import OutputError, StationError
from station.key_files import Group
from station.records import Job, Record, Verdict
from station.settings import is_of_this_machine

SEND_QUEUE = 1000
"""Messages kept for a slow subscriber; more are dropped for it alone, it sees the gap in `seq`."""
HEARTBEAT_NS = 950_000_000
"""A little under a second, so that a worker that beats each second is never one beat short."""
SNAPSHOT_VERDICTS = 500
"""Bounds the time and memory of one reply."""
REQUESTS_PER_TURN = 4
"""The worker's loop has parts to judge."""
MAX_REQUEST_BYTES = 1024
"""A longer request is a mistake; ZeroMQ ends its connection."""

_log = logging.getLogger(__name__)


class SnapshotRequest(Record, frozen=True):
    """What a subscriber asks of the snapshot socket."""

    since: tuple[int, int]
    """(epoch, seq) of the last verdict it has; (0, 0): all."""


class Heartbeat(Record, frozen=True):
    """Sent each second on the stream, with or without verdicts."""

    station: str
    epoch: int
    seq: int
    """Of the last verdict of this epoch; 0: none yet."""
    utc: str


class PublisherOutput:
    """Publish verdicts. Implements `station.outputs.base.Output`; all calls from the worker's one thread.

    position gives (epoch, seq) of the newest verdict of the journal, verdicts_since the JSON of all later ones. Sockets
    that other machines reach are guarded by `door` and do not open without it.
    """

    name = "publisher"

    def __init__(
        self,
        station: str,
        endpoint: str,
        snapshot_endpoint: str,
        context: zmq.Context[zmq.Socket[bytes]],
        position: Callable[[], tuple[int, int]],
        verdicts_since: Callable[[int, int], list[bytes]],
        door: Door | None = None,
    ) -> None:
        self._station = station
        self._endpoint = endpoint
        self._snapshot_endpoint = snapshot_endpoint
        self._context = context
        self._position = position
        self._verdicts_since = verdicts_since
        self._door = door
        self._stream: zmq.Socket[bytes] | None = None
        self._snapshot: zmq.Socket[bytes] | None = None
        self._beaten_ns: int | None = None
        self._complaints = Complaints(_log)

    def start(self) -> None:
        """Open both sockets. Raises OutputError if an address is not of this machine, in use, or open without keys."""
        self._stream = self._open(zmq.PUB, "endpoint", self._endpoint)
        self._snapshot = self._open(zmq.ROUTER, "snapshot_endpoint", self._snapshot_endpoint)
        _log.info("verdict stream on %s, snapshots on %s", self._endpoint, self._snapshot_endpoint)

    @property
    def sockets(self) -> tuple[zmq.Socket[bytes], ...]:
        """What the worker's poller watches: when one is readable, call `service`."""
        return (self._snapshot,) if self._snapshot else ()

    def send(self, verdict: Verdict, job: Job) -> None:  # noqa: ARG002 - an output gets the job too
        """Publish this verdict. Raises OutputError."""
        self._publish(f"verdict.{verdict.recipe}.{verdict.evaluation}", verdict_json.encode(verdict))

    def heartbeat(self, ready: bool, last_seq: int) -> None:  # noqa: ARG002 - the journal knows the last seq
        """Publish a heartbeat if the last one is a second old, and answer waiting snapshot requests."""
        now_ns = time.monotonic_ns()
        if self._beaten_ns is None or now_ns - self._beaten_ns >= HEARTBEAT_NS:
            self._beaten_ns = now_ns
            epoch, seq = self._position()
            utc = datetime.now(UTC).isoformat(timespec="milliseconds")
            beat = Heartbeat(station=self._station, epoch=epoch, seq=seq, utc=utc)
            self._publish(f"heartbeat.{self._station}", msgspec.json.encode(beat))
        self.service()

    def service(self) -> None:
        """Answer the snapshot requests that wait, if any. Never waits itself."""
        for _ in range(REQUESTS_PER_TURN):
            if self._snapshot is None or not self._snapshot.poll(0):
                return
            *envelope, request = self._snapshot.recv_multipart()
            # A ROUTER drops what a vanished or stuck subscriber cannot take; it never blocks.
            self._snapshot.send_multipart([*envelope, *self._reply(request)])

    def go_safe(self) -> None:
        """Nothing to do: the stream holds no state, and what was published stays true."""

    def close(self) -> None:
        """Close both sockets; what a subscriber has not taken yet is dropped."""
        for socket in (self._stream, self._snapshot):
            if socket is not None:
                socket.close(linger=0)
        self._stream = self._snapshot = None

    def _publish(self, topic: str, body: bytes) -> None:
        if self._stream is None:
            raise OutputError("The publisher is not open.", "Restart the worker; see its log above.")
        self._stream.send_multipart([topic.encode("ascii"), body])

    def _reply(self, request: bytes) -> list[bytes]:
        """Return the frames that answer a request; one frame {"error": ...} if it cannot be answered."""
        try:
            since = msgspec.json.decode(request, type=SnapshotRequest).since
            verdicts = self._verdicts_since(*since)[:SNAPSHOT_VERDICTS]
        except (msgspec.DecodeError, StationError) as error:
            self._complaints.say("snapshot", f"A snapshot request cannot be answered: {error}")
            return [msgspec.json.encode({"error": str(error)})]
        return [*verdicts, msgspec.json.encode({"end": self._position()})]

    def _open(self, kind: int, key: str, endpoint: str) -> zmq.Socket[bytes]:
        """Return a bound socket. Raises OutputError and leaves nothing open."""
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.ipv6 = "[" in endpoint
        socket.sndhwm = SEND_QUEUE
        if kind == zmq.ROUTER:
            socket.maxmsgsize = MAX_REQUEST_BYTES
        try:
            self._guard(socket, key, endpoint)
            socket.bind(endpoint)
        except OutputError:
            socket.close()
            self.close()
            raise
        except zmq.ZMQError as error:
            socket.close()
            self.close()
            raise _cannot_bind(key, endpoint, error) from error
        return socket

    def _guard(self, socket: zmq.Socket[bytes], key: str, endpoint: str) -> None:
        if is_of_this_machine(endpoint):
            return
        if self._door is None:
            raise OutputError(f"outputs.publisher.{key} is {endpoint}, which anyone could read.", "Make keys for it.")
        self._door.guard(socket, Group.SUBSCRIBERS)


def _cannot_bind(key: str, endpoint: str, error: zmq.ZMQError) -> OutputError:
    hint = f"Check outputs.publisher.{key}."
    if error.errno == errno.EADDRINUSE:
        port = endpoint.rpartition(":")[2]
        hint = (
            f"Another program uses port {port} (`ss -ltnp sport = :{port}` says which): end it,"
            f" or set another outputs.publisher.{key}."
        )
    return OutputError(f"The publisher cannot listen on {endpoint}: {error.strerror}.", hint)
