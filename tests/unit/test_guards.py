"""Each probe is passed by an engine that looks, and tripped by the fault that it is there for."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from station import planted, report
from station.capture.crop import golden_crops
from station.engine.base import Answer, Choice, Picture, Query
from station.guards import Probe, Wanted, live_probes, start_probes
from station.recipe import Recipe, RecipeFile
from station.records import Job, RegionCrop
from tests.pictures import draw_part, make_recipe
from tests.worker_parts import make_job

Tile = npt.NDArray[np.float64]
Decide = Callable[[str, Tile, Tile], str]
"""Pin id, golden tile, test tile -> judgement."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    made = make_recipe(tmp_path_factory.mktemp("recipe"))
    return made.model_copy(update={"file": made.file.model_copy(update={"ask": "pins"})})


@pytest.fixture(scope="module")
def golden(recipe: Recipe) -> dict[str, RegionCrop]:
    return golden_crops(recipe)


def look(_pin: str, golden: Tile, test: Tile) -> str:
    """Judge as an engine that sees: nothing there is undecidable, a difference in the middle defective."""
    if test.std() < 5 or golden.std() < 5:
        return report.UNDECIDABLE
    height, width = test.shape
    middle = slice(height // 4, -height // 4), slice(width // 4, -width // 4)
    return report.DEFECTIVE if np.abs(test - golden)[middle].mean() > 8 else report.PASSED


def tiles(picture: Picture) -> tuple[Tile, Tile]:
    pixels = np.frombuffer(picture.pixels_rgb, np.uint8).reshape(picture.height_px, 3, picture.width_px // 3, 3)
    first, second, _ = np.moveaxis(pixels.mean(axis=3), 1, 0)
    return first, second


def answer(query: Query, decide: Decide, modes: tuple[str, ...]) -> Answer:
    judgement = decide(query.query_id.split("/")[1], *tiles(query.pictures[0]))
    mode = modes[0] if judgement == report.DEFECTIVE else report.NONE
    return Answer(
        query_id=query.query_id,
        choices=(
            Choice(chosen=judgement, probabilities=tuple(float(judgement == one) for one in report.JUDGEMENTS)),
            Choice(chosen=mode, probabilities=tuple(float(mode == one) for one in (report.NONE, *modes))),
        ),
        text=report.pin_text(report.PinAnswer(judgement, mode)),
    )


def problem(probe: Probe, decide: Decide) -> str:
    modes = probe.recipe.file.defect_modes
    return probe.problem(probe.inspection.regions([answer(query, decide, modes) for query in probe.queries], 1.0), None)


def tripped(probes: tuple[Probe, ...], decide: Decide) -> set[str]:
    """Return the names of the probes that an engine fails."""
    return {probe.name for probe in probes if problem(probe, decide)}


def test_an_engine_that_looks_passes_every_probe(recipe: Recipe, golden: dict[str, RegionCrop]) -> None:
    assert {probe.name: problem(probe, look) for probe in start_probes(recipe, golden) if problem(probe, look)} == {}


@pytest.mark.parametrize("turn", range(8))
def test_so_it_does_with_a_frame_of_the_line(recipe: Recipe, golden: dict[str, RegionCrop], turn: int) -> None:
    assert tripped(live_probes(recipe, golden, job_of(recipe), turn), look) == set()


def job_of(recipe: Recipe) -> Job:
    box = recipe.file.regions[0].box
    crop = draw_part(gain=0.97, noise=1.0, seed=3)[box.y : box.y + box.height, box.x : box.x + box.width, ::-1]
    pixels = np.ascontiguousarray(crop).tobytes()
    region_id = recipe.file.regions[0].region_id
    region = RegionCrop(region_id=region_id, width_px=box.width, height_px=box.height, pixels_rgb=pixels)
    job = make_job("part")
    return Job(**{name: getattr(job, name) for name in job.__struct_fields__} | {"crops": (region,)})


def by_habit(_pin: str, _golden: Tile, _test: Tile) -> str:
    return report.PASSED


def always_bad(_pin: str, _golden: Tile, _test: Tile) -> str:
    return report.DEFECTIVE


def without_golden(pin: str, _golden: Tile, test: Tile) -> str:
    return report.UNDECIDABLE if test.std() < 5 else look(pin, test, test)


def by_place(middle: str) -> Decide:
    """Answer by the question's name: the middle pin is bad, whatever is on it."""
    return lambda pin, _golden, _test: report.DEFECTIVE if pin == middle else report.PASSED


def blind_to_small(pin: str, golden: Tile, test: Tile) -> str:
    found = look(pin, golden, test)
    return report.PASSED if found == report.DEFECTIVE and np.abs(test - golden).mean() < 40 else found


BLIND = {"blank", "black", "noise"}
PLANTED = {"planted missing", "planted bent", "planted bridge"}


def test_passing_by_habit_trips_everything_but_the_golden_picture(
    recipe: Recipe, golden: dict[str, RegionCrop]
) -> None:
    probes = start_probes(recipe, golden)
    assert tripped(probes, by_habit) == {probe.name for probe in probes} - {"golden"}
    assert tripped(live_probes(recipe, golden, job_of(recipe), 0), by_habit) == BLIND | PLANTED


def test_rejecting_by_habit_trips_the_golden_picture_and_the_places(
    recipe: Recipe, golden: dict[str, RegionCrop]
) -> None:
    assert tripped(start_probes(recipe, golden), always_bad) == {"golden", "pictures swapped", *PLANTED}


def test_a_model_that_does_not_compare_trips_the_wrong_golden(recipe: Recipe, golden: dict[str, RegionCrop]) -> None:
    assert "wrong golden" in tripped(start_probes(recipe, golden), without_golden)


def test_answers_by_place_trip_the_swap(recipe: Recipe, golden: dict[str, RegionCrop]) -> None:
    probes = start_probes(recipe, golden)
    (swap,) = (probe for probe in probes if probe.guard == "G3")
    (bent,) = (probe for probe in probes if probe.name == "planted bent")
    place = by_place(bent.pin_ids[0])
    assert problem(bent, place) == ""
    assert "is blamed on" in problem(swap, place)


def test_a_model_that_got_weak_trips_what_is_planted(recipe: Recipe, golden: dict[str, RegionCrop]) -> None:
    assert tripped(start_probes(recipe, golden), blind_to_small) & PLANTED


def test_every_probe_costs_few_questions(recipe: Recipe, golden: dict[str, RegionCrop]) -> None:
    assert all(len(probe.queries) == 3 for probe in start_probes(recipe, golden))
    pins = {
        query.query_id
        for turn in range(8)
        for probe in live_probes(recipe, golden, job_of(recipe), turn)
        for query in probe.queries
    }
    assert len(pins) == 8, "every pin has its turn"


def test_asked_by_report_the_region_is_asked_as_a_whole(recipe: Recipe, golden: dict[str, RegionCrop]) -> None:
    file: RecipeFile = recipe.file.model_copy(update={"ask": "report"})
    probes = start_probes(recipe.model_copy(update={"file": file}), golden)
    assert all(len(probe.queries) == 1 for probe in probes)
    assert {probe.wanted for probe in probes} == set(Wanted) - {Wanted.FOUNDED}


def test_planting_changes_what_is_near_the_pin_only(recipe: Recipe, golden: dict[str, RegionCrop]) -> None:
    region = recipe.file.regions[0]
    pin = region.pins[5]
    crop = np.frombuffer(golden[region.region_id].pixels_rgb, np.uint8)
    crop = crop.reshape(region.box.height, region.box.width, 3)
    y, x = np.mgrid[: region.box.height, : region.box.width]
    away = np.hypot(x + region.box.x - pin.x, y + region.box.y - pin.y)
    reach = 1.2 * region.pitch_px
    for changed in (
        planted.without_pin(crop, region, pin),
        planted.bent(crop, region, pin, 0.4),
        planted.bridged(crop, region, pin),
    ):
        assert (changed[away < reach] != crop[away < reach]).any()
        assert (changed[away >= reach] == crop[away >= reach]).all()
