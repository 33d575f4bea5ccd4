"""One recipe's questions, and what the answers mean. Pure.

Asked by `pins`, a region's count is the sum of the pins present, its position the ids of the bad pins, and the
five-line report is put together from that; asked by `report`, the model says all of it itself.
"""

from collections.abc import Mapping, Sequence

from station import composite, report
from station.engine.base import Answer, Picture, Query, Question
from station.judge import evaluate_probability
from station.recipe import Recipe, Region
from station.records import Evaluation, Job, PinReport, Reason, RegionCrop, RegionReport

MISSING = "missing"
"""The mode that means: this pin is not there. It lowers the count."""
_WORST_FIRST = (Evaluation.NOT_OK, Evaluation.UNDEFINED, Evaluation.NOT_DECIDABLE, Evaluation.OK)


class Inspection:
    """Questions and answers of one recipe. `golden_crops`: the golden picture's crop of each region."""

    def __init__(self, recipe: Recipe, golden_crops: Mapping[str, RegionCrop]) -> None:
        self.recipe = recipe.file
        self.by_pins = recipe.file.ask == "pins"
        self.golden = {name: self._shown(crop) for name, crop in golden_crops.items()}
        self.question = self._pin_question() if self.by_pins else self._report_question()

    def _pin_question(self) -> Question:
        ask = self.recipe.pins
        return Question(
            instruction=ask.instruction,
            images=1,
            slots=report.pin_slots(self.recipe.defect_modes),
            width_px=3 * ask.tile_model_px,
            height_px=ask.tile_model_px,
            queries=sum(len(region.pins) for region in self.recipe.regions),
        )

    def _report_question(self) -> Question:
        ask = self.recipe.report
        ids = sorted({pin.pin_id for region in self.recipe.regions for pin in region.pins})
        return Question(
            instruction=ask.instruction,
            images=ask.images,
            slots=report.report_slots(self.recipe.defect_modes, ids),
            width_px=ask.width_model_px,
            height_px=ask.height_model_px,
            queries=len(self.recipe.regions),
        )

    def queries(self, job: Job) -> tuple[Query, ...]:
        """Return what is asked about this job: one query per pin, or one per region."""
        crops = {crop.region_id: self._shown(crop) for crop in job.crops}
        return tuple(
            query for region in self.recipe.regions for query in self._ask_region(region, crops[region.region_id])
        )

    def _shown(self, crop: RegionCrop) -> composite.Pixels:
        """Return the crop's pixels as bright as the model is shown them."""
        return composite.lit(composite.pixels_of(crop), self.recipe.white_level)

    def _ask_region(self, region: Region, test: composite.Pixels) -> list[Query]:
        golden = self.golden[region.region_id]
        if self.by_pins:
            ask = self.recipe.pins
            return [
                Query(
                    query_id=_pin_query_id(region, pin.pin_id),
                    pictures=(composite.pin_picture(region, pin, golden, test, ask.tile_px, ask.tile_model_px),),
                    expected=(report.PASSED, report.NONE),
                )
                for pin in region.pins
            ]
        size = self.recipe.report.width_model_px, self.recipe.report.height_model_px
        shown = (golden, test) if self.recipe.report.images == 2 else (test,)
        pictures: tuple[Picture, ...] = tuple(composite.region_picture(crop, *size) for crop in shown)
        expected = (str(len(region.pins)), report.PASSED, report.NONE, report.NONE)
        return [Query(query_id=region.region_id, pictures=pictures, expected=expected)]

    def regions(self, answers: Sequence[Answer], ms: float) -> tuple[RegionReport, ...]:
        """Return one report per region; a region without its answers is left out (and then judged UNDEFINED)."""
        by_id = {answer.query_id: answer for answer in answers}
        read = self._read_pins if self.by_pins else self._read_report
        found = (read(region, by_id, ms) for region in self.recipe.regions)
        return tuple(region for region in found if region is not None)

    def _read_pins(self, region: Region, answers: Mapping[str, Answer], ms: float) -> RegionReport | None:
        said = [answers.get(_pin_query_id(region, pin.pin_id)) for pin in region.pins]
        pins, reasons = [], []
        for pin, answer in zip(region.pins, said, strict=True):
            if answer is None:
                return None
            pin_report, reason = self._read_pin(pin.pin_id, answer)
            pins.append(pin_report)
            reasons.append(reason)
        worst = min(range(len(pins)), key=lambda k: (_WORST_FIRST.index(pins[k].evaluation), -pins[k].p_defect))
        bad = [pin for pin in pins if pin.evaluation is Evaluation.NOT_OK]
        counted = sum(not (pin.evaluation is Evaluation.NOT_OK and pin.defect_mode == MISSING) for pin in pins)
        mode = pins[worst].defect_mode if bad else report.NONE
        position = ";".join(pin.pin_id for pin in bad) or report.NONE
        evaluation = pins[worst].evaluation
        judgement = {Evaluation.OK: report.PASSED, Evaluation.NOT_OK: report.DEFECTIVE}
        lines = report.ReportAnswer(
            pins_counted=counted,
            judgement=judgement.get(evaluation, report.UNDECIDABLE),
            mode=mode,
            position=position,
        )
        return RegionReport(
            region_id=region.region_id,
            evaluation=evaluation,
            reason=reasons[worst],
            p_defect=max(pin.p_defect for pin in pins),
            pins_counted=counted,
            pins_expected=len(region.pins),
            defect_mode=mode,
            defect_position=position,
            report=report.report_text(lines),
            ms=ms,
            pins=tuple(pins),
        )

    def _read_pin(self, pin_id: str, answer: Answer) -> tuple[PinReport, Reason]:
        parsed = report.parse_pin(answer.text, self.recipe.defect_modes)
        evaluation, reason, p_defect = self._evaluate(answer, slot=0)
        mode = answer.choices[1].chosen
        if evaluation is Evaluation.NOT_OK and mode == report.NONE:
            mode = self._likeliest_mode(answer.choices[1].probabilities)
        elif evaluation is not Evaluation.NOT_OK:
            mode = report.NONE
        if evaluation is not Evaluation.NOT_OK and parsed is None:
            evaluation, reason = Evaluation.UNDEFINED, Reason.WRONG_ANSWER_FORM
        return PinReport(pin_id=pin_id, evaluation=evaluation, p_defect=p_defect, defect_mode=mode), reason

    def evaluated(self, answer: Answer) -> Evaluation:
        """Return what the answer about one pin means, by itself."""
        return self._read_pin("", answer)[0].evaluation

    def _evaluate(self, answer: Answer, slot: int) -> tuple[Evaluation, Reason, float]:
        """Return evaluation, reason and p_defect of the judgement at `slot`."""
        choice = answer.choices[slot]
        passed, defective, undecidable = choice.probabilities
        if choice.chosen == report.UNDECIDABLE or undecidable > max(passed, defective):
            return Evaluation.NOT_DECIDABLE, Reason.MODEL_SAYS_UNDECIDABLE, _share(defective, passed)
        p_defect = _share(defective + undecidable, passed)
        evaluation, reason = evaluate_probability(p_defect, choice.mass, self.recipe.thresholds)
        return evaluation, reason, p_defect

    def _likeliest_mode(self, probabilities: Sequence[float]) -> str:
        """The best mode apart from "none"."""
        best = max(range(1, len(probabilities)), key=lambda k: probabilities[k])
        return self.recipe.defect_modes[best - 1]

    def _read_report(self, region: Region, answers: Mapping[str, Answer], ms: float) -> RegionReport | None:
        answer = answers.get(region.region_id)
        if answer is None:
            return None
        evaluation, reason, p_defect = self._evaluate(answer, slot=1)
        ids = [pin.pin_id for pin in region.pins]
        parsed = report.parse_report(answer.text, self.recipe.defect_modes, ids)
        counted = int(answer.choices[0].chosen)
        if parsed is None and evaluation is not Evaluation.NOT_OK:
            evaluation, reason = Evaluation.UNDEFINED, Reason.WRONG_ANSWER_FORM
        if evaluation is Evaluation.OK and counted != len(ids):
            evaluation, reason = Evaluation.NOT_DECIDABLE, Reason.COUNTS_DISAGREE
        return RegionReport(
            region_id=region.region_id,
            evaluation=evaluation,
            reason=reason,
            p_defect=p_defect,
            pins_counted=counted,
            pins_expected=len(ids),
            defect_mode=answer.choices[2].chosen,
            defect_position=answer.choices[3].chosen,
            report=answer.text,
            ms=ms,
        )


def _share(defective: float, passed: float) -> float:
    """Return p(defect) among the two, 0..1; 1 when the model gives neither any probability."""
    total = defective + passed
    return defective / total if total > 0 else 1.0


def _pin_query_id(region: Region, pin_id: str) -> str:
    return f"{region.region_id}/{pin_id}"
