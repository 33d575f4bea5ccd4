"""The vote of shifted tiles: a pin that is OK by little is asked about again, cut out a few pixels aside.

A vision tower sees patches of 16 px; where their borders fall moves its answer, which says nothing about the pin. So
pins near the OK limit are asked about at two more places of that grid. If one of the three is beyond the limit, or they
differ by 1 log odds or more, the answer becomes "undecidable". Its probabilities stay those of the first tile,
so scores and limits mean what they did; the vote can only take an OK away. Pure.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec

from station import report
from station.engine.base import Answer, Choice, Query
from station.inspection import Inspection
from station.recipe import Recipe, Region
from station.records import Evaluation, Job, RegionCrop

SHIFTS_MODEL_PX = (1, -1)
"""Right and down, in pixels that the model sees: as much as the registration may be off. By more a pin looks bent."""
NEAR_LOG_ODDS = 1.0
"""So near below the OK limit a pin is asked about again: a spread that is allowed cannot bring others over it."""
MOST_SPREAD_LOG_ODDS = 1.0


class VotingInspection(Inspection):
    """An inspection that asks again about pins that are OK by little. Asked by report it does not."""

    def __init__(self, recipe: Recipe, golden_crops: Mapping[str, RegionCrop]) -> None:
        super().__init__(recipe, golden_crops)
        self._shifted = [Inspection(_shifted(recipe, shift), golden_crops) for shift in SHIFTS_MODEL_PX]
        self._limit = _log_odds(recipe.file.thresholds.ok_max_p_defect, 1 - recipe.file.thresholds.ok_max_p_defect)

    def doubts(self, job: Job, answers: Sequence[Answer]) -> tuple[Query, ...]:
        """Return what is to be asked once more; nothing where all is clear or the part is not OK anyway."""
        if not self.by_pins or any(region.evaluation is not Evaluation.OK for region in self.regions(answers, 0.0)):
            return ()
        near = {answer.query_id for answer in answers if _margin(answer) > self._limit - NEAR_LOG_ODDS}
        if not near:
            return ()
        return tuple(
            msgspec.structs.replace(query, query_id=_vote_id(query.query_id, number))
            for number, inspection in enumerate(self._shifted)
            for query in inspection.queries(job)
            if query.query_id in near
        )

    def settled(self, answers: Sequence[Answer], votes: Sequence[Answer]) -> tuple[Answer, ...]:
        """Return the answers; those that the votes are against say "undecidable"."""
        by_id = {vote.query_id: vote for vote in votes}
        asked = range(len(SHIFTS_MODEL_PX))
        return tuple(
            self._settled(answer, [by_id[name] for n in asked if (name := _vote_id(answer.query_id, n)) in by_id])
            for answer in answers
        )

    def _settled(self, answer: Answer, votes: Sequence[Answer]) -> Answer:
        margins = [_margin(one) for one in (answer, *votes)]
        is_agreed = max(margins) <= self._limit and max(margins) - min(margins) < MOST_SPREAD_LOG_ODDS
        if not votes or (is_agreed and all(self.evaluated(vote) is Evaluation.OK for vote in votes)):
            return answer
        return _undecidable(answer)


def _shifted(recipe: Recipe, model_px: int) -> Recipe:
    """Return the recipe with every pin's tile so far to the right and down."""
    by = model_px * recipe.file.pins.tile_px / recipe.file.pins.tile_model_px
    regions = tuple(_moved(region, by) for region in recipe.file.regions)
    return recipe.model_copy(update={"file": recipe.file.model_copy(update={"regions": regions})})


def _moved(region: Region, by: float) -> Region:
    pins = tuple(pin.model_copy(update={"x": pin.x + by, "y": pin.y + by}) for pin in region.pins)
    return region.model_copy(update={"pins": pins})


def _vote_id(query_id: str, number: int) -> str:
    return f"{query_id}{SHIFTS_MODEL_PX[number]:+d}"


def _margin(answer: Answer) -> float:
    """Return the log odds of a defect, as the evaluation takes them."""
    passed, defective, undecidable = answer.choices[0].probabilities
    return _log_odds(defective + undecidable, passed)


def _log_odds(bad: float, good: float) -> float:
    if bad <= 0 or good <= 0:
        return -math.inf if bad <= 0 else math.inf
    return math.log(bad) - math.log(good)


def _undecidable(answer: Answer) -> Answer:
    """Return the answer with the same p(defect) and "undecidable" chosen."""
    passed, defective, undecidable = answer.choices[0].probabilities
    choice = Choice(chosen=report.UNDECIDABLE, probabilities=(passed, defective + undecidable, 0.0))
    text = report.pin_text(report.PinAnswer(report.UNDECIDABLE, report.NONE))
    return msgspec.structs.replace(answer, choices=(choice, *answer.choices[1:]), text=text)
