"""A rejection is founded when it goes with the places that differ; a model that looks elsewhere is found out."""

from typing import Any

import numpy as np
import pytest

from station import report
from station.capture.crop import golden_crops
from station.evidence import COUNTS, EvidenceProbe, evidence_probes
from station.inspection import Inspection
from station.recipe import Recipe
from station.records import Evaluation, Failure, Job, Reason, RegionCrop
from tests.pictures import draw_part, make_recipe
from tests.unit.test_guards import Decide, Tile, answer
from tests.worker_parts import make_job


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    made = make_recipe(tmp_path_factory.mktemp("recipe"))
    return made.model_copy(update={"file": made.file.model_copy(update={"ask": "pins"})})


@pytest.fixture(scope="module")
def golden(recipe: Recipe) -> dict[str, RegionCrop]:
    return golden_crops(recipe)


def sees(_pin: str, golden: Tile, test: Tile) -> str:
    """Judge as an engine that sees: a difference in the middle is defective."""
    height, width = test.shape
    middle = slice(height // 4, -height // 4), slice(width // 4, -width // 4)
    return report.DEFECTIVE if np.abs(test - golden)[middle].mean() > 8 else report.PASSED


def job_of(recipe: Recipe, **part: Any) -> Job:
    region = recipe.file.regions[0]
    box = region.box
    crop = draw_part(gain=0.97, **part)[box.y : box.y + box.height, box.x : box.x + box.width, ::-1]
    pixels = np.ascontiguousarray(crop).tobytes()
    made = RegionCrop(region_id=region.region_id, width_px=box.width, height_px=box.height, pixels_rgb=pixels)
    job = make_job("part")
    return Job(**{name: getattr(job, name) for name in job.__struct_fields__} | {"crops": (made,)})


def probe_of(recipe: Recipe, golden: dict[str, RegionCrop], job: Job, decide: Decide) -> EvidenceProbe:
    """Return the probe of what this engine rejects."""
    inspection = Inspection(recipe, golden)
    answers = [answer(query, decide, recipe.file.defect_modes) for query in inspection.queries(job)]
    (probe,) = evidence_probes(recipe, golden, job, inspection.regions(answers, 1.0))
    return probe


def tried(probe: EvidenceProbe, decide: Decide) -> tuple[str, str]:
    """Return what the probe has against the engine, and where it sees the reason."""
    answers = [answer(query, decide, probe.recipe.file.defect_modes) for query in probe.queries]
    regions = probe.inspection.regions(answers, 1.0)
    return probe.problem(regions, None), probe.found(regions)


@pytest.mark.parametrize("part", [{"missing": ("B2",)}, {"bent": {"B2": (9.0, 0.0)}}, {"bent": {"B2": (-6.0, 7.0)}}])
def test_what_an_engine_that_looks_rejects_is_founded(
    recipe: Recipe, golden: dict[str, RegionCrop], part: dict[str, Any]
) -> None:
    probe = probe_of(recipe, golden, job_of(recipe, **part), sees)
    assert probe.pin_ids == ("B2",)
    problem, found = tried(probe, sees)
    assert problem == ""
    assert found.startswith("pin B2: cells ")
    assert set(found.split(":")[1].split("cells ")[1].split(" of ")[0].split()) & {"22", "23", "32", "33"}


def bent_b2(recipe: Recipe, golden: dict[str, RegionCrop], decide: Decide) -> str:
    return tried(probe_of(recipe, golden, job_of(recipe, bent={"B2": (8.0, 4.0)}), decide), decide)[0]


def always_bad(_pin: str, _golden: Tile, _test: Tile) -> str:
    return report.DEFECTIVE


def by_the_corner(_pin: str, golden: Tile, test: Tile) -> str:
    """Reject for the tile's lower right corner, where nothing is but a lamp a little weaker."""
    corner = slice(-golden.shape[0] // 4, None), slice(-golden.shape[1] // 4, None)
    is_other = abs(float((test - golden)[corner].mean())) > 0.3
    return report.DEFECTIVE if is_other else report.PASSED


def by_many_small_things(_pin: str, golden: Tile, test: Tile) -> str:
    """Reject when more than half of the tile differs at all: noise and light, never a pin."""
    side = golden.shape[0] // 4
    away = np.abs(test - golden).reshape(4, side, 4, side).mean(axis=(1, 3))
    return report.DEFECTIVE if (away > 0.2).sum() > 8 else report.PASSED


def test_rejecting_whatever_is_shown_is_found_out(recipe: Recipe, golden: dict[str, RegionCrop]) -> None:
    assert "is not OK with the golden picture's pixels" in bent_b2(recipe, golden, always_bad)


def test_looking_at_the_wrong_place_is_found_out(recipe: Recipe, golden: dict[str, RegionCrop]) -> None:
    assert "its reason is not what is seen there" in bent_b2(recipe, golden, by_the_corner)


def test_rejecting_for_what_is_everywhere_is_found_out(recipe: Recipe, golden: dict[str, RegionCrop]) -> None:
    assert "is OK with nothing but the cells" in bent_b2(recipe, golden, by_many_small_things)


def test_it_costs_few_questions_and_only_where_a_pin_was_rejected(
    recipe: Recipe, golden: dict[str, RegionCrop]
) -> None:
    job = job_of(recipe, missing=("A1",))  # a corner of the field: its tile reaches over the region
    probe = probe_of(recipe, golden, job, sees)
    assert len(probe.queries) == 2 * len(COUNTS)
    assert tried(probe, sees)[0] == ""
    inspection = Inspection(recipe, golden)
    answers = [answer(query, sees, recipe.file.defect_modes) for query in inspection.queries(job_of(recipe))]
    regions = inspection.regions(answers, 1.0)
    assert {pin.evaluation for region in regions for pin in region.pins} == {Evaluation.OK}
    assert evidence_probes(recipe, golden, job_of(recipe), regions) == ()


def test_without_an_answer_it_is_not_passed(recipe: Recipe, golden: dict[str, RegionCrop]) -> None:
    probe = probe_of(recipe, golden, job_of(recipe, missing=("A1",)), sees)
    late = Failure(reason=Reason.DEADLINE_PASSED, detail="late")
    assert probe.problem(None, late) == "was not answered: late"
