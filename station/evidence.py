"""Evidence by replacement: is a pin rejected for what differs from the golden picture there, and for nothing else.

A rejected pin's tile is divided into 4 x 4 cells, in the order of how much they differ from the golden picture's. With
the golden pixels over the first 1, 2, 4 or 8 of them the pin must become OK; and these cells alone, on the golden
picture, must not be OK. A model that rejects for what is elsewhere, or whatever it is shown, fails. Maps of what a
model attends to prove nothing of the kind; what a change of the picture does to the answer does. Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from station import composite
from station.composite import Pixels
from station.engine.base import Query
from station.guards import Probe, Wanted, crop_of, job_of
from station.inspection import Inspection
from station.recipe import Pin, Recipe, Region
from station.records import Evaluation, Failure, Job, RegionCrop, RegionReport

SIDE = 4
"""A tile has so many cells each way; one is about a patch of what the model sees."""
COUNTS = (1, 2, 4, 8)
"""So many cells are replaced; a reason that needs more than half of the tile is no reason at this place."""
LEFT_OUT, ALONE = "without", "only"
GUARD = "G11"

Cell = tuple[slice, slice]
"""Rows and columns of a region's crop."""


@dataclass(frozen=True)
class EvidenceProbe(Probe):
    """The questions about one rejected pin. Passes when its reason lies in few cells that differ."""

    cells: tuple[str, ...] = ()
    """Names of the cells, those that differ most first: row and column in the tile, from 1."""

    def problem(self, regions: tuple[RegionReport, ...] | None, trouble: Failure | None) -> str:
        """Return in words what is not as it must be; empty: passed."""
        if regions is None:
            return f"was not answered: {trouble.detail if trouble else ''}"
        count = self._least(regions)
        if count is None:
            half = COUNTS[-1]
            return f"is not OK with the golden picture's pixels over the {half} of 16 cells that differ: {self.catches}"
        if _said(regions)[ALONE + str(count)] is Evaluation.OK:
            return f"is OK with nothing but the cells {self._names(count)} that it was rejected for: {self.catches}"
        return ""

    def found(self, regions: Sequence[RegionReport]) -> str:
        """Return where the reason lies."""
        count = self._least(regions)
        return f"pin {self.pin_ids[0]}: cells {self._names(count)} of {SIDE} x {SIDE}" if count else ""

    def _least(self, regions: Sequence[RegionReport]) -> int | None:
        said = _said(regions)
        return next((count for count in COUNTS if said.get(LEFT_OUT + str(count)) is Evaluation.OK), None)

    def _names(self, count: int) -> str:
        return " ".join(sorted(self.cells[:count]))


def evidence_probes(
    recipe: Recipe, golden: Mapping[str, RegionCrop], job: Job, regions: Sequence[RegionReport]
) -> tuple[EvidenceProbe, ...]:
    """Return the probe of the pin that was rejected most surely; none if no pin was, or if it is asked by report."""
    rejected = [
        (pin.p_defect, report.region_id, pin.pin_id)
        for report in regions
        for pin in report.pins
        if pin.evaluation is Evaluation.NOT_OK
    ]
    crops = {crop.region_id: composite.pixels_of(crop) for crop in job.crops}
    if not rejected or recipe.file.ask != "pins":
        return ()
    _, region_id, pin_id = max(rejected)
    region = next(region for region in recipe.file.regions if region.region_id == region_id)
    pin = next(pin for pin in region.pins if pin.pin_id == pin_id)
    return (_probe(recipe, region, pin, composite.pixels_of(golden[region_id]), crops[region_id]),)


def _probe(recipe: Recipe, region: Region, pin: Pin, golden: Pixels, test: Pixels) -> EvidenceProbe:
    cells = _by_difference(_cells(recipe, region, pin), golden, test)
    names, places = zip(*cells, strict=True)
    pictures = {LEFT_OUT + str(count): _pasted(test, golden, places[:count]) for count in COUNTS}
    pictures |= {ALONE + str(count): _pasted(golden, test, places[:count]) for count in COUNTS}
    asked = _with_pins(recipe, region, [Pin(pin_id=name, x=pin.x, y=pin.y) for name in pictures])
    inspection = Inspection(asked, {region.region_id: crop_of(region.region_id, golden)})
    return EvidenceProbe(
        guard=GUARD, name=f"evidence at {pin.pin_id}", catches="its reason is not what is seen there",
        wanted=Wanted.FOUNDED, inspection=inspection, recipe=asked,
        job=job_of(asked, f"evidence {pin.pin_id}", {region.region_id: test}),
        queries=tuple(_query(asked, inspection, number, crop) for number, crop in enumerate(pictures.values())),
        pin_ids=(pin.pin_id,), cells=names,
    )  # fmt: skip


def _query(asked: Recipe, inspection: Inspection, number: int, crop: Pixels) -> Query:
    """Return the question about one changed crop, under the name of its pin; all pins of `asked` are at one place."""
    return inspection.queries(job_of(asked, "", {asked.file.regions[0].region_id: crop}))[number]


def _cells(recipe: Recipe, region: Region, pin: Pin) -> dict[str, Cell]:
    """Return the cells of the pin's tile that lie in the crop, by name."""
    side = recipe.file.pins.tile_px
    x, y = (round(place) - corner - side // 2 for place, corner in ((pin.x, region.box.x), (pin.y, region.box.y)))
    edges = [side * k // SIDE for k in range(SIDE + 1)]

    def along(start: int, k: int) -> slice:
        return slice(max(0, start + edges[k]), max(0, start + edges[k + 1]))

    return {
        f"{row + 1}{column + 1}": (along(y, row), along(x, column)) for row in range(SIDE) for column in range(SIDE)
    }


def _by_difference(cells: Mapping[str, Cell], golden: Pixels, test: Pixels) -> list[tuple[str, Cell]]:
    """Return the cells, those first that hold most of what differs."""
    away = np.abs(test.astype(np.int16) - golden).sum(axis=2)
    return sorted(cells.items(), key=lambda item: -int(away[item[1]].sum()))


def _pasted(onto: Pixels, pixels: Pixels, cells: Sequence[Cell]) -> Pixels:
    changed = onto.copy()
    for cell in cells:
        changed[cell] = pixels[cell]
    return changed


def _with_pins(recipe: Recipe, region: Region, pins: Sequence[Pin]) -> Recipe:
    only = region.model_copy(update={"pins": tuple(pins)})
    return recipe.model_copy(update={"file": recipe.file.model_copy(update={"regions": (only,)})})


def _said(regions: Sequence[RegionReport]) -> dict[str, Evaluation]:
    return {pin.pin_id: pin.evaluation for report in regions for pin in report.pins}
