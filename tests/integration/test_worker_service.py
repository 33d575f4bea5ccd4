"""The worker as capture and the outputs see it: real queue, real journal, real engine child with a script."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import zmq

from station import messages
from station.engine.base import Answer, Query
from station.engine.frames import EngineSpec
from station.engine.scripted import SCRIPT_VARIABLE, Script
from station.errors import JournalError, OutputError, StationError
from station.journal_reader import JournalReader
from station.outputs.base import Output
from station.records import Evaluation, Failure, Job, Reason, RegionReport, ResultState, Verdict
from station.supervisor_notify import ServiceNotifier
from station.worker.changeover import InspectionRules
from station.worker.conclusion import Judge
from station.worker.engine_host import EngineHost
from station.worker.journal import Journal
from station.worker.queue import JobQueue
from station.worker.service import WorkerService
from station.worker.shadow import Shadow
from tests.waiting import wait_until
from tests.worker_parts import IDENTITY, RECIPE_SHA256, FakeInspection, fake_judge, make_job, make_recipe

SPEC = EngineSpec(kind="scripted", manifest_path="", threads=0, gpu_layers=0)
HELLO = messages.encode(messages.Hello(identity=IDENTITY, recipe="small", recipe_sha256=RECIPE_SHA256))


class ShownOutput:
    """Keeps what it is shown; can be told to fail. Leaves out: an environment."""

    name = "shown"

    def __init__(self, journal: Path) -> None:
        self.verdicts: list[Verdict] = []
        self.beats: list[tuple[bool, int]] = []
        self.is_safe = False
        self.fails = False
        self.was_in_journal: list[bool] = []
        self._journal = journal

    def start(self) -> None:
        self.is_safe = True

    def send(self, verdict: Verdict, job: Job) -> None:
        assert verdict.job_id == job.job_id
        self.was_in_journal.append(JournalReader(self._journal).of_job(verdict.job_id) == verdict)
        self.verdicts.append(verdict)
        self.is_safe = False
        if self.fails:
            raise OutputError("PLC away")

    def heartbeat(self, ready: bool, last_seq: int) -> None:
        self.beats.append((ready, last_seq))

    def go_safe(self) -> None:
        self.is_safe = True

    def close(self) -> None:
        self.go_safe()


class Worker:
    """A worker service in a thread and a plain DEALER as its capture."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = folder / "journal.sqlite"
        self.shown = ShownOutput(self.journal)
        self.ended_with: StationError | None = None
        self.engine = EngineHost(SPEC, kill_ms=2_000)
        self._endpoint = f"ipc://{folder}/jobs.ipc"
        self._context = zmq.Context()
        self._stop = threading.Event()
        self.dealer = self.new_dealer()

    def script(self, script: Script) -> None:
        """Set what the engine does from its next start on."""
        (self.folder / "script.json").write_bytes(msgspec.json.encode(script))

    def new_dealer(self) -> zmq.Socket[bytes]:
        dealer = self._context.socket(zmq.DEALER)
        dealer.linger = 0
        dealer.connect(self._endpoint)
        return dealer

    @contextmanager
    def running(
        self,
        *,
        deadline_ms: int = 10_000,
        inspection: InspectionRules | None = None,
        judge: Judge = fake_judge,
        outputs: tuple[Output, ...] = (),
        shadow: Shadow | None = None,
    ) -> Iterator[None]:
        """Run the service; it ends when the block does."""
        self._stop.clear()
        self.queue = JobQueue(self._context, self._endpoint, credit=2, identity=IDENTITY)
        self.service = WorkerService(
            station="test",
            config_sha256="12" * 32,
            recipe=make_recipe(deadline_ms),
            inspection=inspection or FakeInspection(),
            judge=judge,
            queue=self.queue,
            engine=self.engine,
            journal=Journal(self.journal),
            outputs=(*outputs, self.shown),
            notifier=ServiceNotifier(),
            shadow=shadow,
        )
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def send(self, *jobs: Job) -> None:
        for job in jobs:
            self.dealer.send(messages.encode(messages.JobMessage(session=self.queue.session, job=job)))

    def hear(self) -> messages.Message:
        assert self.dealer.poll(10_000), f"the worker says nothing; it ended with {self.ended_with}"
        return messages.decode(self.dealer.recv())

    def verdict_of(self, job: Job) -> Verdict:
        """Send a job, wait for its ack and return its verdict from the journal."""
        self.send(job)
        ack = self.hear()
        verdict = JournalReader(self.journal).of_job(job.job_id)
        assert verdict
        assert ack == messages.ack(job.job_id, verdict.reason, verdict.detail)
        return verdict

    def wait_ready(self) -> None:
        wait_until(lambda: self.shown.beats and self.shown.beats[-1][0])

    def close(self) -> None:
        self._context.destroy(linger=0)

    def _run(self) -> None:
        try:
            self.service.run(self._stop)
        except StationError as error:
            self.ended_with = error


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker that is not running yet; its engine answers at once."""
    monkeypatch.setenv(SCRIPT_VARIABLE, str(tmp_path / "script.json"))
    worker = Worker(tmp_path)
    worker.script(Script())
    yield worker
    worker.close()


def test_a_job_becomes_a_verdict_in_the_journal_at_the_outputs_and_an_ack(worker: Worker) -> None:
    worker.script(Script(answers={"b": ("defective", "bent")}))
    with worker.running():
        good, bad = worker.verdict_of(make_job("a")), worker.verdict_of(make_job("b"))
    assert (good.evaluation, good.result_state, good.reason) == (Evaluation.OK, ResultState.COMPLETED, Reason.NONE)
    assert (bad.evaluation, bad.regions[0].defect_mode) == (Evaluation.NOT_OK, "bent")
    assert [(good.epoch, good.seq), (bad.epoch, bad.seq)] == [(1, 1), (1, 2)]
    assert good.is_simulated
    assert (good.station, good.model.name, good.recipe_sha256) == ("test", "scripted", RECIPE_SHA256)
    assert worker.shown.verdicts == [good, bad]
    assert worker.shown.was_in_journal == [True, True]


def test_the_times_add_up(worker: Worker) -> None:
    worker.script(Script(delay_ms=30))
    with worker.running():
        worker.wait_ready()
        ms = worker.verdict_of(make_job("a")).ms
    assert ms.capture == 12.5
    assert ms.inference >= 30
    assert ms.total >= ms.capture + ms.queue + ms.inference


def test_the_next_job_is_asked_before_the_verdict_is_written_and_shown(worker: Worker) -> None:
    worker.script(Script(delay_ms=50))
    states: list[str] = []

    class Looking(ShownOutput):
        def send(self, verdict: Verdict, job: Job) -> None:
            states.append(worker.engine.state.value)
            super().send(verdict, job)

    with worker.running(outputs=(Looking(worker.journal),)):
        worker.send(make_job("a"), make_job("b"))
        worker.hear()
        worker.hear()
    assert states == ["BUSY", "READY"]


def test_hello_is_answered_while_the_engine_loads(worker: Worker) -> None:
    worker.script(Script(load_ms=60_000))
    with worker.running():
        worker.dealer.send(HELLO)
        assert isinstance(worker.hear(), messages.Credit)
        assert not worker.service._engine.is_ready
        wait_until(lambda: (False, 0) in worker.shown.beats)


def test_a_job_that_came_while_the_engine_loads_is_judged_afterwards(worker: Worker) -> None:
    worker.script(Script(load_ms=300))
    with worker.running():
        verdict = worker.verdict_of(make_job("a"))
    assert verdict.evaluation is Evaluation.OK
    assert verdict.ms.queue > 50


@pytest.mark.parametrize("script", [Script(load_ms=60_000), Script(load_error="mmproj.gguf is missing")])
def test_without_a_model_the_verdict_is_undefined_at_the_deadline(script: Script, worker: Worker) -> None:
    worker.script(script)
    with worker.running(deadline_ms=200):
        wait_until(lambda: worker.engine.last_failure or not script.load_error)
        verdict = worker.verdict_of(make_job("a"))
    assert (verdict.evaluation, verdict.reason) == (Evaluation.UNDEFINED, Reason.NO_MODEL)
    assert verdict.model.name == "none"
    assert 200 <= verdict.ms.queue < 5000  # the model would have taken a minute; a busy machine may take some time
    assert script.load_error in verdict.detail


def test_a_late_answer_is_dropped_and_the_verdict_stays_undefined(worker: Worker) -> None:
    worker.script(Script(delay_ms=1000))
    with worker.running(deadline_ms=200):
        worker.wait_ready()
        verdict = worker.verdict_of(make_job("a"))
        assert (verdict.evaluation, verdict.reason) == (Evaluation.UNDEFINED, Reason.DEADLINE_PASSED)
        assert 200 <= verdict.ms.inference < 900
        wait_until(lambda: worker.service._jobs.complaints.counts == {"late answer": 1})
    assert JournalReader(worker.journal).last(10) == worker.shown.verdicts == [verdict]


def test_a_judged_job_has_no_deadline_any_more(worker: Worker) -> None:
    with worker.running(deadline_ms=300):
        worker.wait_ready()
        verdict = worker.verdict_of(make_job("a"))
        seen = len(worker.shown.beats)
        wait_until(lambda: len(worker.shown.beats) >= seen + 5)
    assert worker.shown.verdicts == [verdict]
    assert verdict.evaluation is Evaluation.OK


def test_every_job_waiting_behind_a_hung_engine_gets_its_verdict_in_time(worker: Worker) -> None:
    worker.script(Script(hang_on_ask=(1,)))
    with worker.running(deadline_ms=200):
        worker.wait_ready()
        worker.send(make_job("a"), make_job("b"))
        acks = [worker.hear(), worker.hear()]
    assert [ack.job_id for ack in acks if isinstance(ack, messages.Ack)] == ["a", "b"]
    assert {verdict.reason for verdict in worker.shown.verdicts} == {Reason.DEADLINE_PASSED}
    assert all(verdict.ms.total < 1000 for verdict in worker.shown.verdicts)


def test_a_job_over_which_the_engine_was_killed_once_is_asked_again(worker: Worker) -> None:
    worker.script(Script(delay_ms=60_000))
    with worker.running():
        worker.wait_ready()
        worker.send(make_job("a"))
        wait_until(lambda: worker.engine.state == "BUSY")
        worker.script(Script())
        assert worker.engine.pid
        os.kill(worker.engine.pid, signal.SIGKILL)
        worker.hear()
    assert [verdict.evaluation for verdict in worker.shown.verdicts] == [Evaluation.OK]
    assert worker.engine.starts == 2


def test_a_job_over_which_the_engine_dies_twice_is_given_up_and_the_next_one_judged(worker: Worker) -> None:
    worker.script(Script(crash_on_ask=(1,)))
    with worker.running():
        poison = worker.verdict_of(make_job("a"))
        worker.script(Script())
        assert worker.verdict_of(make_job("b")).evaluation is Evaluation.OK
    assert (poison.evaluation, poison.reason) == (Evaluation.UNDEFINED, Reason.ENGINE_FAILED)
    assert "2 times" in poison.detail


def test_a_refused_job_is_undefined_at_once(worker: Worker) -> None:
    worker.script(Script(refuse_on_ask=(1,)))
    with worker.running():
        refused = worker.verdict_of(make_job("a"))
        assert worker.verdict_of(make_job("b")).evaluation is Evaluation.OK
    assert (refused.evaluation, refused.reason) == (Evaluation.UNDEFINED, Reason.ENGINE_FAILED)
    assert "refuses" in refused.detail
    assert worker.engine.starts == 1


def test_what_capture_could_not_prepare_is_judged_without_engine(worker: Worker) -> None:
    worker.script(Script(load_ms=60_000))
    failure = Failure(reason=Reason.IMAGE_UNREADABLE, detail="No picture.")
    with worker.running():
        verdict = worker.verdict_of(make_job("a", failure=failure))
    assert (verdict.evaluation, verdict.reason) == (Evaluation.UNDEFINED, Reason.IMAGE_UNREADABLE)
    assert verdict.detail == "No picture."


def test_no_verdict_overtakes_that_of_an_earlier_job(worker: Worker) -> None:
    """Without a trigger the PLC knows a part by the order of the verdicts alone."""
    worker.script(Script(delay_ms=100))
    unreadable = Failure(reason=Reason.IMAGE_UNREADABLE, detail="cut off")
    with worker.running():
        worker.wait_ready()
        worker.send(make_job("a"), make_job("b", failure=unreadable), make_job("c"), make_job("d", failure=unreadable))
        acked = [worker.hear() for _ in range(4)]
    assert [ack.job_id for ack in acked if isinstance(ack, messages.Ack)] == ["a", "b", "c", "d"]
    assert [verdict.seq for verdict in worker.shown.verdicts] == [1, 2, 3, 4]


class SlowQueries(FakeInspection):
    """Takes so long to prepare a job that the engine has answered the one before in the same turn; not for "a"."""

    def queries(self, job: Job) -> tuple[Query, ...]:
        time.sleep(0.05)
        if job.job_id == "a":
            raise ValueError("while this one is prepared, the others arrive together")
        return super().queries(job)


def test_an_answer_of_the_same_turn_does_not_overtake_an_earlier_job(worker: Worker) -> None:
    unreadable = Failure(reason=Reason.IMAGE_UNREADABLE, detail="cut off")
    with worker.running(inspection=SlowQueries()):
        worker.wait_ready()
        worker.send(make_job("a"), make_job("b", failure=unreadable), make_job("c"), make_job("d"), make_job("e"))
        acked = [worker.hear() for _ in range(5)]
    assert [ack.job_id for ack in acked if isinstance(ack, messages.Ack)] == ["a", "b", "c", "d", "e"]


def test_a_job_of_another_recipe_is_undefined(worker: Worker) -> None:
    with worker.running():
        verdict = worker.verdict_of(make_job("a", recipe_sha256="00" * 32))
    assert (verdict.evaluation, verdict.reason) == (Evaluation.UNDEFINED, Reason.RECIPE_CHANGED)
    assert verdict.recipe_sha256 == RECIPE_SHA256


def test_a_judged_job_that_comes_again_is_acked_from_the_journal_and_nothing_else(worker: Worker) -> None:
    with worker.running():
        first = worker.verdict_of(make_job("a"))
    with worker.running():
        worker.script(Script(answers={"a": ("defective", "bent")}))
        assert worker.verdict_of(make_job("a")) == first
    assert worker.shown.verdicts == [first]


def test_a_waiting_job_that_comes_again_is_judged_once_and_acked_to_the_last_sender(worker: Worker) -> None:
    worker.script(Script(delay_ms=200))
    with worker.running():
        worker.wait_ready()
        worker.send(make_job("a"))
        wait_until(lambda: worker.engine.state == "BUSY")
        worker.dealer.close()
        worker.dealer = worker.new_dealer()
        assert worker.verdict_of(make_job("a")).evaluation is Evaluation.OK
    assert len(worker.shown.verdicts) == 1


def test_a_failing_output_stops_neither_the_others_nor_the_ack(worker: Worker) -> None:
    failing = ShownOutput(worker.journal)
    failing.fails = True
    with worker.running(outputs=(failing,)):
        verdict = worker.verdict_of(make_job("a"))
    assert worker.shown.verdicts == failing.verdicts == [verdict]


def test_an_output_that_cannot_start_ends_the_worker_and_all_is_closed(worker: Worker) -> None:
    class Unstartable(ShownOutput):
        def start(self) -> None:
            raise OutputError("port in use")

    with worker.running(outputs=(Unstartable(worker.journal),)):
        wait_until(lambda: worker.ended_with)
    assert isinstance(worker.ended_with, OutputError)
    with worker.running():
        assert worker.verdict_of(make_job("a")).epoch == 2


def test_a_journal_that_cannot_be_written_ends_the_worker_in_the_safe_state_without_ack(worker: Worker) -> None:
    class FullJournal(Journal):
        def append(self, verdict: Verdict) -> Verdict:
            raise JournalError(f"no space for {verdict.job_id}")

    with worker.running():
        worker.wait_ready()
        worker.service._journal.__class__ = FullJournal
        worker.send(make_job("a"))
        wait_until(lambda: worker.ended_with)
    assert isinstance(worker.ended_with, JournalError)
    assert worker.shown.is_safe
    assert worker.shown.verdicts == []
    assert not worker.dealer.poll(0)


class BrokenInspection(FakeInspection):
    """Fails in the named step with what nobody foresaw, for job "bad" only."""

    def __init__(self, step: str) -> None:
        self._step = step

    def queries(self, job: Job) -> tuple[Query, ...]:
        self._fail("queries", job.job_id)
        return super().queries(job)

    def regions(self, answers: tuple[Answer, ...], ms: float) -> tuple[RegionReport, ...]:
        self._fail("regions", answers[0].query_id)
        return super().regions(answers, ms)

    def _fail(self, step: str, job_id: str) -> None:
        if (step, job_id) == (self._step, "bad"):
            raise ZeroDivisionError


@pytest.mark.parametrize("step", ["queries", "regions", "judge"])
def test_an_unforeseen_error_is_an_undefined_verdict_and_the_next_job_is_judged(step: str, worker: Worker) -> None:
    inspection = BrokenInspection(step)

    def judge(*arguments: object) -> object:
        job = arguments[1]
        assert isinstance(job, Job)
        inspection._fail("judge", job.job_id)
        return fake_judge(*arguments)  # type: ignore[arg-type]

    with worker.running(inspection=inspection, judge=judge):  # type: ignore[arg-type]
        bad = worker.verdict_of(make_job("bad"))
        assert worker.verdict_of(make_job("good")).evaluation is Evaluation.OK
    assert (bad.evaluation, bad.result_state, bad.reason) == (
        Evaluation.UNDEFINED,
        ResultState.FAILED,
        Reason.ENGINE_FAILED,
    )
    assert "bad" in bad.detail


def test_the_heartbeat_runs_while_the_engine_is_stuck_and_names_the_last_verdict(worker: Worker) -> None:
    worker.script(Script(hang_on_ask=(2,)))
    with worker.running():
        worker.verdict_of(make_job("a"))
        worker.send(make_job("b"))
        wait_until(lambda: worker.engine.state == "BUSY")
        seen = len(worker.shown.beats)
        wait_until(lambda: len(worker.shown.beats) >= seen + 5)
    assert worker.shown.beats[-1] == (True, 1)


def test_stopping_leaves_the_waiting_job_unacked_and_shows_the_safe_state(worker: Worker) -> None:
    worker.script(Script(delay_ms=60_000))
    with worker.running():
        worker.send(make_job("a"))
        wait_until(lambda: worker.engine.state == "BUSY")
    assert worker.ended_with is None
    assert worker.shown.is_safe
    assert not worker.dealer.poll(0)
    worker.script(Script())
    with worker.running():
        verdict = worker.verdict_of(make_job("a"))
    assert (verdict.epoch, verdict.evaluation) == (2, Evaluation.OK)


def test_status_tells_of_the_engine(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    status: Callable[[ServiceNotifier, str], None] = lambda _, text: told.append(text)  # noqa: E731
    monkeypatch.setattr(ServiceNotifier, "status", status)
    worker.script(Script(load_error="mmproj.gguf is missing"))
    with worker.running():
        wait_until(lambda: any("mmproj.gguf is missing" in text for text in told))


class DoubtingInspection(FakeInspection):
    """Doubts every answer about job "near" once; the votes are then against it."""

    def doubts(self, job: Job, answers: tuple[Answer, ...]) -> tuple[Query, ...]:
        assert [one.query_id for one in answers] == [job.job_id]
        if job.job_id != "near":
            return ()
        (query,) = self.queries(job)
        return tuple(msgspec.structs.replace(query, query_id=f"near+{number}") for number in range(2))

    def settled(self, answers: tuple[Answer, ...], votes: tuple[Answer, ...]) -> tuple[Answer, ...]:
        assert [one.query_id for one in (*answers, *votes)] == ["near", "near+0", "near+1"]
        choice = msgspec.structs.replace(answers[0].choices[0], chosen="defective")
        return (msgspec.structs.replace(answers[0], choices=(choice, *answers[0].choices[1:])),)


def test_answers_in_doubt_are_asked_about_once_more_before_the_verdict_and_in_its_turn(worker: Worker) -> None:
    worker.script(Script(delay_ms=30))
    with worker.running(inspection=DoubtingInspection()):
        worker.wait_ready()
        worker.send(make_job("a"), make_job("near"), make_job("c"))
        acked = [worker.hear() for _ in range(3)]
    assert [ack.job_id for ack in acked if isinstance(ack, messages.Ack)] == ["a", "near", "c"]
    assert [verdict.evaluation for verdict in worker.shown.verdicts] == [
        Evaluation.OK, Evaluation.NOT_OK, Evaluation.OK,
    ]  # fmt: skip
    once, twice, _ = (verdict.ms.inference for verdict in worker.shown.verdicts)
    assert twice > once + 20


def test_answers_in_doubt_that_come_too_late_are_no_verdict(worker: Worker) -> None:
    worker.script(Script(delay_ms=150))
    with worker.running(deadline_ms=200, inspection=DoubtingInspection()):
        worker.wait_ready()
        worker.send(make_job("near"))
        ack = worker.hear()
    assert isinstance(ack, messages.Ack)
    (verdict,) = worker.shown.verdicts
    assert (verdict.evaluation, verdict.reason) == (Evaluation.UNDEFINED, Reason.DEADLINE_PASSED)
