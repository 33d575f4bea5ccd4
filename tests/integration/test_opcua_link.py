"""Both ends of the path from the OPC UA server to the worker, on ZeroMQ: what is taken, refused, dropped, noticed."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from station import orders
from station.opcua.worker_line import Heard, Silence, WorkerLine
from station.outputs.opcua_link import OpcuaLink
from station.outputs.plc_orders import CommandCode, CommandGiven, FreeRunning, Order, TriggerTaken
from tests.waiting import wait_until

SHA, OTHER, UNKNOWN = "aa" * 32, "bb" * 32, "cc" * 32


class Line:
    """A worker's end, and a plain DEALER in place of the server."""

    def __init__(self, folder: Path, *, triggered: bool = True) -> None:
        self.endpoint = f"ipc://{folder}/orders.ipc"
        self.context = zmq.Context()
        self.link = OpcuaLink(
            self.endpoint,
            self.context,
            lambda: (5, 0),
            triggered=triggered,
            recipe_sha256=SHA,
            recipes={SHA: 1, OTHER: 2},
            config_sha256="12" * 32,
        )
        self.link.start()
        self.link.heartbeat(ready=True, last_seq=0)
        self.dealer = self.context.socket(zmq.DEALER)
        self.dealer.linger = 0
        self.dealer.connect(self.endpoint)
        self.taken: list[Order] = []

    def ask(self, message: orders.Message) -> orders.Message:
        """Send and return the answer."""
        self.dealer.send(orders.encode(message))

        def answered() -> bool:
            self.taken += self.link.orders()
            return bool(self.dealer.poll(0))

        wait_until(answered)
        return orders.decode(self.dealer.recv())

    def beat(self) -> bool:
        """Make a heartbeat."""
        self.link.heartbeat(ready=True, last_seq=0)
        return True

    def start_job(self, serial: str = "SN-1", measurement: str = "", age_s: float = 0) -> orders.StartJob:
        sent_ns = time.monotonic_ns() - int(age_s * 1e9)
        return orders.StartJob(request=3, serial=serial, measurement=measurement, sent_ns=sent_ns)

    def close(self) -> None:
        self.link.go_safe()
        self.link.close()
        self.context.destroy(linger=0)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    line = Line(tmp_path)
    yield line
    line.close()


def test_a_start_becomes_a_trigger_with_serial_and_measurement(line: Line) -> None:
    answer = line.ask(line.start_job("SN-7", "M-7"))
    assert answer == orders.JobTaken(request=3, epoch=5, acquisition_id=1)
    (order,) = line.taken
    assert isinstance(order, TriggerTaken)
    assert (order.trigger.serial, order.trigger.measurement, order.trigger.trigger_id) == ("SN-7", "M-7", 1)


def test_no_second_start_before_the_picture_window_is_over(line: Line) -> None:
    line.ask(line.start_job())
    assert isinstance(line.ask(line.start_job()), orders.JobRefused)
    line.link.window_closed(1)
    assert line.ask(line.start_job()) == orders.JobTaken(request=3, epoch=5, acquisition_id=2)


@pytest.mark.parametrize(
    ("serial", "measurement"), [("x" * 45, ""), ("ü", ""), ("a\nb", ""), ("", "m" * 129)], ids=repr
)
def test_ids_that_do_not_fit_are_refused(line: Line, serial: str, measurement: str) -> None:
    assert isinstance(line.ask(line.start_job(serial, measurement)), orders.JobRefused)
    assert not line.taken


def test_a_station_that_is_not_ready_takes_no_start(line: Line) -> None:
    line.link.heartbeat(ready=False, last_seq=0)
    assert isinstance(line.ask(line.start_job()), orders.JobRefused)


def test_a_free_running_station_takes_no_start_and_no_recipe(tmp_path: Path) -> None:
    line = Line(tmp_path, triggered=False)
    assert isinstance(line.ask(line.start_job()), orders.JobRefused)
    assert line.ask(orders.PrepareRecipe(request=1, recipe_sha256=OTHER)) == orders.RecipeDone(
        request=1, succeeded=False
    )
    line.ask(orders.Greeting(is_continuous=True))
    assert not line.taken
    line.close()


def test_a_stale_start_is_dropped_and_counted(line: Line) -> None:
    line.dealer.send(orders.encode(line.start_job(age_s=2)))
    status = line.ask(orders.Greeting(is_continuous=False))
    assert isinstance(status, orders.WorkerStatus)  # the only answer
    assert not line.taken
    assert line.link.complaints.counts["stale order"] == 1


def test_continuous_running_is_a_level_that_silence_ends(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    status = line.ask(orders.Greeting(is_continuous=True))
    assert status == orders.WorkerStatus(
        epoch=5, is_ready=True, is_continuous=True, recipe_sha256=SHA, config_sha256="12" * 32, is_changing=False
    )
    line.ask(orders.Greeting(is_continuous=True))
    assert line.taken == [FreeRunning(is_on=True)]
    assert isinstance(line.ask(line.start_job()), orders.JobRefused)
    monkeypatch.setattr(orders, "SILENT_AFTER_S", 0.0)
    line.link.heartbeat(ready=True, last_seq=0)
    assert line.link.orders() == [FreeRunning(is_on=False)]


def test_continuous_running_waits_for_the_open_picture_window(line: Line) -> None:
    line.ask(line.start_job())
    line.ask(orders.Greeting(is_continuous=True))
    assert not [order for order in line.taken if isinstance(order, FreeRunning)]
    line.link.window_closed(1)
    line.ask(orders.Greeting(is_continuous=True))
    assert line.taken[-1] == FreeRunning(is_on=True)


def test_another_recipe_is_the_plcs_command_and_answered_when_it_is_in_force(line: Line) -> None:
    line.dealer.send(orders.encode(orders.PrepareRecipe(request=9, recipe_sha256=OTHER)))
    status = line.ask(orders.Greeting(is_continuous=False))
    assert isinstance(status, orders.WorkerStatus)
    assert status.is_changing
    assert line.taken == [CommandGiven(code=CommandCode.PREPARE_RECIPE, argument=2)]
    line.link.recipe_is(2)
    line.link.command_done(None)
    wait_until(lambda: line.dealer.poll(0))
    changed, done = (orders.decode(line.dealer.recv()) for _ in range(2))
    assert isinstance(changed, orders.WorkerStatus)
    assert (changed.recipe_sha256, changed.is_changing) == (OTHER, False)
    assert done == orders.RecipeDone(request=9, succeeded=True)


@pytest.mark.parametrize(("sha256", "succeeded"), [(SHA, True), (UNKNOWN, False)])
def test_the_recipe_in_force_is_prepared_and_an_unknown_one_refused_at_once(
    line: Line, sha256: str, succeeded: bool
) -> None:
    answer = line.ask(orders.PrepareRecipe(request=4, recipe_sha256=sha256))
    assert answer == orders.RecipeDone(request=4, succeeded=succeeded)
    assert not line.taken


@pytest.mark.parametrize("junk", [b"", b"\xff" * 100, b"\x92\x01\x80", orders.encode(orders.Mismatch())], ids=repr)
def test_junk_is_counted_and_changes_nothing(line: Line, junk: bytes) -> None:
    line.dealer.send(junk)
    assert isinstance(line.ask(orders.Greeting(is_continuous=False)), orders.WorkerStatus)
    assert not line.taken
    assert sum(line.link.complaints.counts.values()) == 1


def test_a_server_that_went_away_holds_nobody_up(line: Line) -> None:
    line.ask(line.start_job())
    line.dealer.close()
    begin_ns = time.monotonic_ns()
    for _ in range(1000):
        line.link.picture_came(1)
        line.link.mismatched()
    assert (time.monotonic_ns() - begin_ns) / 1e9 < 5  # milliseconds on a quiet machine; a wait would be minutes


class Ears:
    """What a `WorkerLine` delivered."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.lock = threading.Lock()

    def deliver(self, heard: Heard) -> None:
        with self.lock:
            self.heard.append(heard)

    def has(self, kind: type) -> bool:
        with self.lock:
            return any(isinstance(one, kind) for one in self.heard)


def test_the_servers_end_greets_orders_and_notices_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "SILENT_AFTER_S", 1.0)
    ears = Ears()
    with zmq.Context() as context:
        server = WorkerLine(context, f"ipc://{tmp_path}/orders.ipc", ears.deliver)
        server.start()
        try:
            wait_until(lambda: ears.has(Silence))  # nobody is there yet
            worker = Line(tmp_path)
            wait_until(lambda: worker.beat() and ears.has(orders.WorkerStatus))
            server.start_job(1, "SN-1", "")
            wait_until(lambda: worker.link.orders() or ears.has(orders.JobTaken))
            worker.link.picture_came(1)
            wait_until(lambda: ears.has(orders.PictureCame))
            worker.close()
            ears.heard.clear()
            wait_until(lambda: ears.has(Silence))
        finally:
            server.close()
