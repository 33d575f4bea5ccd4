"""Made-up verdicts and jobs for tests of what comes after judging."""

from typing import Any

import msgspec
import numpy as np

from station.records import (
    Evaluation,
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
from tests.pictures import PINS, REGION, draw_part

IMAGE = ImageRef(name="part-0001.jpg", sha256="1f" * 32, size_bytes=1000)
RECIPE_SHA256 = "abcd" + "00" * 30

_REASONS = {
    Evaluation.OK: Reason.NONE,
    Evaluation.NOT_OK: Reason.DEFECT_FOUND,
    Evaluation.NOT_DECIDABLE: Reason.MODEL_UNSURE,
    Evaluation.UNDEFINED: Reason.DEADLINE_PASSED,
}


def make_region(*, ng: tuple[str, ...] = (), unsure: tuple[str, ...] = (), **changes: Any) -> RegionReport:
    """Return the report on the region of the test recipe, asked by pins; `ng` and `unsure` are pin ids."""
    pins = tuple(_pin(pin_id, ng, unsure) for pin_id in PINS)
    worst = Evaluation.NOT_OK if ng else Evaluation.NOT_DECIDABLE if unsure else Evaluation.OK
    region = RegionReport(
        region_id="pins",
        evaluation=worst,
        reason=_REASONS[worst],
        p_defect=max(pin.p_defect for pin in pins),
        pins_counted=len(PINS),
        pins_expected=len(PINS),
        defect_mode="bent" if ng else "none",
        defect_position=";".join(ng) or "none",
        report="- image type->pins, top view",
        ms=12.5,
        pins=pins,
    )
    return msgspec.structs.replace(region, **changes)


def make_verdict(seq: int = 1, evaluation: Evaluation = Evaluation.OK, **changes: Any) -> Verdict:
    """Return a verdict that fits `evaluation`, number `seq` of epoch 1; keywords replace any field."""
    is_undefined = evaluation is Evaluation.UNDEFINED
    verdict = Verdict(
        station="station-1",
        epoch=1,
        seq=seq,
        job_id=f"20261103T101112{seq % 1000:03d}-0000abcd",
        part_id=None,
        image=IMAGE,
        recipe="test-pins-8",
        evaluation=evaluation,
        result_state=ResultState.FAILED if is_undefined else ResultState.COMPLETED,
        reason=_REASONS[evaluation],
        detail="" if evaluation is Evaluation.OK else "Look at the pins marked in the picture.",
        is_simulated=False,
        registration=None,
        regions=() if is_undefined else (_region_for(evaluation),),
        model=ModelRef(name="pins-tiny", sha256="deadbeef" + "00" * 28),
        recipe_sha256=RECIPE_SHA256,
        config_sha256="0badcafe" + "00" * 28,
        ms=Timing(capture=20.0, queue=1.0, inference=30.0, total=60.4),
        created_utc="2026-11-03T10:11:12.345+00:00",
    )
    return msgspec.structs.replace(verdict, **changes)


def make_job(verdict: Verdict, **picture: Any) -> Job:
    """Return the job of `verdict` with the crop of a drawn part; keywords go to `draw_part`."""
    x, y, width, height = REGION
    crop = draw_part(**picture)[y : y + height, x : x + width, ::-1]
    pixels = np.ascontiguousarray(crop).tobytes()
    return Job(
        job_id=verdict.job_id,
        part_id=verdict.part_id,
        image=verdict.image,
        recipe=verdict.recipe,
        recipe_sha256=verdict.recipe_sha256,
        registration=None,
        crops=(RegionCrop(region_id="pins", width_px=width, height_px=height, pixels_rgb=pixels),),
        failure=None,
        captured_utc="2026-11-03T10:11:12.300+00:00",
        capture_ms=20.0,
    )


def _region_for(evaluation: Evaluation) -> RegionReport:
    if evaluation is Evaluation.NOT_OK:
        return make_region(ng=("A2",))
    if evaluation is Evaluation.NOT_DECIDABLE:
        return make_region(unsure=("B3",))
    return make_region()


def _pin(pin_id: str, ng: tuple[str, ...], unsure: tuple[str, ...]) -> PinReport:
    if pin_id in ng:
        return PinReport(pin_id=pin_id, evaluation=Evaluation.NOT_OK, p_defect=0.98, defect_mode="bent")
    if pin_id in unsure:
        return PinReport(pin_id=pin_id, evaluation=Evaluation.NOT_DECIDABLE, p_defect=0.5, defect_mode="none")
    return PinReport(pin_id=pin_id, evaluation=Evaluation.OK, p_defect=0.01, defect_mode="none")
