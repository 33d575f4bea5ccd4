"""Reads shapes from a YOLO label file: one line a shape, "class x y width height" or "class x y x y x y ...", 0 to 1.

The names of the classes are in a file of their own, classes.txt (one a line) or data.yaml (`names`). Turned boxes and
segments are polygons. Pure: whoever reads the files hands over what is in them.
"""

from pathlib import Path
from typing import Any

from calibration.shapes import MOST_CORNERS, MOST_SHAPES, Drawn, Shape, around, enough, named, wrong
from station.yaml_data import YamlData

Line = tuple[int, list[float]]
"""Its number in the file, from 1; class and places."""


def lines_of(data: bytes, where: str) -> list[Line]:
    """Return the lines that are not empty. Raises ConfigurationError."""
    try:
        lines = data.decode("utf-8-sig").split("\n", MOST_SHAPES + 1)  # what is beyond stays one line, and is too many
    except UnicodeDecodeError as error:
        raise wrong(where, "not a text file in UTF-8.") from error
    written = [(number, line.split(maxsplit=2 * MOST_CORNERS + 1)) for number, line in enumerate(lines, 1)]
    filled = [(number, words) for number, words in written if words]
    enough(filled, where)
    return [(number, _numbers(words, f"{where}:{number}")) for number, words in filled]


def drawn(lines: list[Line], names: dict[int, str], size_px: tuple[int, int], where: str) -> Drawn:
    """Return the shapes of the lines, by the names of the classes. Raises ConfigurationError."""
    return Drawn(None, tuple(_shape(values, names, size_px, f"{where}:{number}") for number, values in lines))


def _numbers(words: list[str], where: str) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise wrong(where, "no YOLO line: expected numbers only.") from error
    is_polygon = len(values) >= 7 and len(values) % 2 == 1 and len(values) <= 2 * MOST_CORNERS + 1
    if not (len(values) == 5 or is_polygon) or not words[0].isdecimal():
        raise wrong(where, "expected class x y width height, or class and at least three corners x y.")
    if not all(-0.01 <= value <= 1.01 for value in values[1:]):
        raise wrong(where, "expected places as shares of the picture, 0 to 1.")
    return values


def _shape(values: list[float], names: dict[int, str], size_px: tuple[int, int], where: str) -> Shape:
    number, places = int(values[0]), values[1:]
    if number not in names:
        raise wrong(where, f"class {number} has no name; {len(names)} are known.")
    width, height = size_px
    if len(places) == 4:
        x, y, half_width, half_height = places[0], places[1], places[2] / 2, places[3] / 2
        places = [x - half_width, y - half_height, x + half_width, y + half_height]
    corners = [(x * width, y * height) for x, y in zip(places[::2], places[1::2], strict=True)]
    return around(names[number], corners, where)


def listed_names(data: bytes, file: Path) -> dict[int, str]:
    """Return the names of classes.txt, by class. Raises ConfigurationError; `file` is for messages."""
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise wrong(str(file), "not a text file in UTF-8.") from error
    return {number: line.strip() for number, line in enumerate(lines)}


def yaml_names(raw: bytes, file: Path) -> dict[int, str]:
    """Return the names of data.yaml, by class. Raises ConfigurationError; `file` is for messages."""
    data: Any = YamlData(file, raw).data
    if isinstance(data, dict) and "kpt_shape" in data:
        raise wrong(str(file), "describes keypoints (kpt_shape); export boxes or segments.")
    names = data.get("names") if isinstance(data, dict) else None
    found = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(found, dict) or not all(str(number).isdecimal() for number in found):
        raise wrong(str(file), f"names: expected a list, or class: name; found {named(str(names))}.")
    return {int(number): str(name) for number, name in found.items()}
