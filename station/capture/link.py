"""The line to the worker: jobs out, acks in, over a ZeroMQ DEALER. The only place of capture that knows zmq.

Says hello each second; sends at most as many jobs without an ack as the worker granted; sends all unacked jobs again
when the worker restarted, was silent, or did not ack one long after its deadline: the worker judges a job only once.
A worker that is silent is reported and waited for. One thread; the socket never leaves it.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator

import zmq

from station import failpoints
from station.complaints import Complaints
from station.curve import ClientKeys
from station.errors import QueueError
from station.messages import (
    MAX_MESSAGE_BYTES,
    Ack,
    Credit,
    Hello,
    JobMessage,
    PutSample,
    Refusal,
    Sighting,
    decode,
    encode,
)
from station.records import Job

HELLO_EVERY_S = 1.0
SILENT_AFTER_S = 3.0
RESEND_AFTER_DEADLINE_S = 10.0
MESSAGES_HELD = 32
"""Most messages ZeroMQ holds for a worker that is away: mostly hellos, so that it is not flooded when it comes."""

_log = logging.getLogger(__name__)


class WorkerLink:
    """The jobs that are on their way to the worker, and the socket. `open` first, `close` last.

    keys: shown to a worker whose endpoint other machines reach; None: it is of this machine.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        hello: Hello,
        deadline_ms: int,
        keys: ClientKeys | None = None,
    ) -> None:
        self._context = context
        self._endpoint = endpoint
        self._keys = keys
        self._identity = hello.identity
        self._hello = encode(hello)
        self.recipe_sha256 = hello.recipe_sha256
        """The recipe in force at the worker; what capture began with until the worker says another."""
        self._resend_after_s = deadline_ms / 1000 + RESEND_AFTER_DEADLINE_S
        self._complaints = Complaints(_log)
        self._socket: zmq.Socket[bytes] | None = None
        self._waiting: deque[Job] = deque()
        self._unacked: dict[str, tuple[Job, float]] = {}
        self._session = ""
        self._wanted: list[str] = []
        self._next_hello_s = 0.0
        self._heard_s = time.monotonic()
        self.is_silent = False
        """The worker has not answered for some seconds."""
        self.credit = 0
        """How many jobs may be unacked; 0 until the worker grants some."""

    @property
    def open_jobs(self) -> int:
        """How many jobs are here or at the worker without an ack."""
        return len(self._waiting) + len(self._unacked)

    def open(self) -> None:
        """Connect; the worker need not be there yet. Raises QueueError."""
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, MESSAGES_HELD)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        socket.ipv6 = "[" in self._endpoint
        if self._keys:
            self._keys.show(socket)
        try:
            socket.connect(self._endpoint)
        except zmq.ZMQError as error:
            socket.close()
            raise QueueError(
                f"The queue {self._endpoint} cannot be used: {error}.", "Correct queue.endpoint in config.yaml."
            ) from error
        self._socket = socket

    def close(self) -> None:
        """Close the socket; jobs without an ack are still in the spool. May be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def add(self, job: Job) -> None:
        """Send the job as soon as there is credit."""
        self._waiting.append(job)
        self._send_waiting()

    def follow(self, hello: Hello) -> None:
        """Say at once that something is different now: the recipe, or whether there is a hot folder."""
        self._hello = encode(hello)
        self._next_hello_s = 0.0

    def take_wanted(self) -> list[str]:
        """Return the challenge samples, by hash, that the worker wants in the hot folder; each once."""
        wanted, self._wanted = self._wanted, []
        return wanted

    def tell(self, sighting: Sighting) -> None:
        """Tell the worker of a picture at once, whatever the credit; if it cannot be sent, the job will tell."""
        if not self.is_silent:
            self._sent(encode(sighting))

    def wait(self, timeout_s: float, event_fd: int) -> list[Ack]:
        """Return the acks that came; waits until there is a message, `event_fd` is readable or the time is up.

        Raises QueueError when the worker is of another station or configuration.
        """
        poller = zmq.Poller()
        poller.register(self._opened, zmq.POLLIN)
        poller.register(event_fd, zmq.POLLIN)
        poller.poll(round(timeout_s * 1000))
        acks = list(self._received_acks())
        self._say_hello()
        self._watch_worker()
        self._send_waiting()
        return acks

    @property
    def _opened(self) -> zmq.Socket[bytes]:
        if self._socket is None:
            raise QueueError(f"The queue {self._endpoint} is not open.")
        return self._socket

    def _received_acks(self) -> Iterator[Ack]:
        """Take in all messages that are there; yield the acks among them."""
        while (data := self._received()) is not None:
            try:
                message = decode(data)
            except QueueError as error:
                self._complaints.say("bad message", str(error))
                continue
            if isinstance(message, Refusal):
                raise self._refused(message)
            self._hear()
            if isinstance(message, Credit):
                self._take_credit(message)
            elif isinstance(message, PutSample):
                self._wanted.append(message.sha256)
            elif isinstance(message, Ack) and message.job_id in self._unacked:
                del self._unacked[message.job_id]
                failpoints.hit("ack-taken")
                yield message

    def _refused(self, refusal: Refusal) -> QueueError:
        ours, theirs = self._identity.text, refusal.identity.text
        return QueueError(
            f"The worker at {self._endpoint} is that of {theirs}; this capture is of {ours}.",
            "After a change of config.yaml restart both services. Two stations need two addresses (queue.endpoint).",
        )

    def _received(self) -> bytes | None:
        try:
            return self._opened.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def _hear(self) -> None:
        self._heard_s = time.monotonic()
        if self.is_silent:
            self.is_silent = False
            _log.info("The worker at %s answers again.", self._endpoint)
            self._send_again("was silent")

    def _take_credit(self, credit: Credit) -> None:
        self.credit = credit.jobs
        self.recipe_sha256 = credit.recipe_sha256 or self.recipe_sha256
        if self._session not in {"", credit.session}:
            self._send_again("was started anew")
            for job in self._waiting:  # before any newer picture: it must be known when the same bytes come again
                sha256 = job.image.sha256
                self._sent(encode(Sighting(job_id=job.job_id, sha256=sha256, captured_ns=job.captured_ns)))
        self._session = credit.session

    def _send_again(self, why: str) -> None:
        if self._unacked:
            _log.info("The worker %s: %d jobs are sent again.", why, len(self._unacked))
        self._waiting.extendleft(job for job, _ in reversed(self._unacked.values()))
        self._unacked.clear()

    def _say_hello(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_hello_s:
            self._next_hello_s = now_s + HELLO_EVERY_S
            self._sent(self._hello)

    def _watch_worker(self) -> None:
        now_s = time.monotonic()
        if now_s - self._heard_s > SILENT_AFTER_S:
            self.is_silent = True
            self._complaints.say(
                "worker silent",
                f"No worker answers at {self._endpoint}. Pictures wait in the spool: start the worker.",
            )
        if any(now_s - sent_s > self._resend_after_s for _, sent_s in self._unacked.values()):
            self._send_again("did not ack in time")

    def _send_waiting(self) -> None:
        while self._waiting and len(self._unacked) < self.credit and not self.is_silent:
            job = self._waiting[0]
            failpoints.hit("job-sending")
            if not self._sent(encode(JobMessage(session=self._session, job=job))):
                return
            self._waiting.popleft()
            self._unacked[job.job_id] = (job, time.monotonic())
            failpoints.hit("job-sent")

    def _sent(self, data: bytes) -> bool:
        try:
            self._opened.send(data, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True
