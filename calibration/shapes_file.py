"""Reads what was drawn on a picture with an annotation tool: COCO, labelme, CVAT or YOLO, told by what is in the file.

In: the file, the picture's name and size; for YOLO also the file that names the classes. Out: `Shape`s within the
picture, or ConfigurationError with what is wrong.
"""

from pathlib import Path

from calibration import shapes_cvat, shapes_json, shapes_yolo
from calibration.shapes import Shape, shapes_of, wrong
from station.errors import ConfigurationError

MAX_BYTES = 32 * 2**20
"""A labelme file may hold the picture as well."""
MAX_NAMES_BYTES = 2**20
FOLDERS_ABOVE = 3
"""Where classes.txt or data.yaml is looked for, when it is not beside a YOLO file."""


def read_shapes(path: Path, picture_name: str, size_px: tuple[int, int]) -> tuple[Shape, ...]:
    """Return the shapes on the picture of that file name and size (width, height). Raises ConfigurationError."""
    too_large = f"has more than {MAX_BYTES // 2**20} MiB. Save it without the picture, for this one alone."
    data, where = _bytes(path, MAX_BYTES, too_large), str(path)
    match data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]:
        case b"{" | b"[":
            drawn = shapes_json.read(data.removeprefix(b"\xef\xbb\xbf"), picture_name, where)
        case b"<":
            drawn = shapes_cvat.read(data, picture_name, where)
        case _:
            lines = shapes_yolo.lines_of(data, where)
            drawn = shapes_yolo.drawn(lines, _class_names(path) if lines else {}, size_px, where)
    return shapes_of(drawn, size_px, where)


def _class_names(path: Path) -> dict[int, str]:
    """Return the names of a YOLO file's classes. Raises ConfigurationError where there are none."""
    for folder in list(path.absolute().parents)[: FOLDERS_ABOVE + 1]:
        for name, reader in (("classes.txt", shapes_yolo.listed_names), ("data.yaml", shapes_yolo.yaml_names)):
            file = folder / name
            if file.is_file() and file != path.absolute():
                return reader(_bytes(file, MAX_NAMES_BYTES, "is larger than any list of names."), file)
    raise wrong(
        str(path), "the names of its classes are missing: put classes.txt, a name a line, or data.yaml beside it."
    )


def _bytes(path: Path, most: int, too_large: str) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror}."]) from error
    if len(data) > most:
        raise wrong(str(path), too_large)
    return data
