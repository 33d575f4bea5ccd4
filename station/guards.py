"""Probes: questions with a known answer that show whether the model looks. Pure; docs/guards.md has them as a table.

A probe is a crop made up here (blank, noise, a defect planted into the golden picture or into the frame of now), asked
about the way a part is, with few pins so that it costs little. `Wanted` says what it must come to. Nothing here is a
verdict.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from station import composite, planted
from station.composite import Pixels
from station.engine.base import Query
from station.inspection import Inspection
from station.judge import judge
from station.recipe import Pin, Recipe, Region
from station.records import Evaluation, Failure, ImageRef, Job, RegionCrop, RegionReport

BENT_PITCHES = 0.4
"""About 0.85 of a pin's thickness: well past what must be found."""
GREY = 128
NOISE_SEED = 1

Crops = Mapping[str, Pixels]
"""Region id -> pixels."""


class Wanted(enum.StrEnum):
    """What a probe must come to."""

    OK = "OK"
    NOT_RELEASED = "not OK"
    FOUND = "not OK at the planted pin, OK at the others"
    FOUNDED = "OK once the golden picture's pixels are where it differs most, not OK by these places alone"


@dataclass(frozen=True)
class Probe:
    """One question with a known answer."""

    guard: str
    """Its number in docs/guards.md."""
    name: str
    catches: str
    """What is wrong with a model that fails it."""
    wanted: Wanted
    inspection: Inspection
    recipe: Recipe
    job: Job
    queries: tuple[Query, ...]
    pin_ids: tuple[str, ...] = ()
    """Pins that the defect is at, when FOUND is wanted; a bridge is at two."""

    def problem(self, regions: tuple[RegionReport, ...] | None, trouble: Failure | None) -> str:
        """Return in words what is not as it must be; empty: passed."""
        judgement = judge(self.recipe, self.job, regions, trouble, None)
        if judgement.evaluation is Evaluation.UNDEFINED:
            return f"was not answered: {judgement.detail}"
        is_ok = judgement.evaluation is Evaluation.OK
        if self.wanted is Wanted.OK:
            return "" if is_ok else f"must be OK and is {judgement.evaluation}: {judgement.detail}"
        if is_ok:
            return f"must not be OK and is: {self.catches}"
        return self._misplaced(regions or ()) if self.wanted is Wanted.FOUND else ""

    def found(self, regions: Sequence[RegionReport]) -> str:  # noqa: ARG002 - most probes only pass or fail
        """Return in words what else it showed; empty: nothing."""
        return ""

    def _misplaced(self, regions: Sequence[RegionReport]) -> str:
        rejected = [pin for region in regions for pin in region.pins if pin.evaluation is not Evaluation.OK]
        wrong = [pin.pin_id for pin in rejected if pin.pin_id not in self.pin_ids]
        there = " and ".join(self.pin_ids)
        return f"is blamed on {', '.join(wrong)}, the defect is at {there}: {self.catches}" if wrong else ""


def start_probes(recipe: Recipe, golden: Mapping[str, RegionCrop]) -> tuple[Probe, ...]:
    """Return what is asked at each challenge, on the golden picture; `golden`: its crops by region id."""
    few = _few(recipe)
    plain = {name: composite.pixels_of(crop) for name, crop in golden.items()}

    def probe(guard: str, name: str, catches: str, wanted: Wanted, test: Crops, reference: Crops = plain) -> Probe:
        return _probe(few, guard, name, catches, wanted, reference, test)

    grey = _each(plain, lambda crop: planted.flat(crop, GREY))
    pitch = {region.region_id: round(region.pitch_px) for region in recipe.file.regions}
    moved = {name: planted.shifted(crop, pitch[name], 0) for name, crop in plain.items()}
    halfway = {name: planted.shifted(crop, pitch[name] // 2, pitch[name] // 2) for name, crop in plain.items()}
    return (
        probe("G5", "golden", "it does not pass the golden picture itself", Wanted.OK, plain),
        *_blind(few, plain),
        probe("G2", "grey on grey", "it passes by habit, without a picture", Wanted.NOT_RELEASED, grey, grey),
        probe("G5", "wrong golden", "it does not compare with the golden picture", Wanted.NOT_RELEASED, plain, grey),
        probe("G5", "one pitch aside", "it passes a part that stands wrong", Wanted.NOT_RELEASED, moved),
        probe("G5", "half a pitch aside", "it passes a part that stands wrong", Wanted.NOT_RELEASED, halfway),
        _swapped(few, recipe.file.regions[0], plain),
        *_planted(few, recipe.file.regions[0], plain, plain),
    )


def live_probes(recipe: Recipe, golden: Mapping[str, RegionCrop], job: Job, turn: int) -> tuple[Probe, ...]:
    """Return what is asked now and then on the line: blind crops, and defects in the frame of `job`, which was OK.

    `turn` counts on, so that another pin has its turn each time.
    """
    few = _few(recipe, turn)
    plain = {name: composite.pixels_of(crop) for name, crop in golden.items()}
    now = {crop.region_id: composite.pixels_of(crop) for crop in job.crops}
    return *_blind(few, plain), *_planted(few, recipe.file.regions[0], plain, now)


def _blind(recipe: Recipe, golden: Crops) -> tuple[Probe, ...]:
    catches = "it does not look at the picture"
    pictures: dict[str, Callable[[Pixels], Pixels]] = {
        "blank": planted.flat,
        "black": lambda crop: planted.flat(crop, 0),
        "noise": lambda crop: planted.noise(crop, NOISE_SEED),
    }
    return tuple(
        _probe(recipe, "G1", name, catches, Wanted.NOT_RELEASED, golden, _each(golden, make))
        for name, make in pictures.items()
    )


def _planted(few: Recipe, region: Region, golden: Crops, test: Crops) -> tuple[Probe, ...]:
    """Plant each defect at the middle of the few pins of `region`, which is given whole."""
    pin, crop = _middle(few), test[region.region_id]
    other = planted.neighbour(region, pin)
    defects = {
        "missing": planted.without_pin(crop, region, pin),
        "bent": planted.bent(crop, region, pin, BENT_PITCHES),
        "bridge": planted.bridged(crop, region, pin),
    }
    return tuple(
        _probe(
            few, "G4", f"planted {name}", "it does not see this defect", Wanted.FOUND, golden,
            {**test, region.region_id: changed},
            (pin.pin_id, other.pin_id) if name == "bridge" and other else (pin.pin_id,),
        )
        for name, changed in defects.items()
    )  # fmt: skip


def _swapped(few: Recipe, region: Region, golden: Crops) -> Probe:
    """Plant a defect, then give each pin's question the picture of the next: the answer must go with the picture."""
    pin, asked_pins = _middle(few), few.file.regions[0].pins
    test = {**golden, region.region_id: planted.bent(golden[region.region_id], region, pin, BENT_PITCHES)}
    catches = "it answers by the place of the question, not by the picture"
    plain = _probe(few, "G3", "pictures swapped", catches, Wanted.FOUND, golden, test)
    asked = plain.queries
    turned = tuple(
        msgspec.structs.replace(query, pictures=other.pictures)
        for query, other in zip(asked, asked[1:] + asked[:1], strict=True)
    )
    before = asked_pins[asked_pins.index(pin) - 1].pin_id
    return replace(plain, queries=turned, pin_ids=(before,))


def _probe(
    recipe: Recipe,
    guard: str,
    name: str,
    catches: str,
    wanted: Wanted,
    golden: Crops,
    test: Crops,
    pin_ids: tuple[str, ...] = (),
) -> Probe:
    inspection = Inspection(recipe, {name: crop_of(name, pixels) for name, pixels in golden.items()})
    job = job_of(recipe, name, test)
    return Probe(
        guard=guard, name=name, catches=catches, wanted=wanted, inspection=inspection, recipe=recipe, job=job,
        queries=inspection.queries(job), pin_ids=pin_ids,
    )  # fmt: skip


def _few(recipe: Recipe, turn: int = 0) -> Recipe:
    """Return the recipe with three pins a region, those of this `turn`; asked by report, the recipe as it is."""
    if recipe.file.ask == "report":
        return recipe
    regions = tuple(region.model_copy(update={"pins": _three(region.pins, turn)}) for region in recipe.file.regions)
    return recipe.model_copy(update={"file": recipe.file.model_copy(update={"regions": regions})})


def _three(pins: Sequence[Pin], turn: int) -> tuple[Pin, ...]:
    """Return up to three pins far from each other, in the recipe's order."""
    places = {(turn + k * len(pins) // 3) % len(pins) for k in range(3)}
    return tuple(pins[place] for place in sorted(places))


def _middle(recipe: Recipe) -> Pin:
    pins = recipe.file.regions[0].pins
    return pins[len(pins) // 2]


def _each(crops: Crops, make: Callable[[Pixels], Pixels]) -> Crops:
    return {name: make(crop) for name, crop in crops.items()}


def crop_of(region_id: str, pixels: Pixels) -> RegionCrop:
    """Return pixels (height, width, 3), RGB, as a region's crop."""
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels).tobytes()
    return RegionCrop(region_id=region_id, width_px=width, height_px=height, pixels_rgb=data)


def job_of(recipe: Recipe, name: str, test: Crops) -> Job:
    """Return a job that asks about these crops, which are of no picture."""
    return Job(
        job_id=f"probe {name}",
        part_id=None,
        image=ImageRef(name=name, sha256="", size_bytes=0),
        recipe=recipe.file.recipe,
        recipe_sha256=recipe.sha256,
        registration=None,
        crops=tuple(crop_of(region_id, pixels) for region_id, pixels in test.items()),
        failure=None,
        captured_utc="",
        capture_ms=0.0,
    )
