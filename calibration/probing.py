"""Would a release pass the station's challenge? Its probes are asked here, before the release judges on the line.

In: Settings, a recipe, the release's manifest. Out: `Probed`, the answers, held against any OK limit without asking
again: a limit above the score of a blank picture passes what is not there, one below the golden picture's passes
nothing. The recipe's samples are not asked: they are a labelled set. Raises EngineError.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from station.capture.crop import golden_crops
from station.engine.base import Answer
from station.guards import Probe, start_probes
from station.inspect_pictures import OneShotEngine
from station.recipe import Recipe
from station.records import Failure
from station.settings import Settings
from station.wiring import make_inspection

Answers = Sequence[Answer] | Failure


class Probed:
    """What a release answered to each probe, by the probe's name."""

    def __init__(self, recipe: Recipe, answers: Mapping[str, Answers]) -> None:
        self._recipe, self._golden, self._answers = recipe, golden_crops(recipe), answers

    def problems(self, ok_max_p_defect: float) -> tuple[str, ...]:
        """Return in words which probes fail with this OK limit."""
        found = (
            (probe, self._problem(probe)) for probe in start_probes(at(self._recipe, ok_max_p_defect), self._golden)
        )
        return tuple(f"{probe.name} ({probe.guard}) {problem}" for probe, problem in found if problem)

    def ok_limit(self, most: float) -> float | None:
        """Return the largest OK limit up to `most` with which every probe passes; None: there is none."""
        scores = {score for score in self._scores() if score <= most}
        limits = (most, *(math.nextafter(score, 0.0) for score in sorted(scores, reverse=True)))
        return next((limit for limit in limits if not self.problems(limit)), None)

    def _problem(self, probe: Probe) -> str:
        answers = self._answers[probe.name]
        if isinstance(answers, Failure):
            return probe.problem(None, answers)
        return probe.problem(probe.inspection.regions(answers, 0.0), None)

    def _scores(self) -> set[float]:
        """Return every p(defect) that an OK limit could lie below."""
        answered = (
            probe.inspection.regions(answers, 0.0)
            for probe in start_probes(self._recipe, self._golden)
            if not isinstance(answers := self._answers[probe.name], Failure)
        )
        found = [region for regions in answered for region in regions]
        pins = {pin.p_defect for region in found for pin in region.pins}
        return pins | {region.p_defect for region in found if region.p_defect is not None}


def probed(settings: Settings, recipe: Recipe, model: Path | None = None) -> Probed | None:
    """Ask a release (its manifest; None: that of the settings) every probe; None: the engine is simulated."""
    settings = settings.model_copy(update={"model": model}) if model else settings
    engine = OneShotEngine(settings, make_inspection(recipe))
    try:
        engine.start()
        if engine.host.is_simulated:
            return None
        probes = start_probes(recipe, golden_crops(recipe))
        return Probed(recipe, {probe.name: engine.answers(probe.job, probe.queries)[0] for probe in probes})
    finally:
        engine.close()


def at(recipe: Recipe, ok_max_p_defect: float) -> Recipe:
    """Return the recipe with this OK limit, and a NOT_OK limit above it."""
    held = recipe.file.thresholds
    above = max(held.not_ok_min_p_defect, math.nextafter(ok_max_p_defect, math.inf))
    limits = held.model_copy(update={"ok_max_p_defect": ok_max_p_defect, "not_ok_min_p_defect": above})
    return recipe.model_copy(update={"file": recipe.file.model_copy(update={"thresholds": limits})})
