"""The shadow gives way: stopped while a part is there, its time limit too; what it cannot keep up with is counted.

Real queue, journal and engine children with a script; the shadow's answers are those of the active engine.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from station import shadow_file
from station.engine.scripted import SCRIPT_VARIABLE, Script
from station.records import Evaluation
from station.shadow import ShadowDropped, ShadowJudged, ShadowLine, report_of
from station.shadow_file import append_line, read_lines
from station.worker.engine_host import EngineHost, EngineState
from station.worker.shadow import KEPT_PARTS, Shadow
from tests.integration.test_worker_service import SPEC, Worker
from tests.waiting import wait_until
from tests.worker_parts import make_job

MANIFEST = Path(__file__).parents[2] / "models/pins-tiny/manifest.json"
SHADOW_KILL_MS = 1_000


class Beside:
    """A worker and its shadow."""

    def __init__(self, folder: Path) -> None:
        self.worker = Worker(folder)
        self.host = EngineHost(SPEC, kill_ms=SHADOW_KILL_MS)
        self.file = folder / "shadow.jsonl"
        self.shadow = Shadow(MANIFEST, self.host, self.file)

    @property
    def lines(self) -> list[ShadowLine]:
        return list(read_lines(self.file))

    @property
    def judged(self) -> list[ShadowJudged]:
        return [line for line in self.lines if isinstance(line, ShadowJudged)]

    @property
    def dropped(self) -> int:
        return sum(line.count for line in self.lines if isinstance(line, ShadowDropped))

    def is_stopped(self) -> bool:
        return bool(self.host.pid) and psutil.Process(self.host.pid).status() == psutil.STATUS_STOPPED


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Beside]:
    monkeypatch.setenv(SCRIPT_VARIABLE, str(tmp_path / "script.json"))
    beside = Beside(tmp_path)
    beside.worker.script(Script())
    yield beside
    beside.worker.close()


def test_each_part_is_judged_again_after_its_verdict(beside: Beside) -> None:
    beside.worker.script(Script(answers={"b": ("defective", "bent")}))
    with beside.worker.running(shadow=beside.shadow):
        for name in "ab":
            beside.worker.verdict_of(make_job(name))
        wait_until(lambda: len(beside.judged) == 2)
    assert [(line.job_id, line.active_said, line.shadow_said) for line in beside.judged] == [
        ("a", Evaluation.OK, Evaluation.OK),
        ("b", Evaluation.NOT_OK, Evaluation.NOT_OK),
    ]
    assert (beside.judged[1].active_bad, beside.judged[1].shadow_bad) == (("field",), ("field",))
    assert beside.dropped == 0
    assert len(beside.worker.shown.verdicts) == 2


def test_it_stands_still_while_a_part_is_there_and_its_time_limit_too(beside: Beside) -> None:
    beside.worker.script(Script(delay_ms=500))
    with beside.worker.running(shadow=beside.shadow):
        beside.worker.verdict_of(make_job("a"))
        wait_until(lambda: beside.host.state is EngineState.BUSY)
        beside.worker.send(make_job("b"), make_job("c"), make_job("d"))
        wait_until(beside.is_stopped)
        wait_until(lambda: len(beside.worker.shown.verdicts) == 3)
        assert beside.is_stopped(), "d is still with the engine"
        wait_until(lambda: len(beside.judged) == 4)
    assert [line.job_id for line in beside.judged] == list("abcd")
    assert beside.host.starts == 1, "a pause longer than its limit must not kill it"
    assert all(line.ms < SHADOW_KILL_MS for line in beside.judged)


def test_parts_that_come_faster_than_it_judges_are_dropped_and_counted(beside: Beside) -> None:
    beside.worker.script(Script(delay_ms=30))
    parts = [f"p{number}" for number in range(KEPT_PARTS + 3)]
    with beside.worker.running(shadow=beside.shadow):
        beside.worker.wait_ready()
        beside.worker.send(*map(make_job, parts))
        wait_until(lambda: len(beside.judged) == KEPT_PARTS)
    assert [line.job_id for line in beside.judged] == parts[3:]
    assert beside.dropped == 3
    assert len(beside.worker.shown.verdicts) == len(parts)


def test_a_shadow_that_ends_again_and_again_is_given_up_and_the_line_goes_on(beside: Beside) -> None:
    with beside.worker.running(shadow=beside.shadow):
        beside.worker.verdict_of(make_job("a"))
        wait_until(lambda: len(beside.judged) == 1)
        beside.worker.script(Script(load_error="no such model"))
        wait_until(lambda: beside.host.pid)
        psutil.Process(beside.host.pid).kill()
        wait_until(lambda: beside.shadow.problem)
        assert "no such model" in beside.shadow.problem
        assert beside.worker.verdict_of(make_job("b")).evaluation is Evaluation.OK
    assert len(beside.judged) == 1


def test_a_shadow_that_does_not_fit_into_memory_is_refused_in_words_and_the_line_goes_on(
    beside: Beside, tmp_path: Path
) -> None:
    data = json.loads(MANIFEST.read_text())
    data["text"]["bytes"] = 2**50
    (tmp_path / "huge.json").write_text(json.dumps(data))
    huge = Shadow(tmp_path / "huge.json", beside.host, beside.file)
    with beside.worker.running(shadow=huge):
        assert beside.worker.verdict_of(make_job("a")).evaluation is Evaluation.OK
        wait_until(lambda: huge.problem)
    assert "MiB of memory" in report_of(beside.lines, {}).problem
    assert beside.host.starts == 0


def test_a_long_file_makes_room_and_a_torn_line_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_file, "MOST_BYTES", 30)
    path = tmp_path / "shadow.jsonl"
    for count in (1, 2, 3, 4, 5):
        append_line(path, ShadowDropped(count))
    with path.open("ab") as file:
        file.write(b'{"type":"dropped","cou')
    assert list(read_lines(path)) == [ShadowDropped(3), ShadowDropped(4), ShadowDropped(5)]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["shadow.jsonl", "shadow.jsonl.old"]
