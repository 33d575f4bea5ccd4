"""The worker's end of the queue: a ZeroMQ ROUTER that takes jobs and gives acks.

In: `Hello`, `Sighting` and `JobMessage` from capture; out: `Credit` and `Ack`. Used from the worker's one thread,
never blocks except in `wait`. What cannot be read is counted, logged now and then, and dropped. An ack that does not
reach capture (it restarted, or its connection broke) waits for its next Hello.
"""

import fcntl
import logging
import socket
import stat
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
import zmq

from station import messages
from station.challenge import ChallengeRun
from station.complaints import Complaints
from station.curve import Door
from station.errors import QueueError
from station.key_files import Group
from station.records import Job

logger = logging.getLogger(__name__)

_IPC = "ipc://"
_MAX_PER_TURN = 16
"""Messages taken in one turn, so that a flood delays no deadline."""
_CLOSE_LIMIT_S = 1.0
_RECEIVE_LIMIT = 16
"""Messages ZeroMQ may hold for us; more stay with the sender, which is the place that survives a restart."""
_SEND_LIMIT = 1000
_MAX_STRANGERS = 1000
_MAX_UNDELIVERED = 1000
"""Acks kept for capture's next Hello. One that is dropped is given again when capture sends its job again."""


class Received(NamedTuple):
    """A job and the address of the capture that sent it."""

    peer: bytes
    job: Job


class JobQueue:
    """ROUTER at `endpoint` (ipc:// or tcp://) that lets capture have `credit` jobs under way.

    identity: whose captures may speak to it. door: guards the endpoint; None: only this machine reaches it.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        credit: int,
        identity: messages.Identity,
        door: Door | None = None,
    ) -> None:
        self._context = context
        self._endpoint = endpoint
        self._identity = identity
        self._door = door
        self._strangers: set[bytes] = set()
        self._credit = messages.Credit(session=uuid.uuid4().hex, jobs=credit)
        self._capture: bytes | None = None
        self.hot_folder_problem = ""
        """Why capture cannot see pictures, as it said last."""
        self.capture_sha256 = ""
        """The recipe that capture has, as its last Hello said."""
        self._socket: zmq.Socket[bytes] | None = None
        self._lock: IO[bytes] | None = None
        self._undelivered: dict[str, messages.Ack] = {}
        self._sightings: list[messages.Sighting] = []
        self._askers: list[bytes] = []
        self.complaints = Complaints(logger)

    @property
    def session(self) -> str:
        """What tells this start of the worker from all others."""
        return self._credit.session

    def open(self) -> None:
        """Bind. Raises QueueError when the endpoint is in use or cannot be made."""
        try:
            if self._endpoint.startswith(_IPC):
                self._claim_ipc_path(Path(self._endpoint.removeprefix(_IPC)))
            self._socket = self._bound_socket()
        except (OSError, zmq.ZMQError) as error:
            self.close()
            raise QueueError(
                f"The queue cannot be opened at {self._endpoint}: {error}.",
                "Check that no other worker runs and that the folder can be written (config.yaml, queue.endpoint).",
            ) from error
        except QueueError:
            self.close()
            raise

    def close(self) -> None:
        """Close the socket and give up the endpoint, which takes milliseconds. May be called in any state."""
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None
            if self._endpoint.startswith(_IPC):
                _wait_unanswered(Path(self._endpoint.removeprefix(_IPC)))
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def wait(self, timeout_ms: int, others: Iterable[tuple[int, bool]] = ()) -> None:
        """Wait for a message, for one of the `others` (file descriptor, wants to write), or for the time to pass."""
        poller = zmq.Poller()
        poller.register(self._open_socket, zmq.POLLIN)
        for descriptor, wants_write in others:
            poller.register(descriptor, zmq.POLLIN | (zmq.POLLOUT if wants_write else 0))
        poller.poll(timeout_ms)

    def receive(self) -> list[Received]:
        """Return the jobs that are here, in order; answers every Hello. Never waits."""
        received = []
        for _ in range(_MAX_PER_TURN):
            try:
                parts = self._open_socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            job = self._take(parts)
            if job is not None:
                received.append(Received(parts[0], job))
        return received

    def sightings(self) -> list[messages.Sighting]:
        """Return the pictures that capture has seen, as `receive` took them in; each once."""
        seen, self._sightings = self._sightings, []
        return seen

    def tell_recipe(self, recipe_sha256: str) -> None:
        """Tell capture, now and at each Hello, which recipe is in force. Never waits, never raises."""
        self._credit = msgspec.structs.replace(self._credit, recipe_sha256=recipe_sha256)
        if self._capture is not None:
            self._send(self._capture, self._credit)

    def put_sample(self, sha256: str) -> bool:
        """Ask capture to put a challenge sample into the hot folder; False: no capture is there yet."""
        return self._capture is not None and self._send(self._capture, messages.PutSample(sha256=sha256))

    def take_askers(self) -> list[bytes]:
        """Return who has asked for a challenge since the last call."""
        askers, self._askers = self._askers, []
        return askers

    def tell_asker(self, peer: bytes, run: ChallengeRun | None) -> None:
        """Tell what came of the challenge. Never waits, never raises."""
        self._send(peer, messages.ChallengeDone(run=run))

    def acknowledge(self, peer: bytes, ack: messages.Ack) -> None:
        """Tell capture that the journal has the verdict. Never waits, never raises."""
        if not self._send(peer, ack):
            self._undelivered[ack.job_id] = ack
            while len(self._undelivered) > _MAX_UNDELIVERED:
                del self._undelivered[next(iter(self._undelivered))]

    @property
    def _open_socket(self) -> zmq.Socket[bytes]:
        if self._socket is None:
            raise QueueError(f"The queue at {self._endpoint} is not open.")
        return self._socket

    def _take(self, parts: list[bytes]) -> Job | None:
        """Act on one message; return the job if it is one."""
        try:
            message = messages.decode(parts[1] if len(parts) == 2 else b"")
        except QueueError as error:
            self.complaints.say("malformed message", str(error))
            return None
        match message:
            case messages.Hello():
                self._greet(parts[0], message)
            case _ if parts[0] in self._strangers:
                pass  # it was told with its Hello
            case messages.ChallengeNow():
                self._askers.append(parts[0])
            case messages.Sighting():
                self._sightings.append(message)
            case messages.JobMessage(session=self.session):
                return message.job
            case messages.JobMessage():
                # Sent to the worker before this one: it would overtake those that went down with that worker.
                logger.debug("Job %s was sent to an earlier worker and is awaited again.", message.job.job_id)
            case _:
                self.complaints.say("unexpected message", f"Capture sent {type(message).__name__}; ignored.")
        return None

    def _greet(self, peer: bytes, hello: messages.Hello) -> None:
        if hello.identity != self._identity:
            self._refuse(peer, hello.identity)
            return
        self._strangers.discard(peer)
        self._capture, self.capture_sha256 = peer, hello.recipe_sha256
        self.hot_folder_problem = hello.hot_folder_problem
        self._send(peer, self._credit)
        for ack in list(self._undelivered.values()):
            if not self._send(peer, ack):
                break
            del self._undelivered[ack.job_id]

    def _refuse(self, peer: bytes, identity: messages.Identity) -> None:
        if len(self._strangers) >= _MAX_STRANGERS:
            self._strangers.clear()  # each says Hello again within a second
        self._strangers.add(peer)
        self._send(peer, messages.Refusal(identity=self._identity))
        self.complaints.say(
            "other configuration",
            f"A capture of {identity.text} was refused: this is the worker of {self._identity.text}.",
        )

    def _send(self, peer: bytes, message: messages.Message) -> bool:
        """Send if it can be done now; with ROUTER_MANDATORY an unknown peer or a full pipe is an error, not silence."""
        try:
            self._open_socket.send_multipart([peer, messages.encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            self.complaints.say("capture not reached", f"{type(message).__name__} not delivered: {error}.")
            return False
        return True

    def _bound_socket(self) -> zmq.Socket[bytes]:
        router = self._context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.MAXMSGSIZE, messages.MAX_MESSAGE_BYTES)
        router.setsockopt(zmq.RCVHWM, _RECEIVE_LIMIT)
        router.setsockopt(zmq.SNDHWM, _SEND_LIMIT)
        router.ipv6 = "[" in self._endpoint
        try:
            if self._door:
                self._door.guard(router, Group.CAPTURES)
            router.bind(self._endpoint)
        except zmq.ZMQError:
            router.close()
            raise
        return router

    def _claim_ipc_path(self, path: Path) -> None:
        """Make sure that `path` is ours. ZeroMQ removes whatever is there, also another worker's live socket."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = path.with_name(path.name + ".lock").open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _in_use(path, "another worker") from error
        if path.exists() and not stat.S_ISSOCK(path.lstat().st_mode):
            raise QueueError(
                f"The queue cannot be opened at {self._endpoint}: there is a file that is no socket.",
                "Move it away or choose another path (config.yaml, queue.endpoint).",
            )
        if _is_answered(path):
            raise _in_use(path, "another program")


def _is_answered(path: Path) -> bool:
    """Return True when a live process listens at the socket `path`; a left-over of a crash answers nobody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        return caller.connect_ex(str(path)) == 0


def _wait_unanswered(path: Path) -> None:
    """Wait until nobody listens at `path`: ZeroMQ closes in its own thread, the next worker must find it closed."""
    end_s = time.monotonic() + _CLOSE_LIMIT_S
    while _is_answered(path) and time.monotonic() < end_s:
        time.sleep(0.001)


def _in_use(path: Path, by: str) -> QueueError:
    return QueueError(
        f"The queue's endpoint {path} is in use by {by}.",
        "Stop it, or give this station an endpoint of its own (config.yaml, queue.endpoint).",
    )
