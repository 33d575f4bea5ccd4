"""Pins are found where they are, also real ones; a second run keeps what a person has changed."""

import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.lattice import find_lattice, grids_of
from calibration.layout import Known, find_layout, grid_of, places_of, tiled
from calibration.shapes import around
from calibration.teach import Data, Drawn, merge, teach
from calibration.teach_camera import calibration_of
from station.capture.lens import LensCorrection, straight_points
from station.errors import ConfigurationError
from station.recipe_file import load_recipe
from tests.camera_views import KnownCamera, true_calibration, write_calibration
from tests.pictures import PINS, REGION, draw_part, encoded

ROOT = Path(__file__).parents[3]
CONNECTOR = Path(os.environ.get("REAL_PICTURES", ROOT.parent / "shared/data")) / "connector_pins_visionrd"
EIGHT = Known(pins=8, grid=(2, 4))


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
    taught = teach([golden], EIGHT, tmp_path / "taught")
    assert taught.problems == ()
    assert taught.found[0].residual_px is not None
    assert taught.found[0].residual_px < 0.3
    found = taught_pins(tmp_path / "taught")
    assert found.keys() == PINS.keys()
    assert max(np.hypot(*np.subtract(found[pin], PINS[pin])) for pin in PINS) < 3
    assert (tmp_path / "taught/overlay.png").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_shipped_product_is_taught_from_its_golden_picture() -> None:
    recipe = load_recipe(ROOT / "calibration/recipes/pins-27/recipe.yaml")
    lattice = find_lattice(np.asarray(cv2.imread(str(recipe.golden_path)), np.uint8), [(3, 9)])
    assert lattice is not None
    places = np.array([(pin.x, pin.y) for pin in recipe.file.regions[0].pins])
    assert np.linalg.norm(lattice.places() - places, axis=1).max() < 3


@pytest.mark.slow
@pytest.mark.timeout(90)
@pytest.mark.parametrize("picture", ["01.png", "06.png"])
def test_22_real_pins_are_found_from_one_golden_picture(picture: str) -> None:
    if not CONNECTOR.is_dir():
        pytest.skip(f"{CONNECTOR} is not there: real pictures are not part of the project")
    labels = json.loads((CONNECTOR / "labels.json").read_text())
    (known,) = [image for image in labels["images"] if image["file"] == picture]
    lattice = find_lattice(np.asarray(cv2.imread(str(CONNECTOR / "images" / picture)), np.uint8), [(11, 2)])
    assert lattice is not None
    places = lattice.places().reshape(11, 2, 2)
    away = np.array([
        places[int(pin["slot"][1:]) - 1, "LR".index(pin["slot"][0])] - (pin["x"], pin["y"]) for pin in known["pins"]
    ])  # fmt: skip
    # Some of the set's masks were pasted as a whole from another picture: all pins are off by the same 1 to 3 px.
    assert np.linalg.norm(np.median(away, axis=0)) < 4
    assert np.linalg.norm(away - np.median(away, axis=0), axis=1).max() < 3


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_second_run_keeps_what_a_person_changed(golden: Path, tmp_path: Path) -> None:
    out = tmp_path / "taught"
    teach([golden], EIGHT, out)
    path = out / "recipe.yaml"
    before = taught_pins(out)
    moved = f'{{pin_id: "A2", x: {before["A2"][0]}, y: {before["A2"][1]}}}'
    assert moved in path.read_text()
    text = path.read_text().replace(moved, '{pin_id: "A2", x: 360.5, y: 260.5}')
    path.write_text(re.sub(r"max_residual_px: [\d.]+", "max_residual_px: 2.0", text))
    again = teach([golden], EIGHT, out)
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


def test_grids_and_places_are_read_strictly() -> None:
    assert grids_of(27) == [(1, 27), (3, 9), (9, 3), (27, 1)]
    assert grid_of("11x2", 22) == (11, 2)
    assert places_of(["3,4.5"]) == ((3.0, 4.5),)
    for wrong in ("11", "3x9", "axb"):
        with pytest.raises(ConfigurationError, match="with 22 places"):
            grid_of(wrong, 22)
    with pytest.raises(ConfigurationError, match="expected X,Y"):
        places_of(["3;4"])


def test_pins_that_are_no_grid_are_found_by_what_one_of_them_looks_like() -> None:
    places = [(60.0, 70.0), (150.0, 40.0), (170.0, 160.0), (90.0, 180.0), (240.0, 110.0)]
    grey = np.random.default_rng(3).normal(60, 3, (240, 300))
    y, x = np.mgrid[:240, :300]
    for number, (px, py) in enumerate(places):
        grey += (90 - 12 * number) * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 18)
    grey[:, 200:204] += 80
    picture = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    layout = find_layout(picture, Known(pins=5, places=(places[0],), tile_px=40))
    assert layout.ids == ("P1", "P2", "P3", "P4", "P5")
    distances = np.linalg.norm(layout.places[:, None] - np.array(places), axis=2)
    assert distances.min(axis=0).max() < 1
    with pytest.raises(ConfigurationError, match="size of a pin"):
        find_layout(picture, Known(pins=5, places=(places[0],)))


def test_tiles_cover_everything_but_the_margin() -> None:
    layout = tiled(np.zeros((200, 400, 3), np.uint8), 64)
    covered = np.zeros((200, 400), bool)
    for x, y in layout.places:
        covered[round(y - 31.5) : round(y + 32.5), round(x - 31.5) : round(x + 32.5)] = True
    assert covered[10:190, 20:380].all()
    assert len(set(layout.ids)) == len(layout.ids)


def test_an_empty_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"no picture")
    with pytest.raises(ConfigurationError, match="cannot be read as a picture"):
        teach([tmp_path / "empty.png"], EIGHT, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_with_the_cameras_calibration_the_golden_picture_is_a_corrected_one(golden: Path, tmp_path: Path) -> None:
    camera = true_calibration(KnownCamera())
    calibration = write_calibration(tmp_path / "lens.yaml", camera)
    out = tmp_path / "taught"
    assert teach([golden], 96, out, calibration).problems == ()
    recipe = load_recipe(out / "recipe.yaml")
    assert recipe.camera == camera
    assert recipe.px_per_mm == camera.px_per_mm
    shown = cv2.imread(str(out / "golden.png"))
    assert shown is not None
    assert (shown == LensCorrection(camera).straight(draw_part())).all()
    again = calibration_of(None, out)
    assert again.keys == {"camera": "camera.yaml", "camera_sha256": recipe.file.camera_sha256}, "so does a second run"
    assert (again.picture(golden) == shown).all()


def test_a_picture_of_another_size_than_the_calibration_is_refused(golden: Path, tmp_path: Path) -> None:
    calibration = write_calibration(tmp_path / "lens.yaml", true_calibration(KnownCamera(size=(640, 480))))
    with pytest.raises(ConfigurationError, match=r"good.png: the calibration is for pictures of 640 x 480 px"):
        teach([golden], EIGHT, tmp_path / "taught", calibration)


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_drawn_regions_become_a_recipe_and_hand_edits_are_kept(golden: Path, tmp_path: Path) -> None:
    boxes = [(pin, x + 0.5 - 12, y + 0.5 - 12, x + 0.5 + 12, y + 0.5 + 12) for pin, (x, y) in PINS.items()]
    x, y, width, height = REGION
    drawn = [("my pins", x, y, x + width, y + height), *reversed(boxes)]
    shapes = [{"label": label, "shape_type": "rectangle", "points": [at[:2], at[2:]]} for label, *at in drawn]
    (tmp_path / "regions.json").write_text(json.dumps({"shapes": shapes, "imageWidth": 800, "imageHeight": 600}))
    wanted, out = Drawn(tmp_path / "regions.json", None), tmp_path / "taught"
    taught = teach([golden], wanted, out)
    assert taught.problems == ()
    assert taught.renamed == ("'my pins' is called my-pins",)
    (region,) = load_recipe(out / "recipe.yaml").file.regions
    assert region.region_id == "my-pins"
    assert [(pin.pin_id, (pin.x, pin.y)) for pin in region.pins] == list(PINS.items())
    assert (region.box.x, region.box.y) <= REGION[:2]
    assert (region.box.x + region.box.width, region.box.y + region.box.height) >= (x + width, y + height)
    path = out / "recipe.yaml"
    path.write_text(path.read_text().replace("x: 360.0, y: 262.0", "x: 361.5, y: 262.0"))
    again = teach([golden], wanted, out)
    assert again.kept == ("regions.my-pins.pins.A2.x",)
    assert taught_pins(out) == PINS | {"A2": (361.5, 262.0)}


def test_what_was_drawn_on_a_picture_of_a_bent_lens_is_corrected_with_it(tmp_path: Path) -> None:
    camera = true_calibration(KnownCamera())
    calibration = calibration_of(write_calibration(tmp_path / "lens.yaml", camera), tmp_path)
    drawn = around("A1", [(20, 30), (40, 50)], "regions.json")
    corners = straight_points(camera, np.array([[19.5, 29.5], [39.5, 29.5], [19.5, 49.5], [39.5, 49.5]])) + 0.5
    found = calibration.shape(drawn, "regions.json")
    assert (found.left, found.top) == pytest.approx(corners.min(axis=0))
    assert (found.right, found.bottom) == pytest.approx(corners.max(axis=0))
    assert found.left != pytest.approx(drawn.left, abs=0.5)
