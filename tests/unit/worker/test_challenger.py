"""Challenges: what comes next, what came of it, and when the station may say OK."""

from pathlib import Path

import pytest

from station.challenge import ChallengeRun, Standing
from station.challenge_file import Sample, last_run
from station.guards import Probe, Wanted
from station.labels import Label
from station.records import Evaluation, Failure, Job, ModelRef, Reason, RegionReport
from station.worker.challenger import EVIDENCE, LINE_EVERY_PARTS, MOST_UNFOUNDED, Challenger, Material
from tests.worker_parts import make_job, make_probe, make_recipe, make_verdict

RECIPE = make_recipe()
MODEL = ModelRef(name="m", sha256="ab")
S_NS = 1_000_000_000
SAMPLE = Sample(name="limit.png", sha256="5a" * 32, labels=(Label(image="limit.png", evaluation=Evaluation.NOT_OK),))
LATE = Failure(reason=Reason.DEADLINE_PASSED, detail="late")


class Line:
    """A challenger and what stands for the worker around it."""

    def __init__(self, folder: Path, probes: list[Probe], *, samples: bool = False, every_min: int = 0) -> None:
        self.log = folder / "challenges.jsonl"
        self.live: list[Probe] = []
        self.evidence: list[Probe] = []
        self.challenger = Challenger(
            RECIPE, Material(probes, (SAMPLE,) if samples else (), lambda _job, _turn: self.live,
                              lambda _job, _regions: self.evidence), self.log,
            every_min=every_min,
        )  # fmt: skip
        self.now_ns = 0

    def answer(self, evaluation: Evaluation = Evaluation.OK, trouble: Failure | None = None) -> str:
        """Take the next step, answer it with this evaluation and return its name."""
        step = self.challenger.step()
        assert step
        self.challenger.sent(self.now_ns)
        assert self.challenger.step() is None, "one at a time"
        job: Job = step.job if isinstance(step, Probe) else make_job("sample")
        regions: tuple[RegionReport, ...] | None = None if trouble else make_verdict("a", evaluation).regions
        self.challenger.answered(step, job, regions, trouble, 1.0)
        return step.name

    def standing(self) -> Standing:
        return self.challenger.standing

    def load(self, starts: int = 1) -> None:
        self.challenger.loaded(starts, MODEL, self.now_ns)


def test_before_a_model_is_loaded_nothing_is_asked_and_nothing_barred(tmp_path: Path) -> None:
    line = Line(tmp_path, [make_probe(RECIPE)])
    assert line.challenger.step() is None
    assert line.standing() is Standing.NOT_ASKED


def test_from_the_load_until_all_is_passed_nothing_is_ok(tmp_path: Path) -> None:
    line = Line(tmp_path, [make_probe(RECIPE), make_probe(RECIPE, "blank", Wanted.NOT_RELEASED)], samples=True)
    line.load()
    for evaluation in (Evaluation.OK, Evaluation.NOT_OK, Evaluation.NOT_OK):
        bar = line.challenger.bar
        assert bar
        assert bar.reason is Reason.CHALLENGE_FAILED
        line.answer(evaluation)
    assert (line.standing(), line.challenger.bar) == (Standing.PASSED, None)
    run = last_run(line.log)
    assert run
    assert [(step.name, step.guard, step.problem) for step in run.steps] == [
        ("golden", "G5", ""), ("blank", "G5", ""), ("limit.png", "G16", ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "evaluation", "passes"),
    [
        (Wanted.OK, Evaluation.OK, True),
        (Wanted.OK, Evaluation.NOT_OK, False),
        (Wanted.OK, Evaluation.NOT_DECIDABLE, False),
        (Wanted.OK, Evaluation.UNDEFINED, False),
        (Wanted.NOT_RELEASED, Evaluation.OK, False),
        (Wanted.NOT_RELEASED, Evaluation.NOT_OK, True),
        (Wanted.NOT_RELEASED, Evaluation.NOT_DECIDABLE, True),
        (Wanted.NOT_RELEASED, Evaluation.UNDEFINED, False),
        (Wanted.FOUND, Evaluation.OK, False),
    ],
)
def test_a_probe_passes_only_with_what_it_must_come_to(
    tmp_path: Path, wanted: Wanted, evaluation: Evaluation, passes: bool
) -> None:
    line = Line(tmp_path, [make_probe(RECIPE, wanted=wanted)])
    line.load()
    line.answer(evaluation)
    assert line.standing() is (Standing.PASSED if passes else Standing.FAILED)
    bar = line.challenger.bar
    assert (bar is None) == passes
    if bar:
        assert "golden (G5)" in bar.detail
        assert "station challenge" in bar.detail


def test_no_answer_is_not_passed(tmp_path: Path) -> None:
    line = Line(tmp_path, [make_probe(RECIPE, wanted=Wanted.NOT_RELEASED)])
    line.load()
    line.answer(trouble=LATE)
    assert line.standing() is Standing.FAILED


def test_a_wrong_sample_fails_and_says_what_was_expected(tmp_path: Path) -> None:
    line = Line(tmp_path, [], samples=True)
    line.load()
    line.answer(Evaluation.OK)
    assert line.challenger.last
    assert "NOT_OK expected" in line.challenger.last.problems[0]


def test_a_sample_that_does_not_come_fails(tmp_path: Path) -> None:
    line = Line(tmp_path, [], samples=True)
    line.load()
    line.challenger.sent(0)
    line.challenger.overdue(29 * S_NS)
    assert line.standing() is Standing.DUE
    line.challenger.overdue(30 * S_NS)
    assert line.standing() is Standing.FAILED
    assert line.challenger.last
    assert "does capture run" in line.challenger.last.problems[0]


def test_a_sample_that_came_may_take_as_long_as_any_job(tmp_path: Path) -> None:
    line = Line(tmp_path, [], samples=True)
    line.load()
    line.challenger.sent(0)
    line.challenger.came(SAMPLE)
    line.challenger.overdue(100 * S_NS)
    assert line.standing() is Standing.DUE
    line.challenger.answered(SAMPLE, make_job("s"), make_verdict("a", Evaluation.NOT_OK).regions, None, 1.0)
    assert line.standing() is Standing.PASSED


def test_a_new_engine_is_asked_anew(tmp_path: Path) -> None:
    line = Line(tmp_path, [make_probe(RECIPE)])
    line.load()
    line.answer()
    line.load()
    assert line.standing() is Standing.PASSED
    line.load(starts=2)
    assert line.standing() is Standing.DUE
    line.answer()
    assert line.standing() is Standing.PASSED


def test_another_recipe_must_pass_before_anything_is_ok(tmp_path: Path) -> None:
    line = Line(tmp_path, [make_probe(RECIPE)])
    other = make_recipe()
    line.challenger.use(other, Material([make_probe(other, "golden of the other")], (), lambda _job, _turn: ()), 0)
    assert line.standing() is Standing.NOT_ASKED
    line.load()
    line.answer()
    line.challenger.use(RECIPE, Material([make_probe(RECIPE)], (SAMPLE,), lambda _job, _turn: ()), 0)
    assert line.standing() is Standing.DUE
    assert [line.answer(), line.answer(Evaluation.NOT_OK)] == ["golden", "limit.png"]
    assert line.standing() is Standing.PASSED
    assert line.challenger.last
    assert line.challenger.last.cause == "recipe"


def test_whoever_asked_hears_of_the_end_once_also_when_it_was_begun_anew(tmp_path: Path) -> None:
    heard: list[ChallengeRun] = []
    line = Line(tmp_path, [make_probe(RECIPE)])
    line.load()
    line.challenger.begin("plc", 0, heard.append)
    line.challenger.begin("person", 0, heard.append)
    line.answer()
    assert [run.cause for run in heard] == ["person", "person"]
    line.challenger.begin("schedule", 0)
    line.answer()
    assert len(heard) == 2


def test_the_schedule_begins_one_and_a_passed_one_ends_a_failure(tmp_path: Path) -> None:
    line = Line(tmp_path, [make_probe(RECIPE)], every_min=1)
    line.load()
    line.answer(Evaluation.NOT_OK)
    line.challenger.overdue(59 * S_NS)
    assert line.challenger.step() is None
    assert line.challenger.next_due_ns() == 60 * S_NS
    line.challenger.overdue(60 * S_NS)
    line.answer()
    assert line.standing() is Standing.PASSED
    assert line.challenger.next_due_ns() == 120 * S_NS


def test_on_the_line_the_few_probes_fail_a_station_and_never_bring_it_back(tmp_path: Path) -> None:
    line = Line(tmp_path, [make_probe(RECIPE)])
    line.live = [make_probe(RECIPE, "planted", Wanted.NOT_RELEASED)]
    line.load()
    line.answer()

    def parts() -> None:
        for _ in range(LINE_EVERY_PARTS):
            assert line.challenger.step() is None
            line.challenger.part_was_ok(make_job("part"))

    parts()
    assert line.answer(Evaluation.NOT_OK) == "planted"
    assert line.standing() is Standing.PASSED
    parts()
    line.answer(Evaluation.OK)
    assert line.standing() is Standing.FAILED
    parts()
    line.answer(Evaluation.NOT_OK)
    assert line.standing() is Standing.FAILED


def test_a_line_of_the_log_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    line = Line(tmp_path, [make_probe(RECIPE)])
    assert last_run(line.log) is None
    line.load()
    line.answer()
    before = last_run(line.log)
    with line.log.open("ab") as log:
        log.write(b'{"cause": "sta')
    assert last_run(line.log) == before


def rejecting(folder: Path) -> Line:
    """Return a line that has passed its start, with a probe for each rejection that wants OK."""
    line = Line(folder, [make_probe(RECIPE)])
    line.load()
    line.answer()
    line.evidence = [make_probe(RECIPE, "evidence")]
    return line


def reject(line: Line, evaluation: Evaluation) -> None:
    """Let a part be rejected, and its reason be found (OK) or not."""
    line.challenger.part_was_not_ok(make_job("bad"), ())
    assert line.answer(evaluation) == "evidence"


def test_several_rejections_in_a_row_without_reason_fail_the_station(tmp_path: Path) -> None:
    line = rejecting(tmp_path)
    for _ in range(MOST_UNFOUNDED - 1):
        reject(line, Evaluation.NOT_OK)
        assert (line.standing(), line.challenger.bar) == (Standing.PASSED, None)
    reject(line, Evaluation.NOT_OK)
    assert line.standing() is Standing.FAILED
    run = last_run(line.log)
    assert run
    assert (run.cause, run.problems != ()) == (EVIDENCE, True)
    reject(line, Evaluation.OK)
    assert line.standing() is Standing.FAILED, "a founded one does not bring it back"
    line.challenger.begin("person", 0)
    line.answer()
    assert line.standing() is Standing.PASSED


def test_one_rejection_with_a_reason_in_between_counts_anew(tmp_path: Path) -> None:
    line = rejecting(tmp_path)
    for evaluation in (Evaluation.NOT_OK, Evaluation.NOT_OK, Evaluation.OK, Evaluation.NOT_OK, Evaluation.NOT_OK):
        reject(line, evaluation)
    assert line.standing() is Standing.PASSED


def test_of_rejections_that_come_faster_the_newest_is_looked_into(tmp_path: Path) -> None:
    line = rejecting(tmp_path)
    for name in ("first", "second"):
        line.challenger.part_was_not_ok(make_job(name), ())
    line.answer()
    assert line.challenger.step() is None
    line.evidence = []
    line.challenger.part_was_not_ok(make_job("asked by report"), ())
    assert line.challenger.step() is None
