"""What every output must do, whatever it writes to. One test body, all implementations."""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from station.errors import OutputError
from station.outputs.archive import ArchiveOutput
from station.outputs.base import Output
from station.outputs.modbus_client import ModbusClientOutput, Target
from station.outputs.modbus_server import ModbusServerOutput
from station.outputs.opcua_link import OpcuaLink
from station.outputs.publisher import PublisherOutput
from station.records import Evaluation, Verdict
from tests.pictures import make_recipe
from tests.ports import free_port
from tests.verdicts import make_job, make_verdict
from tests.waiting import wait_until

Make = Callable[[], Output]
"""Makes the output, on the same port or folder each time."""

SEND_LIMIT_MS = 20
JOB = make_job(make_verdict())


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as context:
        yield context


@pytest.fixture(params=["modbus_server", "modbus_client", "publisher", "opcua", "archive"])
def make(request: pytest.FixtureRequest, tmp_path: Path, context: zmq.Context[zmq.Socket[bytes]]) -> Make:
    port, other_port = free_port(), free_port()
    recipe = make_recipe(tmp_path / "recipe")
    makers: dict[str, Make] = {
        "modbus_server": lambda: ModbusServerOutput("127.0.0.1", port),
        "modbus_client": lambda: ModbusClientOutput(Target("127.0.0.1", other_port, 1, False, 0, 1_000)),
        "publisher": lambda: PublisherOutput(
            "station-1",
            f"tcp://127.0.0.1:{port}",
            f"tcp://127.0.0.1:{other_port}",
            context,
            lambda: (1, 0),
            lambda _epoch, _seq: [],
        ),
        "opcua": lambda: OpcuaLink(
            f"ipc://{tmp_path}/orders.ipc", context, lambda: (1, 0), triggered=True, recipe_sha256=""
        ),
        "archive": lambda: ArchiveOutput(tmp_path / "archive", recipe),
    }
    return makers[str(request.param)]


@pytest.fixture
def output(make: Make) -> Iterator[Output]:
    output = make()
    output.start()
    yield output
    output.close()


def every_kind() -> list[Verdict]:
    return [make_verdict(seq, evaluation) for seq, evaluation in enumerate(Evaluation, start=1)]


def test_it_has_a_name(make: Make) -> None:
    assert make().name.isidentifier()


def test_every_kind_of_verdict_can_be_sent(output: Output) -> None:
    for verdict in every_kind():
        output.heartbeat(ready=True, last_seq=verdict.seq - 1)
        output.send(verdict, JOB)


def test_sending_and_beating_do_not_hold_up_the_worker(output: Output) -> None:
    taken_ms = []
    for verdict in every_kind() * 5:
        begin_ns = time.perf_counter_ns()
        output.send(verdict, JOB)
        output.heartbeat(ready=True, last_seq=verdict.seq)
        taken_ms.append((time.perf_counter_ns() - begin_ns) / 1e6)
    assert statistics.median(taken_ms) < SEND_LIMIT_MS


@pytest.mark.parametrize("state", ["made", "started", "sent", "closed"])
def test_go_safe_and_close_work_in_every_state_and_twice(make: Make, state: str) -> None:
    output = make()
    if state != "made":
        output.start()
    if state == "sent":
        output.send(make_verdict(), JOB)
    if state == "closed":
        output.close()
    for _ in range(2):
        output.go_safe()
        output.close()


@pytest.mark.parametrize("state", ["made", "closed"])
def test_sending_to_an_output_that_is_not_open_is_an_error_not_a_loss(make: Make, state: str) -> None:
    output = make()
    if state == "closed":
        output.start()
        output.close()
    with pytest.raises(OutputError) as caught:
        output.send(make_verdict(), JOB)
    assert caught.value.hint


def test_it_can_be_opened_again_on_the_same_place(make: Make) -> None:
    for _ in range(3):
        output = wait_until(lambda: _opened(make))
        assert output is not None
        output.send(make_verdict(), JOB)
        output.close()


def _opened(make: Make) -> Output | None:
    """Return an open output; None while ZeroMQ, which closes in its own thread, still holds the port."""
    output = make()
    try:
        output.start()
    except OutputError:
        output.close()
        return None
    return output


def test_close_leaves_no_thread(make: Make) -> None:
    before = threading.active_count()
    output = make()
    output.start()
    output.close()
    assert threading.active_count() == before
