"""A subscriber ends with the same table as the journal, whatever it missed."""

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Self

import msgspec
import pytest
import zmq

from station import watch
from station.errors import OutputError
from station.records import Verdict
from station.watch import Gap, Silence, Watch
from tests.integration.test_output_publisher import Context, Station
from tests.ports import free_port
from tests.verdicts import make_verdict

Action = Callable[[Station], None]


@pytest.fixture
def context() -> Iterator[Context]:
    with zmq.Context() as context:
        yield context


class RunningStation:
    """A station whose worker loop runs in a thread of its own and does what `do` hands it, one thing a turn."""

    def __init__(self, context: Context) -> None:
        self.station = Station(context)
        self._actions: list[Action] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self.station.output.start()
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()
        self.station.output.close()

    def do(self, *actions: Action) -> None:
        self._actions.extend(actions)

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            if self._actions:
                self._actions.pop(0)(self.station)
            self.station.output._beaten_ns = None
            self.station.output.heartbeat(ready=True, last_seq=0)


@pytest.fixture
def running(context: Context) -> Iterator[RunningStation]:
    with RunningStation(context) as running:
        yield running


def watching(running: RunningStation, context: Context, **options: object) -> Watch:
    station = running.station
    return Watch(context, station.endpoint, station.snapshot_endpoint, **options)  # type: ignore[arg-type]


def sends(seq: int, epoch: int = 1) -> Action:
    """Put verdict (epoch, seq) into the journal and on the stream."""

    def action(station: Station) -> None:
        station.epoch = epoch
        station.send(verdict(seq, epoch))

    return action


def loses(seq: int, epoch: int = 1) -> Action:
    """Put verdict (epoch, seq) into the journal only: the subscriber never gets it from the stream."""

    def action(station: Station) -> None:
        station.epoch = epoch
        station.verdicts.append(verdict(seq, epoch))

    return action


def verdict(seq: int, epoch: int) -> Verdict:
    return msgspec.structs.replace(make_verdict(seq), epoch=epoch)


def table(seen: list[Verdict | Gap | Silence]) -> list[tuple[int, int]]:
    return [(item.epoch, item.seq) for item in seen if isinstance(item, Verdict)]


def gaps(seen: list[Verdict | Gap | Silence]) -> list[Gap]:
    return [item for item in seen if isinstance(item, Gap)]


def test_since_zero_gives_the_whole_journal_then_the_stream(running: RunningStation, context: Context) -> None:
    running.station.verdicts = [verdict(seq, 1) for seq in (1, 2, 3)]
    with watching(running, context, since=(0, 0)) as watched:
        seen = []
        for item in watched:
            seen.append(item)
            if table(seen) == [(1, 1), (1, 2), (1, 3)]:
                running.do(sends(4), sends(5))
            if len(table(seen)) == 5:
                break
    assert table(seen) == [(1, 1), (1, 2), (1, 3), (1, 4), (1, 5)]
    assert not gaps(seen)


def test_without_since_only_new_verdicts_come(running: RunningStation, context: Context) -> None:
    running.station.verdicts = [verdict(1, 1)]
    with watching(running, context) as watched:
        items = iter(watched)
        _wait_for_first_heartbeat(watched)
        running.do(sends(2), sends(3))
        assert table(list(islice(items, 2))) == [(1, 2), (1, 3)]


def test_a_lost_verdict_is_reported_and_fetched(running: RunningStation, context: Context) -> None:
    with watching(running, context) as watched:
        items = iter(watched)
        _wait_for_first_heartbeat(watched)
        running.do(sends(1))
        seen = [next(items)]
        running.do(loses(2), sends(3), sends(4))
        seen += islice(items, 4)
    assert table(seen) == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert [gap.after for gap in gaps(seen)] == [(1, 1)]


def test_a_lost_last_verdict_is_noticed_by_the_heartbeat(running: RunningStation, context: Context) -> None:
    with watching(running, context) as watched:
        items = iter(watched)
        _wait_for_first_heartbeat(watched)
        running.do(sends(1))
        seen = [next(items)]
        running.do(loses(2))
        seen += islice(items, 2)
    assert seen[1] == Gap(after=(1, 1), until=(1, 2))
    assert table(seen) == [(1, 1), (1, 2)]


def test_a_restart_of_the_worker_is_no_gap(running: RunningStation, context: Context) -> None:
    with watching(running, context) as watched:
        items = iter(watched)
        _wait_for_first_heartbeat(watched)
        running.do(sends(1), sends(1, epoch=2), sends(2, epoch=2))
        seen = list(islice(items, 3))
    assert table(seen) == [(1, 1), (2, 1), (2, 2)]
    assert not gaps(seen)


def test_what_was_lost_before_a_restart_is_reported_and_fetched(running: RunningStation, context: Context) -> None:
    with watching(running, context) as watched:
        items = iter(watched)
        _wait_for_first_heartbeat(watched)
        running.do(sends(1))
        seen = [next(items)]

        def restarts_after_a_loss(station: Station) -> None:
            loses(2)(station)
            sends(1, epoch=2)(station)

        running.do(restarts_after_a_loss)
        seen += islice(items, 3)
    assert table(seen) == [(1, 1), (1, 2), (2, 1)]
    assert [gap.after for gap in gaps(seen)] == [(1, 1)]


def test_a_gap_that_the_journal_cannot_fill_is_still_reported(running: RunningStation, context: Context) -> None:
    with watching(running, context) as watched:
        items = iter(watched)
        _wait_for_first_heartbeat(watched)
        running.do(sends(1))
        seen = [next(items)]
        running.do(sends(5))
        seen += islice(items, 2)
    assert seen[1] == Gap(after=(1, 1), until=(1, 4))
    assert table(seen) == [(1, 1), (1, 5)]


def test_what_was_sent_before_the_subscription_stood_is_no_gap(running: RunningStation, context: Context) -> None:
    with watching(running, context, since=(1, 1)) as watched:
        _wait_for_first_heartbeat(watched)
        running.station.verdicts = [verdict(seq, 1) for seq in (1, 2, 3)]
        assert table(list(islice(watched, 2))) == [(1, 2), (1, 3)]


def test_time_over_ends_the_watch(running: RunningStation, context: Context) -> None:
    with watching(running, context, timeout_s=0.2) as watched:
        assert list(watched) == []


def test_silence_is_said_once(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SILENT_AFTER_MS", 50)
    with Watch(context, f"tcp://127.0.0.1:{free_port()}", "tcp://127.0.0.1:1", timeout_s=0.3) as watched:
        assert list(watched) == [Silence(ms=50)]


def test_a_snapshot_without_answer_says_what_to_do(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "ANSWER_TIMEOUT_MS", 50)
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    with (
        Watch(context, endpoint, endpoint, since=(0, 0)) as watched,
        pytest.raises(OutputError, match="gave no answer") as caught,
    ):
        next(iter(watched))
    assert "station status" in caught.value.hint


def test_something_that_is_no_endpoint_is_refused(context: Context) -> None:
    with pytest.raises(OutputError, match="nonsense"), Watch(context, "nonsense", "tcp://127.0.0.1:1"):
        pass


def _wait_for_first_heartbeat(watched: Watch) -> None:
    """Wait until the subscription is up, and leave the heartbeat to be read."""
    assert watched._stream.poll(5000)
