"""Pins are found where they are, also real ones; a second run keeps what a person has changed."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.lattice import find_lattice, grids_of
from calibration.teach import Data, grids_for, merge, teach
from station.errors import ConfigurationError
from station.recipe_file import load_recipe
from tests.pictures import PINS, draw_part, encoded

ROOT = Path(__file__).parents[3]
CONNECTOR = ROOT.parent / "shared/data/connector_pins_visionrd"


def taught_pins(folder: Path) -> dict[str, tuple[float, float]]:
    regions = load_recipe(folder / "recipe.yaml").file.regions
    return {pin.pin_id: (pin.x, pin.y) for region in regions for pin in region.pins}


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    path = tmp_path / "good.png"
    path.write_bytes(encoded(draw_part(), ".png"))
    return path


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_drawn_part_becomes_a_recipe_that_finds_it_again(golden: Path, tmp_path: Path) -> None:
    taught = teach([golden], [(2, 4)], tmp_path / "taught")
    assert taught.problems == ()
    assert taught.found[0].residual_px is not None
    assert taught.found[0].residual_px < 0.3
    found = taught_pins(tmp_path / "taught")
    assert found.keys() == PINS.keys()
    assert max(np.hypot(*np.subtract(found[pin], PINS[pin])) for pin in PINS) < 3
    assert (tmp_path / "taught/overlay.png").stat().st_size > 1000


def test_the_shipped_product_is_taught_from_its_golden_picture() -> None:
    recipe = load_recipe(ROOT / "calibration/recipes/pins-27/recipe.yaml")
    lattice = find_lattice(np.asarray(cv2.imread(str(recipe.golden_path)), np.uint8), [(3, 9)])
    assert lattice is not None
    places = np.array([(pin.x, pin.y) for pin in recipe.file.regions[0].pins])
    assert np.linalg.norm(lattice.places() - places, axis=1).max() < 3


@pytest.mark.parametrize("picture", ["01.png", "02.png"])
def test_22_real_pins_are_found_within_3_px_from_one_golden_picture(picture: str) -> None:
    if not CONNECTOR.is_dir():
        pytest.skip(f"{CONNECTOR} is not there: real pictures are not part of the project")
    labels = json.loads((CONNECTOR / "labels.json").read_text())
    (known,) = [image for image in labels["images"] if image["file"] == picture]
    lattice = find_lattice(np.asarray(cv2.imread(str(CONNECTOR / "images" / picture)), np.uint8), [(11, 2)])
    assert lattice is not None
    places = lattice.places().reshape(11, 2, 2)
    for pin in known["pins"]:
        place = places[int(pin["slot"][1:]) - 1, "LR".index(pin["slot"][0])]
        assert np.hypot(*(place - (pin["x"], pin["y"]))) < 3, pin["slot"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_second_run_keeps_what_a_person_changed(golden: Path, tmp_path: Path) -> None:
    out = tmp_path / "taught"
    teach([golden], [(2, 4)], out)
    path = out / "recipe.yaml"
    before = taught_pins(out)
    moved = f'{{pin_id: "A2", x: {before["A2"][0]}, y: {before["A2"][1]}}}'
    assert moved in path.read_text()
    text = path.read_text().replace(moved, '{pin_id: "A2", x: 360.5, y: 260.5}')
    path.write_text(text.replace("max_residual_px: 1.0", "max_residual_px: 2.0"))
    again = teach([golden], [(2, 4)], out)
    assert set(again.kept) == {"registration.max_residual_px", "regions.field.pins.A2.x", "regions.field.pins.A2.y"}
    assert taught_pins(out) == before | {"A2": (360.5, 260.5)}
    assert load_recipe(path).file.registration.max_residual_px == 2.0
    assert (out / "recipe.yaml.before").exists()


def test_what_was_proposed_before_is_replaced_and_what_was_written_is_kept() -> None:
    kept: list[str] = []
    new: Data = {"a": 2, "b": 2, "list": [1, 2]}
    assert merge(new, {"a": 1, "b": 9, "list": [5]}, {"a": 1, "b": 1, "list": [1]}, "", kept) == {
        "a": 2, "b": 9, "list": [5],
    }  # fmt: skip
    assert kept == ["b", "list"]


def test_grids() -> None:
    assert grids_of(27) == [(1, 27), (3, 9), (9, 3), (27, 1)]
    assert grids_for(22, "11x2") == [(11, 2)]
    for wrong in ("11", "3x9", "axb"):
        with pytest.raises(ConfigurationError, match="with 22 places"):
            grids_for(22, wrong)


def test_an_empty_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"no picture")
    with pytest.raises(ConfigurationError, match="cannot be read as a picture"):
        teach([tmp_path / "empty.png"], [(2, 4)], tmp_path / "out")
