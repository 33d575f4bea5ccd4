"""`station inspect IMAGE...`: judge pictures once, without the services: no hot folder, queue, journal or PLC.

In: Settings and picture files, which stay where they are. Out: one Verdict a picture, in order, and an annotated copy
in a folder. The way is the same as on the line: gate, registration, crop, engine in a child process, judge. Only the
deadline is left out: here a person waits. Raises EngineError when the model does not load.
"""

import select
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from station.capture.gate import CaptureLimits
from station.capture.job_id import new_job_id
from station.capture.prepare import Preparer, prepare_job
from station.certificate_file import Certified
from station.engine.base import Answer, Query
from station.errors import EngineError, OutputError
from station.judge import judge
from station.measurement import with_measures
from station.outputs.annotation import annotate
from station.recipe import Recipe
from station.recipe_file import load_recipe
from station.records import Failure, Job, Reason, RegionReport, Timing, Verdict
from station.settings import Settings
from station.shift_vote import VotingInspection
from station.wiring import engine_spec, make_inspection
from station.worker.engine_host import EngineHost, EngineState, Outcome

ANNOTATED_NAME = "annotated.jpg"
_LOOK_EVERY_S = 0.1


class Picture(Protocol):
    """A drawn picture that can be written to a file."""

    def save(self, path: Path, /) -> None:
        """Write it in the form that the file's ending names. Raises OSError."""


def inspect(settings: Settings, pictures: Sequence[Path], out: Path) -> Iterator[Verdict]:
    """Yield the verdict of each picture, and put its annotated copy below `out`. Raises StationError."""
    recipe = load_recipe(settings.recipe)
    preparer = Preparer(recipe, limits_of(settings))
    inspection = make_inspection(recipe)
    certified = Certified(recipe, inspection.question)
    engine = OneShotEngine(settings, inspection)
    try:
        engine.start()
        barred = certified.bar(engine.host.model, is_simulated=engine.host.is_simulated)
        for number, picture in enumerate(pictures, start=1):
            job = prepare_job(picture, new_job_id(datetime.now(UTC)), preparer)
            verdict = verdict_of(settings, recipe, engine, job, number, barred)
            _write(annotate(verdict, job, recipe), out / f"{number:03}-{picture.stem}.{ANNOTATED_NAME}")
            yield verdict
    finally:
        engine.close()


def limits_of(settings: Settings) -> CaptureLimits:
    """Return the largest file and picture that are looked at."""
    capture = settings.capture
    return CaptureLimits(capture.max_file_mib * 1024 * 1024, capture.max_megapixels * 1_000_000)


def _write(annotated: Picture, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        annotated.save(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}.", "Choose another folder with --out."
        ) from error


class OneShotEngine:
    """The engine's process, asked about one job at a time and waited for."""

    def __init__(self, settings: Settings, inspection: VotingInspection) -> None:
        self._inspection = inspection
        self.host = EngineHost(engine_spec(settings), settings.engine.kill_ms)

    def start(self) -> None:
        """Load the model. Raises EngineError with the reason if that fails."""
        self.host.start(self._inspection.question, time.monotonic_ns())
        while self.host.state is not EngineState.READY:
            if self.host.state is EngineState.DEAD:
                raise EngineError(self.host.reason)
            self._turn()

    def ask(self, job: Job) -> tuple[tuple[RegionReport, ...] | None, Failure | None, float]:
        """Return what was found in the job's regions, or why nothing was, and how long it took in ms."""
        answers, ms = self.answers(job, self._inspection.queries(job))
        if not isinstance(answers, Failure) and (doubts := self._inspection.doubts(job, answers)):
            votes, more_ms = self.answers(job, doubts)
            ms += more_ms
            answers = votes if isinstance(votes, Failure) else self._inspection.settled(answers, votes)
        if isinstance(answers, Failure):
            return None, answers, ms
        return with_measures(self._inspection.regions(answers, ms), job, self._inspection.recipe.measurement), None, ms

    def answers(self, job: Job, queries: tuple[Query, ...]) -> tuple[tuple[Answer, ...] | Failure, float]:
        """Return the answers, or why there are none, and how long they took in ms."""
        self.host.submit(job.job_id, queries, time.monotonic_ns())
        while not (outcomes := self._turn()):
            pass
        outcome = outcomes[0]
        if outcome.answers is None:
            return Failure(reason=Reason.ENGINE_FAILED, detail=outcome.detail), outcome.ms
        return outcome.answers, outcome.ms

    def close(self) -> None:
        """End the process."""
        self.host.close()

    def _turn(self) -> list[Outcome]:
        watched = self.host.watched()
        if watched is None:
            time.sleep(_LOOK_EVERY_S)
        else:
            descriptor, wants_write = watched
            select.select([descriptor], [descriptor] if wants_write else [], [], _LOOK_EVERY_S)
        return self.host.poll(time.monotonic_ns())


def verdict_of(
    settings: Settings, recipe: Recipe, engine: OneShotEngine, job: Job, number: int, barred: Failure | None
) -> Verdict:
    """Ask the engine about the job and return its verdict, number `number` of this run; `barred` as for `judge`."""
    regions, trouble, ms = (None, None, 0.0) if job.failure else engine.ask(job)
    judgement = judge(recipe, job, regions, trouble, barred)
    return Verdict(
        station=settings.station.name,
        epoch=0,  # not of a worker: this verdict is in no journal
        seq=number,
        job_id=job.job_id,
        part_id=job.part_id,
        image=job.image,
        recipe=job.recipe,
        evaluation=judgement.evaluation,
        result_state=judgement.result_state,
        reason=judgement.reason,
        detail=judgement.detail,
        is_simulated=engine.host.is_simulated,
        registration=job.registration,
        regions=regions or (),
        model=engine.host.model,
        recipe_sha256=recipe.sha256,
        config_sha256=settings.config_sha256,
        ms=Timing(capture=job.capture_ms, queue=0, inference=ms, total=job.capture_ms + ms),
        created_utc=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
