"""One output's failure is its own."""

import pytest

from station.errors import OutputError, OutputLostError
from station.records import Job, Verdict
from station.worker.fanout import Fanout
from tests.worker_parts import make_job, make_verdict


class RecordingOutput:
    """Writes down its calls; raises `error` in each, also where a real output never raises."""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name = name
        self.calls: list[str] = []
        self._error = error

    def start(self) -> None:
        self._note("start")

    def send(self, verdict: Verdict, job: Job) -> None:
        assert verdict.job_id == job.job_id
        self._note("send")

    def heartbeat(self, ready: bool, last_seq: int) -> None:
        self._note(f"heartbeat {ready} {last_seq}")

    def go_safe(self) -> None:
        self._note("go_safe")

    def close(self) -> None:
        self._note("close")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if self._error:
            raise self._error


@pytest.mark.parametrize("error", [OutputError("PLC away"), RuntimeError("a bug")])
def test_a_failing_output_is_counted_and_the_others_go_on(error: Exception) -> None:
    failing, sound = RecordingOutput("plc", error), RecordingOutput("stream")
    fanout = Fanout([failing, sound])
    fanout.send(make_verdict("a"), make_job("a"))
    fanout.heartbeat(ready=True, last_seq=7)
    fanout.close()
    assert sound.calls == failing.calls == ["send", "heartbeat True 7", "go_safe", "close"]
    assert fanout.complaints.counts == {"plc": 4}


def test_an_output_that_cannot_start_stops_the_start() -> None:
    with pytest.raises(OutputError, match="port in use"):
        Fanout([RecordingOutput("plc", OutputError("port in use"))]).start()


def test_an_output_that_is_lost_for_good_ends_the_worker_and_is_still_closed() -> None:
    lost, sound = RecordingOutput("plc", OutputLostError("its thread has ended")), RecordingOutput("stream")
    fanout = Fanout([sound, lost])
    with pytest.raises(OutputLostError):
        fanout.heartbeat(ready=True, last_seq=7)
    lost._error = None
    fanout.close()
    assert sound.calls == lost.calls == ["heartbeat True 7", "go_safe", "close"]
