"""Small jobs, verdicts and stand-ins for tests of the worker. No files, no sockets."""

from pathlib import Path

from station.engine.base import Answer, Picture, Query, Question, Slot
from station.guards import Probe, Wanted
from station.judge import Judgement
from station.messages import Identity
from station.recipe import Box, Pin, PinsAsk, Recipe, RecipeFile, Region, RegistrationLimits, ReportAsk, Thresholds
from station.records import (
    Evaluation,
    Failure,
    ImageRef,
    Job,
    ModelRef,
    PinReport,
    Reason,
    RegionCrop,
    RegionReport,
    ResultState,
    Timing,
    Verdict,
)

RECIPE_SHA256 = "ab" * 32
IDENTITY = Identity(station="test", config_sha256="12" * 32)
QUESTION = Question(
    instruction="Is it good?",
    images=1,
    slots=(
        Slot(before="judgement->", choices=("passed", "defective")),
        Slot(before="\nmode->", choices=("none", "bent")),
    ),
    width_px=16,
    height_px=16,
    queries=1,
)


def make_recipe(deadline_ms: int = 10_000) -> Recipe:
    """Return a recipe of one region with one pin; its pictures do not exist."""
    box = Box(x=0, y=0, width=16, height=16)
    file = RecipeFile(
        recipe="small",
        product="one pin",
        golden="golden.png",
        golden_sha256="0" * 64,
        registration=RegistrationLimits(
            part=box,
            fiducials=(box, box, box),
            max_rotation_deg=5,
            max_scale_change=0.05,
            max_residual_px=2,
            min_score=0.5,
        ),
        regions=(Region(region_id="field", box=box, pins=(Pin(pin_id="A1", x=8, y=8),)),),
        defect_modes=("bent",),
        ask="pins",
        pins=PinsAsk(instruction="?", tile_px=16, tile_model_px=16),
        report=ReportAsk(instruction="?", images=1, width_model_px=16, height_model_px=16),
        thresholds=Thresholds(ok_max_p_defect=0.1, not_ok_min_p_defect=0.9, min_mass=0.9),
        deadline_ms=deadline_ms,
    )
    return Recipe(file=file, sha256=RECIPE_SHA256, golden_path=Path("golden.png"))


def make_job(
    job_id: str, *, failure: Failure | None = None, recipe_sha256: str = RECIPE_SHA256, side_px: int = 16
) -> Job:
    """Return a job with one grey crop of `side_px` squared, or without crops if it has a failure."""
    crop = RegionCrop(region_id="field", width_px=side_px, height_px=side_px, pixels_rgb=bytes(side_px * side_px * 3))
    return Job(
        job_id=job_id,
        part_id=None,
        image=ImageRef(name=f"{job_id}.png", sha256="cd" * 32, size_bytes=1000),
        recipe="small",
        recipe_sha256=recipe_sha256,
        registration=None,
        crops=() if failure else (crop,),
        failure=failure,
        captured_utc="2026-01-02T03:04:05.678+00:00",
        capture_ms=12.5,
    )


def make_verdict(job_id: str, evaluation: Evaluation = Evaluation.OK, pins: int = 1) -> Verdict:
    """Return a verdict that the journal has not numbered yet."""
    reports = tuple(
        PinReport(pin_id=f"A{n}", evaluation=Evaluation.OK, p_defect=0.01, defect_mode="none") for n in range(pins)
    )
    region = RegionReport(
        region_id="field",
        evaluation=evaluation,
        reason=Reason.NONE if evaluation is Evaluation.OK else Reason.DEFECT_FOUND,
        p_defect=0.01,
        pins_counted=pins,
        pins_expected=pins,
        defect_mode="none",
        defect_position="none",
        report="- your judgement->passed",
        ms=80.5,
        pins=reports,
    )
    return Verdict(
        station="test",
        epoch=0,
        seq=0,
        job_id=job_id,
        part_id=f"part-{job_id}",
        image=ImageRef(name=f"{job_id}.png", sha256="cd" * 32, size_bytes=1000),
        recipe="small",
        evaluation=evaluation,
        result_state=ResultState.COMPLETED,
        reason=region.reason,
        detail="",
        is_simulated=True,
        registration=None,
        regions=(region,),
        model=ModelRef(name="scripted", sha256="ef" * 32),
        recipe_sha256=RECIPE_SHA256,
        config_sha256="12" * 32,
        ms=Timing(capture=1.0, queue=2.0, inference=3.0, total=6.0),
        created_utc="2026-01-02T03:04:06.000+00:00",
    )


class FakeInspection:
    """Asks one query a job, named by its job id. Leaves out: pictures with anything on them."""

    question = QUESTION

    def queries(self, job: Job) -> tuple[Query, ...]:
        """Return the first crop as it is."""
        crop = job.crops[0]
        picture = Picture(width_px=crop.width_px, height_px=crop.height_px, pixels_rgb=crop.pixels_rgb)
        return (Query(query_id=job.job_id, pictures=(picture,)),)

    def regions(self, answers: tuple[Answer, ...], ms: float) -> tuple[RegionReport, ...]:
        """Return one region, OK if the answer is "passed"."""
        passed = answers[0].choices[0].chosen == "passed"
        return (
            RegionReport(
                region_id="field",
                evaluation=Evaluation.OK if passed else Evaluation.NOT_OK,
                reason=Reason.NONE if passed else Reason.DEFECT_FOUND,
                p_defect=0.0 if passed else 1.0,
                pins_counted=1,
                pins_expected=1,
                defect_mode=answers[0].choices[1].chosen,
                defect_position="none" if passed else "A1",
                report=answers[0].text,
                ms=ms,
            ),
        )

    def doubts(self, job: Job, answers: tuple[Answer, ...]) -> tuple[Query, ...]:  # noqa: ARG002
        """Return nothing: every answer is clear."""
        return ()

    def settled(self, answers: tuple[Answer, ...], votes: tuple[Answer, ...]) -> tuple[Answer, ...]:  # noqa: ARG002
        """Return the first answers."""
        return answers


def make_probe(recipe: Recipe, name: str = "golden", wanted: Wanted = Wanted.OK) -> Probe:
    """Return a probe that the scripted engine answers as `field` or "probe NAME"."""
    job, inspection = make_job(f"probe {name}"), FakeInspection()
    return Probe(
        guard="G5", name=name, catches="it does not look", wanted=wanted, inspection=inspection,  # type: ignore[arg-type]
        recipe=recipe, job=job, queries=inspection.queries(job),
    )  # fmt: skip


def fake_judge(
    recipe: Recipe,  # noqa: ARG001 - the form of the real one
    job: Job,
    regions: tuple[RegionReport, ...] | None,
    trouble: Failure | None,
) -> Judgement:
    """Judge by the first region. Leaves out: thresholds, counts, more than one region."""
    failure = job.failure or trouble
    if failure or not regions:
        failure = failure or Failure(reason=Reason.ENGINE_FAILED, detail="no regions")
        return Judgement(
            evaluation=Evaluation.UNDEFINED,
            result_state=ResultState.FAILED,
            reason=failure.reason,
            detail=failure.detail,
        )
    worst = regions[0]
    return Judgement(
        evaluation=worst.evaluation, result_state=ResultState.COMPLETED, reason=worst.reason, detail=worst.report
    )
