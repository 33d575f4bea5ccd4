"""Reads shapes from a YOLO label file: one line a shape, "class x y width height" or "class x y x y x y ...", 0 to 1.

The names of the classes are in classes.txt (one a line) or data.yaml (`names`), beside the file or in one of the three
folders above it. Turned boxes and segments are polygons.
"""

from pathlib import Path
from typing import Any

from calibration.shapes import MOST_CORNERS, MOST_SHAPES, Drawn, Shape, around, enough, named, wrong
from station.errors import ConfigurationError
from station.yaml_data import YamlData

FOLDERS_ABOVE = 3
MAX_NAMES_BYTES = 2**20


def read(data: bytes, size_px: tuple[int, int], path: Path) -> Drawn:
    """Return the shapes. Raises ConfigurationError."""
    try:
        lines = data.decode("utf-8-sig").split("\n", MOST_SHAPES + 1)  # what is beyond stays one line, and is too many
    except UnicodeDecodeError as error:
        raise wrong(str(path), "not a text file in UTF-8.") from error
    written = [(number, line.split(maxsplit=2 * MOST_CORNERS + 1)) for number, line in enumerate(lines, 1)]
    filled = [(number, words) for number, words in written if words]
    enough(filled, str(path))
    numbers = [_numbers(words, f"{path}:{number}") for number, words in filled]
    names = _names(path) if numbers else {}
    return Drawn(
        None,
        tuple(
            _shape(values, names, size_px, f"{path}:{number}")
            for (number, _), values in zip(filled, numbers, strict=True)
        ),
    )


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


def _names(path: Path) -> dict[int, str]:
    for folder in list(path.absolute().parents)[: FOLDERS_ABOVE + 1]:
        for name, reader in (("classes.txt", _listed), ("data.yaml", _from_yaml)):
            file = folder / name
            if file.is_file() and file != path.absolute():
                return reader(file)
    raise wrong(
        str(path), "the names of its classes are missing: put classes.txt, a name a line, or data.yaml beside it."
    )


def _listed(file: Path) -> dict[int, str]:
    try:
        lines = _bytes(file).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise wrong(str(file), "not a text file in UTF-8.") from error
    return {number: line.strip() for number, line in enumerate(lines)}


def _from_yaml(file: Path) -> dict[int, str]:
    data: Any = YamlData(file, _bytes(file)).data
    if isinstance(data, dict) and "kpt_shape" in data:
        raise wrong(str(file), "describes keypoints (kpt_shape); export boxes or segments.")
    names = data.get("names") if isinstance(data, dict) else None
    found = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(found, dict) or not all(str(number).isdecimal() for number in found):
        raise wrong(str(file), f"names: expected a list, or class: name; found {named(str(names))}.")
    return {int(number): str(name) for number, name in found.items()}


def _bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_NAMES_BYTES + 1)
    except OSError as error:
        raise ConfigurationError([f"{file}: cannot be read: {error.strerror}."]) from error
    if len(data) > MAX_NAMES_BYTES:
        raise wrong(str(file), "is larger than any list of names.")
    return data
