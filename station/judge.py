"""From what the model said to what the station says. Pure; the only file that may say OK.

Rules, in this order; OK is the last branch, never the default:
1. Capture could not prepare the picture: unreadable or of the wrong size is UNDEFINED, part not found is NOT_DECIDABLE.
2. No answer (late, engine lost, no model, another recipe): UNDEFINED.
3. A region was not answered: UNDEFINED.
4. A whole row, column or region of pins is NOT_OK: NOT_DECIDABLE, that is no defect but a part that stands wrong.
5. A region is NOT_OK: NOT_OK.
6. A region was answered outside the form: UNDEFINED. A region is NOT_DECIDABLE: that.
7. A region's count is not the expected one: NOT_OK.
8. The measurement objects to a pin that the model passed (recipe, `measurement.veto`): NOT_DECIDABLE.
9. OK is barred (no valid certificate, a challenge that failed): NOT_DECIDABLE.
10. OK.
"""

from collections.abc import Sequence

from station.measurement import objection
from station.recipe import Recipe, Thresholds
from station.records import Evaluation, Failure, Job, Reason, Record, RegionReport, ResultState

LEAST_LINE = 4
"""Shorter rows and columns may well be bad as a whole."""
_UNDECIDABLE = (
    Reason.PART_NOT_FOUND,
    Reason.BAD_REGISTRATION,
    Reason.REGION_OUTSIDE_PICTURE,
    Reason.PICTURE_UNUSABLE,
)


class Judgement(Record):
    """What is said of a part, and why."""

    evaluation: Evaluation
    result_state: ResultState
    reason: Reason
    detail: str


def judge(
    recipe: Recipe,
    job: Job,
    regions: Sequence[RegionReport] | None,
    trouble: Failure | None,
    barred: Failure | None,
) -> Judgement:
    """Return the judgement of one part.

    `regions` None: nothing was answered, `trouble` says why. `barred`: why the station may not say OK now, of any part;
    None only where that was looked into, or where the station itself is measured (evaluate, calibrate).
    """
    if job.failure is not None:
        return _failed(job.failure)
    if trouble is not None:
        return _failed(trouble)
    expected = [region.region_id for region in recipe.file.regions]
    if regions is None or [report.region_id for report in regions] != expected:
        return _undefined(
            Reason.WRONG_ANSWER_FORM, "Not every region of the recipe was answered: see the worker's log."
        )
    return _implausible(recipe, regions) or _of_regions(recipe, regions, barred)


def _implausible(recipe: Recipe, regions: Sequence[RegionReport]) -> Judgement | None:
    """Return the judgement of a part whose defects look like another product or a part that was not found rightly."""
    for region, report in zip(recipe.file.regions, regions, strict=True):
        bad = {pin.pin_id for pin in report.pins if pin.evaluation is Evaluation.NOT_OK}
        if len(bad) < LEAST_LINE:
            continue
        full = next((line for line in region.lines if len(line) >= LEAST_LINE and line <= bad), None)
        if full:
            line = ", ".join(pin.pin_id for pin in region.pins if pin.pin_id in full)
            detail = (
                f"region {region.region_id}: all of {line} are {report.defect_mode} at once. Is it this product, and do"
                " the marks of the annotated picture sit on its pins?"
            )
            return _completed(Evaluation.NOT_DECIDABLE, Reason.IMPLAUSIBLE_PATTERN, detail)
    return None


def _of_regions(recipe: Recipe, regions: Sequence[RegionReport], barred: Failure | None) -> Judgement:
    for evaluation in (Evaluation.NOT_OK, Evaluation.UNDEFINED, Evaluation.NOT_DECIDABLE):
        for report in regions:
            if report.evaluation is evaluation is Evaluation.UNDEFINED:
                return _undefined(report.reason, _detail(report))
            if report.evaluation is evaluation:
                return _completed(evaluation, report.reason, _detail(report))
    for report in regions:
        if report.pins_counted != report.pins_expected:
            return _completed(Evaluation.NOT_OK, Reason.WRONG_COUNT, _detail(report))
    if objected := objection(recipe.file.measurement, regions):
        detail = f"The model passes what the measurement does not: {objected}. Let a person look at the part."
        return _completed(Evaluation.NOT_DECIDABLE, Reason.MEASUREMENT_DISAGREES, detail)
    if barred is not None:
        return _completed(Evaluation.NOT_DECIDABLE, barred.reason, barred.detail)
    if all(report.evaluation is Evaluation.OK for report in regions):
        return _completed(Evaluation.OK, Reason.NONE, "")
    return _undefined(Reason.WRONG_ANSWER_FORM, "A region has an evaluation that no rule knows.")


def evaluate_probability(p_defect: float, mass: float, limits: Thresholds) -> tuple[Evaluation, Reason]:
    """Return what one pin's or region's probability means. Not a number is NOT_DECIDABLE."""
    if not mass >= limits.min_mass:
        return Evaluation.NOT_DECIDABLE, Reason.MODEL_UNSURE
    if p_defect >= limits.not_ok_min_p_defect:
        return Evaluation.NOT_OK, Reason.DEFECT_FOUND
    if p_defect <= limits.ok_max_p_defect:
        return Evaluation.OK, Reason.NONE
    return Evaluation.NOT_DECIDABLE, Reason.MODEL_UNSURE


def _failed(failure: Failure) -> Judgement:
    if failure.reason in _UNDECIDABLE:
        return _completed(Evaluation.NOT_DECIDABLE, failure.reason, failure.detail)
    return _undefined(failure.reason, failure.detail)


def _undefined(reason: Reason, detail: str) -> Judgement:
    return Judgement(evaluation=Evaluation.UNDEFINED, result_state=ResultState.FAILED, reason=reason, detail=detail)


def _completed(evaluation: Evaluation, reason: Reason, detail: str) -> Judgement:
    return Judgement(evaluation=evaluation, result_state=ResultState.COMPLETED, reason=reason, detail=detail)


def _detail(report: RegionReport) -> str:
    where = f"region {report.region_id}"
    if report.reason is Reason.DEFECT_FOUND:
        pins = f"{report.pins_counted} of {report.pins_expected} pins"
        return f"{where}: {report.defect_mode} at {report.defect_position}, {pins}"
    if report.evaluation is Evaluation.OK or report.reason is Reason.WRONG_COUNT:
        return f"{where}: {report.pins_counted} pins counted, {report.pins_expected} expected"
    return f"{where}: {report.reason.name.lower().replace('_', ' ')}; look at the part and at the annotated picture"
