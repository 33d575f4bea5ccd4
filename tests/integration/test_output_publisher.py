"""The verdict stream and its snapshot socket, read with plain pyzmq sockets."""

import json
import re
from collections.abc import Callable, Iterator

import pytest
import zmq

from station import verdict_json
from station.errors import JournalError, OutputError
from station.outputs import publisher
from station.outputs.publisher import PublisherOutput
from station.records import Evaluation, Verdict
from tests.ports import free_port
from tests.verdicts import make_job, make_verdict
from tests.waiting import wait_until

JOB = make_job(make_verdict())
Context = zmq.Context[zmq.Socket[bytes]]


class Station:
    """A publisher with a journal that is a list; `verdicts` is what the journal holds."""

    def __init__(self, context: Context) -> None:
        self.endpoint = f"tcp://127.0.0.1:{free_port()}"
        self.snapshot_endpoint = f"tcp://127.0.0.1:{free_port()}"
        self.verdicts: list[Verdict] = []
        self.epoch = 1
        self.output = PublisherOutput(
            "station-1", self.endpoint, self.snapshot_endpoint, context, self.position, self.since
        )

    def position(self) -> tuple[int, int]:
        of_epoch = [verdict.seq for verdict in self.verdicts if verdict.epoch == self.epoch]
        return self.epoch, max(of_epoch, default=0)

    def since(self, epoch: int, seq: int) -> list[bytes]:
        return [verdict_json.encode(v) for v in self.verdicts if (v.epoch, v.seq) > (epoch, seq)]

    def send(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
        self.output.send(verdict, JOB)


@pytest.fixture
def context() -> Iterator[Context]:
    with zmq.Context() as context:
        yield context


@pytest.fixture
def station(context: Context) -> Iterator[Station]:
    station = Station(context)
    station.output.start()
    yield station
    station.output.close()


@pytest.fixture
def ask(context: Context, station: Station) -> Iterator[Callable[[bytes], list[bytes]]]:
    """Send a request to the snapshot socket and return the frames of the answer."""
    with context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(station.snapshot_endpoint)

        def ask(request: bytes) -> list[bytes]:
            socket.send(request)
            wait_until(lambda: station.output.sockets[0].poll(0))
            station.output.service()
            assert socket.poll(5000)
            return socket.recv_multipart()

        yield ask


@pytest.fixture
def subscriber(context: Context, station: Station) -> Iterator[zmq.Socket[bytes]]:
    with context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.subscribe("")
        socket.connect(station.endpoint)
        wait_until(lambda: _heard(station, socket))
        while socket.poll(50):
            socket.recv_multipart()
        yield socket


def _beat(station: Station) -> None:
    station.output._beaten_ns = None
    station.output.heartbeat(ready=True, last_seq=0)


def _heard(station: Station, subscriber: zmq.Socket[bytes]) -> bool:
    """Return True when the subscriber has got a heartbeat that was published just now, or an earlier one."""
    _beat(station)
    return bool(subscriber.poll(5))


def test_a_verdict_is_two_frames_topic_and_json(station: Station, subscriber: zmq.Socket[bytes]) -> None:
    verdict = make_verdict(1, Evaluation.NOT_OK)
    station.send(verdict)
    assert subscriber.poll(5000)
    topic, body = subscriber.recv_multipart()
    assert topic == b"verdict.test-pins-8.NOT_OK"
    assert verdict_json.decode(body) == verdict
    assert json.loads(body)["reason"] == "defect_found"


def test_heartbeat_says_station_epoch_and_last_seq(station: Station, subscriber: zmq.Socket[bytes]) -> None:
    station.verdicts.append(make_verdict(7))
    _beat(station)
    assert subscriber.poll(5000)
    topic, body = subscriber.recv_multipart()
    assert topic == b"heartbeat.station-1"
    beat = json.loads(body)
    assert (beat["station"], beat["epoch"], beat["seq"]) == ("station-1", 1, 7)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", beat["utc"])


def test_a_fast_loop_does_not_flood_the_stream_with_heartbeats(station: Station, subscriber: zmq.Socket[bytes]) -> None:
    _beat(station)
    for _ in range(100):
        station.output.heartbeat(ready=True, last_seq=0)
    station.send(make_verdict(1))
    topics = [subscriber.recv_multipart()[0] for _ in range(2) if subscriber.poll(5000)]
    assert topics == [b"heartbeat.station-1", b"verdict.test-pins-8.OK"]


def test_snapshot_gives_all_later_verdicts_and_the_end(station: Station, ask: Callable[[bytes], list[bytes]]) -> None:
    station.verdicts = [make_verdict(seq) for seq in (1, 2, 3)]
    *verdicts, end = ask(b'{"since": [1, 1]}')
    assert [verdict_json.decode(body).seq for body in verdicts] == [2, 3]
    assert json.loads(end) == {"end": [1, 3]}


def test_an_empty_snapshot_is_the_end_alone(ask: Callable[[bytes], list[bytes]]) -> None:
    assert [json.loads(frame) for frame in ask(b'{"since": [0, 0]}')] == [{"end": [1, 0]}]


def test_a_snapshot_is_cut_to_pages(
    station: Station, ask: Callable[[bytes], list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "SNAPSHOT_VERDICTS", 2)
    station.verdicts = [make_verdict(seq) for seq in (1, 2, 3)]
    *first, end = ask(b'{"since": [0, 0]}')
    assert (len(first), json.loads(end)) == (2, {"end": [1, 3]})
    *second, _end = ask(b'{"since": [1, 2]}')
    assert [verdict_json.decode(body).seq for body in second] == [3]


@pytest.mark.parametrize("request_", [b"", b"no json", b"[]", b'{"since": 5}', b'{"since": [1, 1], "x": 1}', b"\xff"])
def test_a_malformed_request_is_answered_with_an_error(ask: Callable[[bytes], list[bytes]], request_: bytes) -> None:
    (frame,) = ask(request_)
    assert set(json.loads(frame)) == {"error"}


def test_a_journal_that_cannot_be_read_is_answered_with_an_error(
    station: Station, ask: Callable[[bytes], list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_epoch: int, _seq: int) -> list[bytes]:
        raise JournalError("disk gone")

    monkeypatch.setattr(station.output, "_verdicts_since", fail)
    (frame,) = ask(b'{"since": [0, 0]}')
    assert "disk gone" in json.loads(frame)["error"]


def test_a_subscriber_that_does_not_read_never_blocks_the_worker(station: Station, context: Context) -> None:
    with context.socket(zmq.SUB) as stuck:
        stuck.linger = 0
        stuck.rcvhwm = 1
        stuck.subscribe("")
        stuck.connect(station.endpoint)
        wait_until(lambda: _heard(station, stuck))
        for seq in range(1, 3001):
            station.output.send(make_verdict(seq), JOB)


@pytest.mark.parametrize(
    "endpoint", ["tcp://0.0.0.0:5556", "tcp://*:5556", "tcp://192.0.2.1:5556", "tcp://[::]:5556", "udp://127.0.0.1:1"]
)
def test_an_endpoint_that_others_can_reach_is_refused(context: Context, endpoint: str) -> None:
    output = PublisherOutput(
        "station-1", "tcp://127.0.0.1:5556", endpoint, context, lambda: (1, 0), lambda _epoch, _seq: []
    )
    with pytest.raises(OutputError, match="snapshot_endpoint"):
        output.start()
    output.close()


def test_a_port_in_use_says_which_and_what_to_do(station: Station, context: Context) -> None:
    second = PublisherOutput(
        "station-2",
        f"tcp://127.0.0.1:{free_port()}",
        station.snapshot_endpoint,
        context,
        station.position,
        station.since,
    )
    with pytest.raises(OutputError, match=re.escape(station.snapshot_endpoint)) as caught:
        second.start()
    assert station.snapshot_endpoint.rpartition(":")[2] in caught.value.hint
    assert "outputs.publisher.snapshot_endpoint" in caught.value.hint
    second.close()
