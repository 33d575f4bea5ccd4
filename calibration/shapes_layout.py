"""From shapes to a layout: what lies in another shape is a pin of that region, what lies in none is a pin of the field.

In: shapes and the picture's size. Out: a `Layout` with its fields, names made to fit the recipe and told apart, pins
in reading order. Raises ConfigurationError where a shape can be neither. Pure.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from calibration.layout import LEAST_TILE_PX, MOST_PINS, TILE, Field, Layout
from calibration.shapes import Corner, Shape, named, wrong
from station.recipe_file import NOTHING

FIELD = "field"
MOST_TILE_PX = 512
NEAR = 3.0
"""The pitch is at most so many sides of the largest shape: pins that stand alone have no pitch."""
LEAST_APART_PX = 1.0
PIN_LETTERS, REGION_LETTERS = 8, 32


def layout_of(shapes: Sequence[Shape], tile_px: int | None, size_px: tuple[int, int], where: str) -> Layout:
    """Return the layout of the shapes; `tile_px` None: from their distances. `where`: the file, for messages."""
    _refuse_twice(shapes, where)
    regions = _regions(shapes, where)
    region_ids = _names([one.label if one else FIELD for one, _ in regions], _as_word, REGION_LETTERS)
    fields: list[Field] = []
    ids: list[str] = []
    pins: list[Shape] = []
    for (region, inside), region_id in zip(regions, region_ids, strict=True):
        chosen = tuple(range(len(pins), len(pins) + len(inside)))
        box = (region.left, region.top, region.right, region.bottom) if region else None
        fields.append(Field(region_id, chosen, box))
        ids += _names([pin.label for pin in inside], _as_pin_id, PIN_LETTERS)
        pins += inside
    places = np.array([pin.middle for pin in pins])
    renamed = [(pin.label, name) for pin, name in zip(pins, ids, strict=True)]
    renamed += [(region.label, name) for (region, _), name in zip(regions, region_ids, strict=True) if region]
    return Layout(
        words=f"drawn by hand in {len(fields)} region{'s' * (len(fields) > 1)}",
        ids=tuple(ids),
        places=np.clip(places, 0, np.array(size_px) - 1.0),
        tile_px=tile_px or _tile_px(pins, where),
        score=1.0,
        fields=tuple(fields),
        renamed=tuple(f"{named(label)} is called {name}" for label, name in renamed if label != name),
    )


def _regions(shapes: Sequence[Shape], where: str) -> list[tuple[Shape | None, list[Shape]]]:
    """Return each region (None: the field) and its pins, all in reading order."""
    inside: dict[int | None, list[Shape]] = {}
    above = [_around(number, shapes) for number in range(len(shapes))]
    for number, parent in enumerate(above):
        if number in above:
            if parent is not None:
                raise wrong(where, f"{named(shapes[number].label)} lies in a region and holds others: one level only.")
        else:
            inside.setdefault(parent, []).append(shapes[number])
    for parent, pins in inside.items():
        if parent is not None and len(pins) > MOST_PINS:
            raise wrong(where, f"{named(shapes[parent].label)} holds {len(pins)} pins; {MOST_PINS} are the most.")
    found = [(None if parent is None else shapes[parent], _in_order(pins)) for parent, pins in inside.items()]
    order = _in_order([region or pins[0] for region, pins in found])
    return sorted(found, key=lambda one: order.index(one[0] or one[1][0]))


def _refuse_twice(shapes: Sequence[Shape], where: str) -> None:
    """Raise ConfigurationError for two shapes at one place, neither of them a region around the other."""
    for a, b in itertools.combinations(shapes, 2):
        if math.dist(a.middle, b.middle) < LEAST_APART_PX and not (a.holds(b) or b.holds(a)):
            raise wrong(where, f"{named(a.label)} and {named(b.label)} are drawn at the same place.")


def _around(number: int, shapes: Sequence[Shape]) -> int | None:
    """Return which shape lies closest around that one."""
    holders = [other for other, shape in enumerate(shapes) if other != number and shape.holds(shapes[number])]
    return min(holders, key=lambda other: shapes[other].area, default=None)


def _in_order(shapes: Sequence[Shape]) -> list[Shape]:
    """Return them row by row, each from left to right; a row ends where the next one is half a distance lower."""
    gap = _nearest([one.middle for one in shapes]) / 2
    rows: list[list[Shape]] = []
    for one in sorted(shapes, key=lambda one: one.middle[1]):
        if rows and one.middle[1] - rows[-1][-1].middle[1] <= gap:
            rows[-1].append(one)
        else:
            rows.append([one])
    return [one for row in rows for one in sorted(row, key=lambda one: one.middle[0])]


def _nearest(places: Sequence[Corner]) -> float:
    """Return the smallest distance of two places; infinite for one."""
    return min((math.dist(a, b) for k, a in enumerate(places) for b in places[k + 1 :]), default=math.inf)


def _tile_px(pins: Sequence[Shape], where: str) -> int:
    nearest = _nearest([pin.middle for pin in pins])
    side = max(pin.side_px for pin in pins)
    pitch = min(nearest, NEAR * side) if side else nearest
    if math.isinf(pitch):
        raise wrong(where, "one point tells no size: add --tile PX, about 1.7 times the distance of neighbours.")
    return min(MOST_TILE_PX, max(LEAST_TILE_PX, round(max(TILE * pitch, side))))


def _names(labels: Sequence[str], form: Callable[[str], str], most: int) -> list[str]:
    """Return a name for each label, all different: those that would be alike are numbered from 1."""
    names = [form(label)[:most] for label in labels]
    times, taken = Counter(names), set(names)
    return [_numbered(name, most, taken) if times[name] > 1 or name.lower() == NOTHING else name for name in names]


def _numbered(name: str, most: int, taken: set[str]) -> str:
    """Return the name with the first number that nothing has yet, and take it."""
    ends = (f"x{number}" if name[-1].isdecimal() else str(number) for number in itertools.count(1))
    numbered = (name[: most - len(end)] + end for end in ends)
    free = next(one for one in numbered if one not in taken)
    taken.add(free)
    return free


def _as_pin_id(label: str) -> str:
    return re.sub("[^A-Za-z0-9]", "", label) or "P"


def _as_word(label: str) -> str:
    word = re.sub("[^A-Za-z0-9_-]", "-", label).strip("-")
    return word if word[:1].isalpha() else f"region-{word}".rstrip("-")
