"""Shapes become regions and pins by what lies in what, with names and order that a recipe can have."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.layout import Layout
from calibration.shapes import Shape
from calibration.shapes_layout import layout_of
from station.errors import ConfigurationError

SIZE = (800, 600)


def box(label: str, x: float, y: float, side: float = 10, height: float | None = None) -> Shape:
    """Return a box about x, y, in px of a recipe."""
    half = (side / 2, (height or side) / 2)
    return Shape(label, x + 0.5 - half[0], y + 0.5 - half[1], x + 0.5 + half[0], y + 0.5 + half[1])


def layout(*shapes: Shape, tile_px: int | None = None) -> Layout:
    return layout_of(shapes, tile_px, SIZE, "regions.json")


def pins(found: Layout) -> dict[str, list[str]]:
    return {field.region_id: [found.ids[k] for k in field.pins] for field in found.fields}


def test_boxes_by_themselves_are_the_pins_of_one_field_in_reading_order() -> None:
    found = layout(box("B1", 100, 142), box("A2", 140, 102), box("A1", 100, 100), box("B2", 140, 139))
    assert pins(found) == {"field": ["A1", "A2", "B1", "B2"]}
    assert found.places.tolist() == [[100, 100], [140, 102], [100, 142], [140, 139]]
    assert found.tile_px == round(1.7 * 3 * 10)
    assert found.renamed == ()


def test_what_lies_in_a_box_is_a_pin_of_that_region() -> None:
    found = layout(
        box("1", 220, 100), box("right", 200, 100, 80), box("1", 90, 100), box("left", 100, 100, 80),
        box("2", 110, 100), box("alone", 400, 300),
    )  # fmt: skip
    assert pins(found) == {"left": ["1", "2"], "right": ["1"], "field": ["alone"]}
    assert [field.box for field in found.fields] == [(60.5, 60.5, 140.5, 140.5), (160.5, 60.5, 240.5, 140.5), None]
    assert found.words == "drawn by hand in 3 regions"


def test_names_are_made_to_fit_and_told_apart() -> None:
    found = layout(
        box("contact pin", 100, 100), box("contact pin", 140, 100), box("Ü-1", 180, 100), box("none", 220, 100),
        box("1", 260, 100), box("漢", 300, 100), box("contact1", 340, 100),
    )  # fmt: skip
    assert pins(found) == {"field": ["contact2", "contact3", "1x1", "none1", "1x2", "P", "contact1"]}
    assert "'contact pin' is called contact2" in found.renamed


labels = st.text(max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.lists(labels, min_size=1, max_size=30))
def test_every_name_is_one_that_a_recipe_can_have(names: list[str]) -> None:
    found = layout(*(box(name, 20 + 25 * k, 100) for k, name in enumerate(names)))
    assert len(set(found.ids)) == len(names)
    assert all(len(one) <= 8 and one.isascii() and one.isalnum() and one.lower() != "none" for one in found.ids)


@settings(max_examples=60, deadline=None)
@given(st.permutations([(row, column) for row in range(3) for column in range(4)]), st.floats(-0.1, 0.1))
def test_the_order_in_the_file_does_not_matter(order: list[tuple[int, int]], lean: float) -> None:
    drawn = [
        box(f"{'ABC'[row]}{column}", 100 + 40 * column, 100 + 40 * row + lean * 40 * column) for row, column in order
    ]
    assert pins(layout(*drawn)) == {"field": [f"{row}{column}" for row, column in itertools.product("ABC", range(4))]}


def test_a_pin_that_stands_alone_has_a_tile_of_its_own_size() -> None:
    assert layout(box("cap", 400, 300, 60)).tile_px == round(1.7 * 180)
    assert layout(box("cap", 400, 300, 60), tile_px=90).tile_px == 90
    points = [Shape("a", 100.5, 100.5, 100.5, 100.5), Shape("b", 138.5, 100.5, 138.5, 100.5)]
    assert layout(*points).tile_px == 65
    assert np.array_equal(layout(*points).places, [[100, 100], [138, 100]])


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        (
            [box("outer", 200, 200, 200), box("inner", 200, 200, 100), box("A1", 200, 200)],
            "'inner' lies in a region and holds",
        ),
        ([box("a", 100, 100), box("b", 100.2, 100)], "'a' and 'b' are drawn at the same place"),
        (
            [box("f", 100, 100, 90), box("f", 100, 100, 91), box("A1", 90, 90)],
            "'f' and 'f' are drawn at the same place",
        ),
        ([Shape("a", 5, 5, 5, 5)], "one point tells no size"),
        (
            [box("all", 400, 300, 700, 500), *(box("p", 100 + 6 * k, 300, 3) for k in range(100))],
            "'all' holds 100 pins; 99",
        ),
    ],
)
def test_what_can_be_neither_is_refused(shapes: list[Shape], expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        layout(*shapes)
