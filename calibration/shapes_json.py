"""Reads shapes from JSON: COCO's instances and labelme's files. Pure; msgspec checks the form.

What is not needed is skipped unread. A shape that is no area (a line, a mask without a box) is refused by name.
"""

import math
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from calibration.shapes import MOST_CORNERS, MOST_SHAPES, Corner, Drawn, Shape, around, enough, named, turned, wrong

Side = Annotated[int, Meta(ge=1, le=1_000_000)]
Four = Annotated[list[float], Meta(min_length=4, max_length=4)]
Flat = Annotated[list[float], Meta(min_length=6, max_length=2 * MOST_CORNERS)]
Polygons = Annotated[list[Flat], Meta(max_length=MOST_SHAPES)]
T = TypeVar("T")


class _Image(Struct):
    id: int | str
    file_name: str
    width: Side | None = None
    height: Side | None = None


class _Category(Struct):
    id: int
    name: str


class _Attributes(Struct):
    rotation: float = 0.0
    """Degrees, clockwise: how CVAT writes a turned box."""


class _Annotation(Struct):
    image_id: int | str
    category_id: int
    bbox: Four | None = None
    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    """Polygons, or a mask."""
    attributes: msgspec.Raw = msgspec.Raw(b"null")


class _Coco(Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


class _Drawing(Struct):
    label: str
    points: Annotated[list[Annotated[list[float], Meta(min_length=2, max_length=2)]], Meta(max_length=MOST_CORNERS)]
    shape_type: str | None = None
    """Old files have none: then it is a polygon."""


class _Labelme(Struct):
    shapes: list[_Drawing]
    imageWidth: Side | None = None  # noqa: N815 - the file's name for it
    imageHeight: Side | None = None  # noqa: N815


class _Kind(Struct):
    shapes: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    annotations: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def read(data: bytes, name: str, where: str) -> Drawn:
    """Return what is drawn on the picture of that file name. Raises ConfigurationError."""
    kind = _decoded(data, _Kind, where)
    if kind.shapes is not msgspec.UNSET:
        return _labelme(_decoded(data, _Labelme, where), where)
    if kind.annotations is not msgspec.UNSET:
        return _coco(_decoded(data, _Coco, where), name, where)
    raise wrong(where, "JSON, but neither COCO (annotations) nor labelme (shapes).")


def _decoded(data: bytes | msgspec.Raw, form: Any, where: str) -> Any:
    try:
        return msgspec.json.decode(data, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise wrong(where, f"not as expected: {str(error)[:200]}.") from error


def _labelme(file: _Labelme, where: str) -> Drawn:
    enough(file.shapes, where)
    size = (file.imageWidth, file.imageHeight) if file.imageWidth and file.imageHeight else None
    return Drawn(size, tuple(around(one.label, _corners(one, where), where) for one in file.shapes))


def _corners(one: _Drawing, where: str) -> list[Corner]:
    points: list[Corner] = [(x, y) for x, y in one.points]
    match one.shape_type or "polygon", len(points):
        case ("rectangle", 2 | 4) | ("oriented_rectangle", 4) | ("point", 1):
            return points
        case "polygon", count if count >= 3:
            return points
        case "circle", 2:
            (x, y), edge = points[0], math.dist(points[0], points[1])
            return [(x - edge, y - edge), (x + edge, y + edge)]
        case kind, count:
            raise wrong(
                where,
                f"{named(one.label)}: a {kind[:30]} of {count} points is no region; expected a rectangle, polygon,"
                " circle or point.",
            )


def _coco(file: _Coco, name: str, where: str) -> Drawn:
    image = named_picture({one.file_name: one for one in file.images}, name, where)
    found = [one for one in file.annotations if one.image_id == image.id]
    enough(found, where)
    labels = {one.id: one.name for one in file.categories}
    for one in found:
        if one.category_id not in labels:
            raise wrong(where, f"category_id {one.category_id} is not in categories.")
    size = (image.width, image.height) if image.width and image.height else None
    return Drawn(size, tuple(_coco_shape(one, labels[one.category_id], where) for one in found))


def _coco_shape(one: _Annotation, label: str, where: str) -> Shape:
    if one.bbox is not None:
        x, y, width, height = one.bbox
        if width < 0 or height < 0:
            raise wrong(where, f"{named(label)}: bbox has a negative side.")
        attributes = _decoded(one.attributes, _Attributes | None, where) or _Attributes()
        return around(label, turned(x, y, x + width, y + height, attributes.rotation), where)
    if not bytes(one.segmentation).startswith(b"["):
        raise wrong(where, f"{named(label)}: neither bbox nor polygons; a mask alone is no region.")
    polygons = _decoded(one.segmentation, Polygons, where)
    return around(label, [pair for flat in polygons for pair in zip(flat[::2], flat[1::2], strict=False)], where)


def named_picture(pictures: dict[str, T], name: str, where: str) -> T:
    """Return the picture of that file name, folders aside; without one the only picture. Raises ConfigurationError."""
    same = [one for path, one in pictures.items() if path.replace("\\", "/").rpartition("/")[2] == name]
    if len(same) == 1:
        return same[0]
    if len(pictures) == 1:
        return next(iter(pictures.values()))
    known = ", ".join(named(path) for path in list(pictures)[:5]) or "no others"
    raise wrong(where, f"{len(same) or 'none'} of its {len(pictures)} pictures is named {name}; there are {known}.")
