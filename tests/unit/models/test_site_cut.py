"""What a LoRA learns on site is what the station shows the model, with the labels of the set."""

from pathlib import Path

import numpy as np
import pytest
import site_cut
import site_pins

from station import composite
from station.capture.crop import golden_crops
from station.recipe_file import load_recipe
from tests.pictures import PINS, Pose, draw_part, encoded, write_recipe

HEADER = "image,evaluation,defect_mode,defect_position\n"


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[Path, Path]:
    """Return a recipe and a set of a good, a bad and an undecidable picture."""
    recipe = write_recipe(tmp_path / "recipe")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "good.png").write_bytes(encoded(draw_part(Pose(shift_x=20)), ".png"))
    (folder / "bad.png").write_bytes(encoded(draw_part(missing=("A2",), bent={"B3": (9.0, 0.0)}), ".png"))
    (folder / "dark.png").write_bytes(encoded(draw_part(gain=0.6), ".png"))
    rows = "good.png,OK,,\nbad.png,NOT_OK,missing;bent,A2;B3\ndark.png,NOT_DECIDABLE,,\n"
    (folder / "labels.csv").write_text(HEADER + rows)
    return recipe, folder


def test_each_pin_comes_with_its_mode_and_its_golden_pixels(labelled: tuple[Path, Path]) -> None:
    pins = site_cut.cut([labelled])
    count = len(PINS)
    assert len(pins.mode) == 3 * count
    assert sorted(pins.mode[count : 2 * count]) == [0] * (count - 2) + [1, 2]
    assert (pins.mode[2 * count :] == site_pins.UNDECIDABLE).all()
    assert pins.golden.shape == (count, 96, 96, 3)
    bad = pins.mode == 1
    middle = slice(32, 64)
    golden, test = pins.golden[pins.golden_of[bad]][:, middle, middle], pins.tests[bad][:, middle, middle]
    assert np.abs(golden.astype(int) - test).max() > 50


def test_the_middle_of_a_tile_is_what_the_station_shows(labelled: tuple[Path, Path]) -> None:
    pins, recipe = site_cut.cut([labelled]), load_recipe(labelled[0])
    (region,), ask = recipe.file.regions, recipe.file.pins
    golden = composite.pixels_of(golden_crops(recipe)[region.region_id])
    for number, pin in enumerate(region.pins):
        shown = composite.pin_picture(region, pin, golden, golden, ask.tile_px, ask.tile_model_px)
        station = np.frombuffer(shown.pixels_rgb, np.uint8).reshape(shown.height_px, shown.width_px, 3)
        rim = site_pins.RIM_PX
        ours = pins.golden[number, rim:-rim, rim:-rim, 0].astype(int)
        assert np.abs(ours - station[:, : ask.tile_model_px, 0]).mean() < 1.0


def test_a_picture_that_cannot_be_registered_is_named_and_left_out(
    labelled: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = labelled[1]
    (folder / "good.png").write_bytes(encoded(np.full((480, 640, 3), 90, np.uint8), ".png"))
    pins = site_cut.cut([labelled])
    assert len(pins.mode) == 2 * len(PINS)
    assert capsys.readouterr().out == "good.png: left out, it cannot be registered\n"


def test_what_was_saved_is_read(labelled: tuple[Path, Path], tmp_path: Path) -> None:
    pins = site_cut.cut([labelled])
    pins.save(tmp_path / "pins.npz")
    again = site_pins.load(tmp_path / "pins.npz")
    assert (again.tests == pins.tests).all()
    assert (again.mode == pins.mode).all()
    assert (again.golden_of == pins.golden_of).all()
