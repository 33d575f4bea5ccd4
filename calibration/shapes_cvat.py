"""Reads shapes from CVAT's XML "for images 1.1". Pure; expat, without a tree.

A document type is refused: with it go entities and everything that makes a small file large. Shapes that are no area
are refused by name.
"""

from xml.parsers import expat

from calibration.shapes import MOST_CORNERS, Corner, Drawn, Shape, around, enough, named, turned, wrong
from calibration.shapes_json import named_picture

MOST_PICTURES = 10_000
MAX_DEPTH = 20
_PASSED_OVER = frozenset({"tag"})
"""What is said of the whole picture."""


class _Picture:
    def __init__(self, width: int, height: int) -> None:
        self.size_px = (width, height)
        self.shapes: list[Shape] = []


class _Reader:
    """Takes the elements as they come; raises ConfigurationError at the first that is wrong."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._open: list[str] = []
        self._at: _Picture | None = None
        self.pictures: dict[str, _Picture] = {}

    def start(self, tag: str, values: dict[str, str]) -> None:
        """Take an element's beginning."""
        place, self._open = len(self._open), [*self._open, tag]
        if place >= MAX_DEPTH:
            raise wrong(self._where, f"nested deeper than {MAX_DEPTH} levels.")
        if place == 0 and tag != "annotations":
            raise wrong(self._where, f"XML of <{tag[:30]}>; expected CVAT's <annotations>.")
        if place == 1 and tag == "track":
            raise wrong(self._where, "is CVAT for video; export it as CVAT for images 1.1.")
        if place == 1 and tag == "image":
            self._begin(values)
        elif place == 2 and self._open[1] == "image" and tag not in _PASSED_OVER and self._at is not None:
            self._at.shapes.append(_shape(tag, values, self._where))
            enough(self._at.shapes, self._where)

    def end(self, _tag: str) -> None:
        """Take an element's end."""
        self._open.pop()

    def refuse(self, *_: object) -> None:
        """Refuse a document type."""
        raise wrong(self._where, "has a document type (<!DOCTYPE>), which no annotation needs.")

    def _begin(self, values: dict[str, str]) -> None:
        name = values.get("name", "")
        if name in self.pictures or len(self.pictures) >= MOST_PICTURES:
            raise wrong(self._where, f"picture {named(name)} twice, or more than {MOST_PICTURES} pictures.")
        width, height = (int(_number(values, key, self._where)) for key in ("width", "height"))
        self._at = self.pictures[name] = _Picture(width, height)


def read(data: bytes, name: str, where: str) -> Drawn:
    """Return what is drawn on the picture of that file name. Raises ConfigurationError."""
    reader, parser = _Reader(where), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.StartDoctypeDeclHandler = reader.refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise wrong(where, f"not XML: {str(error)[:100]}.") from error
    picture = named_picture(reader.pictures, name, where)
    return Drawn(picture.size_px, tuple(picture.shapes))


def _shape(tag: str, values: dict[str, str], where: str) -> Shape:
    label = values.get("label", "")
    match tag:
        case "box":
            left, top, right, bottom = (_number(values, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
            corners = turned(left, top, right, bottom, _number(values, "rotation", where, "0"))
        case "ellipse":
            x, y, half_width, half_height = (_number(values, key, where) for key in ("cx", "cy", "rx", "ry"))
            box = x - half_width, y - half_height, x + half_width, y + half_height
            corners = turned(*box, degrees=_number(values, "rotation", where, "0"))
        case "polygon":
            corners = _points(values, where)
        case "points" if ";" not in values.get("points", ""):
            corners = _points(values, where)
        case _:
            raise wrong(
                where,
                f"{named(label)}: a <{tag[:30]}> is no region; expected a box, polygon, ellipse or single point.",
            )
    return around(label, corners, where)


def _points(values: dict[str, str], where: str) -> list[Corner]:
    texts = values.get("points", "").split(";", MOST_CORNERS)
    try:
        return [(float(x), float(y)) for x, y in (text.split(",") for text in texts)]
    except ValueError as error:
        raise wrong(where, f"points: expected x,y;x,y... and at most {MOST_CORNERS} of them.") from error


def _number(values: dict[str, str], key: str, where: str, default: str = "") -> float:
    text = values.get(key, default)
    try:
        return float(text)
    except ValueError as error:
        raise wrong(where, f"{key}: found {named(text)}; expected a number.") from error
