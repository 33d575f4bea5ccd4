"""What was measured at the pins, beside what the model says of them: evidence, and on request an objection. Pure."""

import math
from collections.abc import Sequence

import msgspec

from station.recipe import Measurement
from station.records import Evaluation, Job, PinMeasure, RegionReport


def with_measures(regions: Sequence[RegionReport], job: Job) -> tuple[RegionReport, ...]:
    """Return the reports with each pin's measurement in it."""
    measured = {crop.region_id: crop.measured for crop in job.crops}
    return tuple(_with_measures(region, measured.get(region.region_id, ())) for region in regions)


def _with_measures(region: RegionReport, measured: Sequence[PinMeasure]) -> RegionReport:
    if len(measured) != len(region.pins):
        return region
    pins = (msgspec.structs.replace(pin, measured=one) for pin, one in zip(region.pins, measured, strict=True))
    return msgspec.structs.replace(region, pins=tuple(pins))


def objection(limits: Measurement, regions: Sequence[RegionReport]) -> str:
    """Return in words what the measurement has against pins that the model passed; empty: nothing, or no veto."""
    if not limits.veto:
        return ""
    problems = [
        f"pin {pin.pin_id} {problem}"
        for region in regions
        for pin in region.pins
        if pin.evaluation is Evaluation.OK and pin.measured and (problem := _problem(pin.measured, limits))
    ]
    return "; ".join(problems)


def _problem(pin: PinMeasure, limits: Measurement) -> str:
    if not pin.presence >= limits.min_presence:
        return f"is like the golden one by {pin.presence:.2f} only, {limits.min_presence} is the least"
    offset_px = math.hypot(pin.offset_x_px, pin.offset_y_px)
    if not offset_px <= limits.max_offset_px:
        return f"stands {offset_px:.1f} px off, {limits.max_offset_px:g} is allowed"
    return ""
