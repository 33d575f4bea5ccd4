"""Reads what was drawn on a picture with an annotation tool: COCO, labelme, CVAT or YOLO, told by what is in the file.

In: the file, the picture's name and size. Out: `Shape`s within the picture, or ConfigurationError with what is wrong.
"""

from pathlib import Path

from calibration import shapes_cvat, shapes_json, shapes_yolo
from calibration.shapes import Shape, shapes_of, wrong
from station.errors import ConfigurationError

MAX_BYTES = 32 * 2**20
"""A labelme file may hold the picture as well."""


def read_shapes(path: Path, picture_name: str, size_px: tuple[int, int]) -> tuple[Shape, ...]:
    """Return the shapes on the picture of that file name and size (width, height). Raises ConfigurationError."""
    data, where = _bytes(path), str(path)
    match data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]:
        case b"{" | b"[":
            drawn = shapes_json.read(data.removeprefix(b"\xef\xbb\xbf"), picture_name, where)
        case b"<":
            drawn = shapes_cvat.read(data, picture_name, where)
        case _:
            drawn = shapes_yolo.read(data, size_px, path)
    return shapes_of(drawn, size_px, where)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror}."]) from error
    if len(data) > MAX_BYTES:
        raise wrong(
            str(path), f"has more than {MAX_BYTES // 2**20} MiB. Save it without the picture, for this one alone."
        )
    return data
