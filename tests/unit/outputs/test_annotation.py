"""The annotated picture shows what was said, and where."""

import msgspec
import pytest
from PIL import Image

from station.outputs import annotation
from station.outputs.annotation import AMBER, BAR_PX, BRIGHT_RED, GREEN, RED, annotate
from station.recipe import Recipe
from station.records import Evaluation, Job, Verdict
from tests.pictures import PINS, REGION, make_recipe
from tests.verdicts import make_job, make_region, make_verdict


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return make_recipe(tmp_path_factory.mktemp("recipe"))


def coloured(picture: Image.Image, colour: annotation.Colour, pin_id: str) -> int:
    """Return how many pixels of `colour` there are on the box of a pin."""
    scale = annotation.REGION_WIDTH_PX // REGION[2]
    region = picture.crop((0, picture.height - annotation.FOOT_PX - REGION[3] * scale, picture.width, picture.height))
    x, y = ((PINS[pin_id][axis] - REGION[axis]) * scale for axis in (0, 1))
    half = 32 * scale + 2
    box = region.crop((int(x - half), max(0, int(y - half)), int(x + half), int(y + half)))
    return sum(pixel == colour for pixel in box.get_flattened_data())


def drawn(verdict: Verdict, recipe: Recipe, job: Job | None = None) -> Image.Image:
    return annotate(verdict, job or make_job(verdict), recipe)


@pytest.mark.parametrize(
    ("evaluation", "colour"),
    [
        (Evaluation.OK, GREEN),
        (Evaluation.NOT_OK, RED),
        (Evaluation.NOT_DECIDABLE, AMBER),
        (Evaluation.UNDEFINED, AMBER),
    ],
)
def test_the_bar_has_the_colour_of_the_evaluation(
    recipe: Recipe, evaluation: Evaluation, colour: annotation.Colour
) -> None:
    picture = drawn(make_verdict(1, evaluation), recipe)
    assert picture.getpixel((2, 2)) == colour
    assert picture.getpixel((picture.width - 3, BAR_PX - 3)) == colour


def test_defective_pins_are_boxed_red_undecided_ones_amber_and_good_ones_neither(recipe: Recipe) -> None:
    region = make_region(ng=("A2",), unsure=("B3",))
    picture = drawn(make_verdict(1, Evaluation.NOT_OK, regions=(region,)), recipe)
    assert coloured(picture, BRIGHT_RED, "A2") > 1000
    assert coloured(picture, AMBER, "B3") > 1000
    for pin_id in ("A1", "A4", "B1"):
        assert coloured(picture, BRIGHT_RED, pin_id) == coloured(picture, AMBER, pin_id) == 0


def test_a_region_asked_as_a_whole_boxes_the_positions_it_names(recipe: Recipe) -> None:
    region = make_region(ng=("A4",), pins=())
    picture = drawn(make_verdict(1, Evaluation.NOT_OK, regions=(region,)), recipe)
    assert coloured(picture, BRIGHT_RED, "A4") > 1000
    assert coloured(picture, BRIGHT_RED, "B1") == 0


def test_a_region_without_answer_is_shown_without_colours(recipe: Recipe) -> None:
    picture = drawn(make_verdict(1, Evaluation.UNDEFINED), recipe)
    assert all(coloured(picture, colour, "A2") == 0 for colour in (BRIGHT_RED, AMBER, GREEN))


def test_a_picture_without_crops_gives_its_reason_in_words(recipe: Recipe) -> None:
    verdict = make_verdict(1, Evaluation.UNDEFINED, detail="part-0001.jpg ends in the middle. " * 8)
    picture = drawn(verdict, recipe, msgspec.structs.replace(make_job(verdict), crops=()))
    assert picture.height > BAR_PX + annotation.FOOT_PX


def test_a_simulated_verdict_is_marked(recipe: Recipe) -> None:
    pictures = [drawn(make_verdict(is_simulated=simulated), recipe) for simulated in (True, False)]
    feet = [picture.getpixel((2, picture.height - 2)) for picture in pictures]
    assert feet == [annotation.WHITE, annotation.PAPER]


def test_long_names_do_not_leave_the_picture(recipe: Recipe) -> None:
    image = msgspec.structs.replace(make_verdict().image, name="p" * 250 + ".jpg")
    detail = "region pins: bent at " + ";".join(f"A{n}" for n in range(90))
    verdict = make_verdict(1, Evaluation.NOT_OK, image=image, detail=detail)
    assert drawn(verdict, recipe).width == drawn(make_verdict(), recipe).width
