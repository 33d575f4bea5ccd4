"""The worker's end of the queue against a plain DEALER."""

import fcntl
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from station import messages
from station.errors import QueueError
from station.worker.queue import JobQueue, Received
from tests.waiting import wait_until
from tests.worker_parts import IDENTITY, RECIPE_SHA256, make_job

HELLO = messages.Hello(identity=IDENTITY, recipe="small", recipe_sha256=RECIPE_SHA256)
ACK = messages.Ack(job_id="a", unreadable=None)

Context = zmq.Context[zmq.Socket[bytes]]


@pytest.fixture
def context() -> Iterator[Context]:
    """One context; also ends what a failed test left open."""
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The socket's path, in a folder that does not exist yet."""
    return tmp_path / "run" / "jobs.ipc"


@pytest.fixture
def queue(context: Context, path: Path) -> Iterator[JobQueue]:
    """An open queue with a credit of 2."""
    queue = JobQueue(context, f"ipc://{path}", credit=2, identity=IDENTITY)
    queue.open()
    yield queue
    queue.close()


@pytest.fixture
def capture(context: Context, queue: JobQueue, path: Path) -> Iterator["PlainCapture"]:
    """A connected DEALER; `queue` is first, so that it closes last."""
    capture = PlainCapture(context, f"ipc://{path}", queue)
    yield capture
    capture.dealer.close(linger=0)


class PlainCapture:
    """A DEALER that says what it is told and gathers what it hears."""

    def __init__(self, context: Context, endpoint: str, queue: JobQueue) -> None:
        self.dealer = context.socket(zmq.DEALER)
        self.dealer.connect(endpoint)
        self._queue = queue

    def say(self, *parts: bytes) -> None:
        self.dealer.send_multipart(parts)

    def hear(self) -> messages.Message:
        """Return the next message, while the queue works."""

        def heard() -> bytes | None:
            self._queue.receive()
            return self.dealer.recv() if self.dealer.poll(0) else None

        return messages.decode(wait_until(heard) or b"")


def _received(queue: JobQueue) -> list[Received]:
    return wait_until(queue.receive)


def test_hello_is_answered_with_the_session_and_the_credit(capture: PlainCapture) -> None:
    capture.say(messages.encode(HELLO))
    first = capture.hear()
    capture.say(messages.encode(HELLO))
    assert isinstance(first, messages.Credit)
    assert first.jobs == 2
    assert capture.hear() == first


def test_every_start_has_its_own_session(context: Context, tmp_path: Path) -> None:
    first, second = (JobQueue(context, f"ipc://{tmp_path}/q", 2, identity=IDENTITY)._credit for _ in range(2))
    assert first.session != second.session


def test_jobs_come_in_order_and_acks_go_back(queue: JobQueue, capture: PlainCapture) -> None:
    for job_id in ("a", "b"):
        capture.say(messages.encode(messages.JobMessage(session=queue.session, job=make_job(job_id))))
    received: list[Received] = []
    while len(received) < 2:
        received += _received(queue)
    assert [job.job_id for _, job in received] == ["a", "b"]
    queue.acknowledge(received[0].peer, ACK)
    assert capture.hear() == ACK


def test_a_job_sent_to_an_earlier_worker_is_dropped_since_it_would_overtake(
    queue: JobQueue, capture: PlainCapture
) -> None:
    capture.say(messages.encode(messages.JobMessage(session="before", job=make_job("b"))))
    for job_id in ("a", "b"):
        capture.say(messages.encode(messages.JobMessage(session=queue.session, job=make_job(job_id))))
    received: list[Received] = []
    while len(received) < 2:
        received += _received(queue)
    assert [job.job_id for _, job in received] == ["a", "b"]


@pytest.mark.parametrize(
    "parts",
    [(b"",), (b"garbage",), (b"", b""), (messages.encode(HELLO), b"more"), (messages.encode(HELLO)[:-1],)],
)
def test_a_malformed_message_is_counted_and_the_next_one_read(
    parts: tuple[bytes, ...], queue: JobQueue, capture: PlainCapture
) -> None:
    capture.say(*parts)
    capture.say(messages.encode(messages.JobMessage(session=queue.session, job=make_job("a"))))
    assert [job.job_id for _, job in _received(queue)] == ["a"]
    assert queue.complaints.counts == {"malformed message": 1}


def test_a_message_of_the_wrong_direction_is_counted_and_ignored(queue: JobQueue, capture: PlainCapture) -> None:
    capture.say(messages.encode(ACK))
    wait_until(lambda: queue.receive() or queue.complaints.counts)
    assert queue.complaints.counts == {"unexpected message": 1}


def test_an_ack_that_reached_nobody_waits_for_the_next_hello(queue: JobQueue, capture: PlainCapture) -> None:
    queue.acknowledge(b"gone", ACK)
    capture.say(messages.encode(HELLO))
    assert isinstance(capture.hear(), messages.Credit)
    assert capture.hear() == ACK
    capture.say(messages.encode(HELLO))
    assert isinstance(capture.hear(), messages.Credit)
    assert not capture.dealer.poll(20), "an ack is delivered once"


def test_wait_ends_when_a_message_or_another_descriptor_is_ready(queue: JobQueue, capture: PlainCapture) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        queue.wait(20_000, [(ours.fileno(), False)])
    capture.say(messages.encode(messages.JobMessage(session=queue.session, job=make_job("a"))))
    queue.wait(20_000)
    assert _received(queue)


def test_an_endpoint_that_another_worker_has_is_refused(queue: JobQueue, context: Context, path: Path) -> None:
    queue.wait(0)
    with pytest.raises(QueueError, match="another worker"):
        JobQueue(context, f"ipc://{path}", 2, identity=IDENTITY).open()


def test_an_endpoint_that_another_program_has_is_refused(context: Context, tmp_path: Path) -> None:
    path = tmp_path / "taken.ipc"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(QueueError, match="another program"):
            JobQueue(context, f"ipc://{path}", 2, identity=IDENTITY).open()


def test_a_socket_left_by_a_crash_is_taken_over(context: Context, tmp_path: Path) -> None:
    path = tmp_path / "stale.ipc"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
    queue = JobQueue(context, f"ipc://{path}", 2, identity=IDENTITY)
    queue.open()
    queue.close()


def test_a_file_at_the_endpoint_is_refused_and_kept(context: Context, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(QueueError, match="no socket"):
        JobQueue(context, f"ipc://{path}", 2, identity=IDENTITY).open()
    assert path.read_text() == "mine"


def test_a_tcp_port_in_use_is_refused(context: Context) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(QueueError, match="in use"):
            JobQueue(context, f"tcp://127.0.0.1:{other.getsockname()[1]}", 2, identity=IDENTITY).open()


@pytest.mark.parametrize("name", ["x" * 200, "file/under/a/file"])
def test_a_path_that_cannot_be_a_socket_is_refused(name: str, context: Context, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(QueueError, match="cannot be opened"):
        JobQueue(context, f"ipc://{tmp_path}/{name}", 2, identity=IDENTITY).open()


def test_a_closed_queue_gives_its_endpoint_up(context: Context, path: Path) -> None:
    for _ in range(20):
        queue = JobQueue(context, f"ipc://{path}", 2, identity=IDENTITY)
        queue.open()
        queue.close()
        queue.close()
    with path.with_name("jobs.ipc.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_capture_of_another_station_or_configuration_is_told_and_nothing_of_it_is_taken(
    queue: JobQueue, context: Context, path: Path
) -> None:
    stranger = PlainCapture(context, f"ipc://{path}", queue)
    received: list[Received] = []

    def answered() -> bool:
        received.extend(queue.receive())
        return bool(stranger.dealer.poll(0))

    try:
        for identity in (
            messages.Identity(station=IDENTITY.station, config_sha256="00" * 32),
            messages.Identity(station="another", config_sha256=IDENTITY.config_sha256),
        ):
            hello = messages.Hello(identity=identity, recipe="small", recipe_sha256=RECIPE_SHA256)
            stranger.say(messages.encode(hello))
            assert stranger.hear() == messages.Refusal(identity=IDENTITY)
            stranger.say(messages.encode(messages.Sighting(job_id="x", sha256="0" * 64, captured_ns=None)))
            stranger.say(messages.encode(messages.JobMessage(session=queue.session, job=make_job("x"))))
        stranger.say(messages.encode(HELLO))  # started again with the right one
        wait_until(answered)
        assert isinstance(stranger.hear(), messages.Credit)
        assert not received
        assert not queue.sightings()
        assert queue.complaints.counts["other configuration"] == 2
        stranger.say(messages.encode(messages.JobMessage(session=queue.session, job=make_job("x"))))
        assert [one.job.job_id for one in _received(queue)] == ["x"]
    finally:
        stranger.dealer.close(linger=0)
