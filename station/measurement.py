"""What was measured at the pins beside what the model says: evidence, and on request a word of its own. Pure."""

import math
from collections.abc import Sequence

import msgspec

from station import report
from station.recipe import Measurement
from station.records import Evaluation, Job, PinMeasure, Reason, RegionReport

MISSING = "missing"
"""The mode of a pin that is not there."""


def with_measures(regions: Sequence[RegionReport], job: Job, limits: Measurement) -> tuple[RegionReport, ...]:
    """Return the reports with each pin's measurement in it, and with what `limits.missing` makes of it."""
    measured = {crop.region_id: crop.measured for crop in job.crops}
    reports = (_with_measures(region, measured.get(region.region_id, ())) for region in regions)
    return tuple(_with_missing(one, limits) if limits.missing else one for one in reports)


def _with_missing(region: RegionReport, limits: Measurement) -> RegionReport:
    """Return the report in which a pin that the model cannot decide about and nothing is found of is missing."""
    gone = [
        pin.pin_id
        for pin in region.pins
        if pin.evaluation is Evaluation.NOT_DECIDABLE and pin.measured and not _is_there(pin.measured, limits)
    ]
    if not gone or region.pins_counted is None:
        return region
    pins = tuple(
        msgspec.structs.replace(pin, evaluation=Evaluation.NOT_OK, defect_mode=MISSING) if pin.pin_id in gone else pin
        for pin in region.pins
    )
    counted = region.pins_counted - len(gone)
    mode = region.defect_mode if region.evaluation is Evaluation.NOT_OK else MISSING
    position = ";".join(pin.pin_id for pin in pins if pin.evaluation is Evaluation.NOT_OK)
    lines = report.ReportAnswer(pins_counted=counted, judgement=report.DEFECTIVE, mode=mode, position=position)
    return msgspec.structs.replace(
        region, evaluation=Evaluation.NOT_OK, reason=Reason.DEFECT_FOUND, pins_counted=counted, defect_mode=mode,
        defect_position=position, report=report.report_text(lines), pins=pins,
    )  # fmt: skip


def _is_there(measured: PinMeasure, limits: Measurement) -> bool:
    return measured.presence >= limits.min_presence


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
    if not _is_there(pin, limits):
        return f"is like the golden one by {pin.presence:.2f} only, {limits.min_presence} is the least"
    offset_px = math.hypot(pin.offset_x_px, pin.offset_y_px)
    if not offset_px <= limits.max_offset_px:
        return f"stands {offset_px:.1f} px off, {limits.max_offset_px:g} is allowed"
    return ""
