"""The supervisor of the engine against a real child process that answers, refuses, crashes and hangs."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from station.engine.frames import EngineSpec
from station.engine.scripted import SCRIPT_VARIABLE, Script
from station.errors import EngineError
from station.worker.engine_host import NO_MODEL, EngineHost, EngineState, Outcome
from tests.waiting import wait_until
from tests.worker_parts import QUESTION, FakeInspection, make_job

SPEC = EngineSpec(kind="scripted", manifest_path="", threads=0, gpu_layers=0)

SetScript = Callable[[Script], None]


@pytest.fixture
def set_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SetScript:
    """Writes the script that the next child reads."""
    path = tmp_path / "script.json"
    monkeypatch.setenv(SCRIPT_VARIABLE, str(path))

    def write(script: Script) -> None:
        path.write_bytes(msgspec.json.encode(script))

    return write


@pytest.fixture
def host(set_script: SetScript) -> Iterator[EngineHost]:
    """A host that kills after 300 ms; not started, so that a test can set its script first."""
    set_script(Script())
    host = EngineHost(SPEC, kill_ms=300)
    yield host
    host.close()


def _start(host: EngineHost) -> None:
    host.start(QUESTION, time.monotonic_ns())


def _submit(host: EngineHost, job_id: str, side_px: int = 16) -> None:
    queries = FakeInspection().queries(make_job(job_id, side_px=side_px))
    host.submit(job_id, queries, time.monotonic_ns())


def _poll_until(host: EngineHost, condition: Callable[[], object]) -> list[Outcome]:
    outcomes: list[Outcome] = []

    def polled() -> object:
        outcomes.extend(host.poll(time.monotonic_ns()))
        return condition()

    wait_until(polled)
    return outcomes


def _ready(host: EngineHost) -> None:
    _poll_until(host, lambda: host.state is EngineState.READY)


def _outcome(host: EngineHost) -> Outcome:
    outcomes = _poll_until(host, lambda: host.state is not EngineState.BUSY)
    assert len(outcomes) == 1
    return outcomes[0]


def test_a_loaded_engine_says_which_model_it_is(host: EngineHost) -> None:
    _start(host)
    assert (host.state, host.model, host.was_ready) == (EngineState.LOADING, NO_MODEL, False)
    _ready(host)
    assert host.model.name == "scripted"
    assert host.is_simulated
    assert host.was_ready


def test_a_job_is_answered(host: EngineHost) -> None:
    _start(host)
    _ready(host)
    _submit(host, "a")
    outcome = _outcome(host)
    assert outcome.answers
    assert (outcome.job_id, outcome.answers[0].query_id, outcome.died) == ("a", "a", False)
    assert outcome.ms > 0
    assert host.state is EngineState.READY


def test_the_descriptor_tells_when_to_poll(host: EngineHost) -> None:
    _start(host)
    _ready(host)
    _submit(host, "a")
    watched = host.watched()
    assert watched
    assert select.select([watched[0]], [], [], 10)[0]
    assert len(host.poll(time.monotonic_ns())) == 1


def test_a_job_larger_than_the_sockets_buffer_is_answered(host: EngineHost) -> None:
    _start(host)
    _ready(host)
    _submit(host, "a", side_px=1024)
    assert _outcome(host).answers


def test_a_stopped_child_holds_up_nobody_and_is_killed(host: EngineHost) -> None:
    _start(host)
    _ready(host)
    assert host.pid
    os.kill(host.pid, signal.SIGSTOP)
    began = time.monotonic()
    _submit(host, "a", side_px=2048)
    assert time.monotonic() - began < 0.2
    assert host.watched() == (host._process and host._process.descriptor, True)
    outcome = _outcome(host)
    assert (outcome.answers, outcome.died) == (None, True)
    assert "killed" in outcome.detail


def test_a_refused_job_does_not_end_the_engine(host: EngineHost, set_script: SetScript) -> None:
    set_script(Script(refuse_on_ask=(1,)))
    _start(host)
    _ready(host)
    _submit(host, "a")
    outcome = _outcome(host)
    assert (outcome.answers, outcome.died) == (None, False)
    assert "refuses" in outcome.detail
    _submit(host, "b")
    assert _outcome(host).answers
    assert host.starts == 1


@pytest.mark.parametrize("script", [Script(crash_on_ask=(1,)), Script(hang_on_ask=(1,))])
def test_an_engine_that_dies_over_a_job_says_so_and_comes_back(
    script: Script, host: EngineHost, set_script: SetScript
) -> None:
    set_script(script)
    _start(host)
    _ready(host)
    _submit(host, "a")
    outcome = _outcome(host)
    assert (outcome.answers, outcome.died) == (None, True)
    assert host.state is EngineState.DEAD
    assert host.reason
    set_script(Script())
    _ready(host)
    _submit(host, "a")
    assert _outcome(host).answers
    assert host.starts == 2


def test_an_idle_engine_that_dies_comes_back(host: EngineHost) -> None:
    _start(host)
    _ready(host)
    assert host.pid
    os.kill(host.pid, signal.SIGKILL)
    assert _poll_until(host, lambda: host.state is not EngineState.READY) == []
    _ready(host)
    assert host.starts == 2


def test_an_engine_that_cannot_load_says_why_and_is_tried_again_ever_later(
    host: EngineHost, set_script: SetScript
) -> None:
    set_script(Script(load_error="mmproj.gguf is missing."))
    _start(host)
    _poll_until(host, lambda: host.state is EngineState.DEAD)
    assert host.reason == "mmproj.gguf is missing."
    _poll_until(host, lambda: host.starts == 2 and host.state is EngineState.DEAD)
    due_ns = host.next_due_ns()
    assert due_ns
    assert due_ns - time.monotonic_ns() > 300_000_000, "the second pause is half a second"
    assert not host.was_ready
    set_script(Script())
    _ready(host)
    assert host.reason == ""


def test_an_engine_that_answered_in_between_is_restarted_at_once_again(host: EngineHost, set_script: SetScript) -> None:
    set_script(Script(crash_on_ask=(2,)))
    _start(host)
    for _ in range(2):
        _ready(host)
        _submit(host, "a")
        assert _outcome(host).answers
        _submit(host, "b")
        assert _outcome(host).died
        due_ns = host.next_due_ns()
        assert due_ns
        assert due_ns <= time.monotonic_ns()


def test_a_job_is_not_taken_before_the_engine_is_ready(host: EngineHost) -> None:
    _start(host)
    with pytest.raises(EngineError, match="LOADING"):
        _submit(host, "a")


@pytest.mark.parametrize("load_ms", [0, 20_000])
def test_close_ends_the_child_also_while_it_loads(load_ms: float, host: EngineHost, set_script: SetScript) -> None:
    set_script(Script(load_ms=load_ms))
    _start(host)
    if not load_ms:
        _ready(host)
    child = psutil.Process(host.pid)
    began = time.monotonic()
    host.close()
    assert not child.is_running()
    assert time.monotonic() - began < 5
    assert (host.state, host.poll(time.monotonic_ns())) == (EngineState.DEAD, [])


def test_the_child_ends_when_the_worker_is_killed(tmp_path: Path) -> None:
    # A process between, since this one cannot be killed: it starts a busy child, tells its pid and hangs.
    script = tmp_path / "script.json"
    script.write_bytes(msgspec.json.encode(Script(hang_on_ask=(1,))))
    code = """
import time
from tests.integration.test_worker_engine_host import SPEC, QUESTION, EngineHost, _start, _ready, _submit
host = EngineHost(SPEC, kill_ms=60_000)
_start(host); _ready(host); _submit(host, "a")
print(host.pid, flush=True)
time.sleep(60)
"""
    environment = os.environ | {SCRIPT_VARIABLE: str(script)}
    with psutil.Popen([sys.executable, "-c", code], stdout=-1, env=environment) as worker:
        child = psutil.Process(int(worker.stdout.readline()))
        worker.kill()
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_the_child_has_no_network_and_starts_no_debugger(host: EngineHost) -> None:
    _start(host)
    _poll_until(host, lambda: host.is_ready)
    for status in Path(f"/proc/{host.pid}/task").glob("*/status"):
        fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        assert (fields["Seccomp"].strip(), fields["NoNewPrivs"].strip()) == ("2", "1"), status
    assert b"GGML_NO_BACKTRACE=1" in Path(f"/proc/{host.pid}/environ").read_bytes().split(b"\0")
