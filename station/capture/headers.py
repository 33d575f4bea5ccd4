"""Width and height from the first bytes of a picture file, and whether its end is there. Pure: bytes in, numbers out.

JPEG, PNG, BMP and TIFF, told by their magic bytes. Reads no pixel, so a file that claims 65535 x 65535 costs nothing.
A file that is cut short, or is something else, raises HeaderProblem: the end of a sentence that begins with its name.
"""

import struct
from collections.abc import Callable, Iterator

JPEG_MAGIC = b"\xff\xd8\xff"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\x00\x00\x00\x00IEND\xaeB\x60\x82"
MAX_TIFF_ENTRIES = 4096
MAX_TIFF_STRIPS = 1_000_000

_SOF_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKERS_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_TIFF_FORMATS = {1: "B", 3: "H", 4: "I"}
_WIDTH, _HEIGHT, _STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES = 256, 257, 273, 279, 324, 325
_COMPRESSION, _UNCOMPRESSED = 259, 1


class HeaderProblem(ValueError):  # noqa: N818  not an error of the station: the gate turns it into a CaptureError
    """What is wrong with the file, as "is cut short"."""


def read_header(data: bytes) -> tuple[int, int]:
    """Return (width, height) in px of a JPEG, PNG, BMP or TIFF that is there to its end. Raises HeaderProblem."""
    if not data:
        raise HeaderProblem("is empty")
    try:
        width, height = _reader(data)(data)
    except (struct.error, IndexError) as error:
        raise HeaderProblem("is cut short in its header") from error
    if width < 1 or height < 1:
        raise HeaderProblem(f"says it is {width} x {height} px")
    return width, height


def _reader(data: bytes) -> Callable[[bytes], tuple[int, int]]:
    readers = ((JPEG_MAGIC, _jpeg), (PNG_MAGIC, _png), (b"BM", _bmp), (b"II*\x00", _tiff), (b"MM\x00*", _tiff))
    for magic, reader in readers:
        if data.startswith(magic):
            return reader
    raise HeaderProblem("is not a JPEG, PNG, BMP or TIFF picture")


def _jpeg(data: bytes) -> tuple[int, int]:
    # Cameras pad to full blocks with zeros; anything else behind the end marker is not the camera's.
    if not data.rstrip(b"\x00").endswith(b"\xff\xd9"):
        raise HeaderProblem("is a JPEG that is cut short: its end marker is missing")
    place = 2
    while True:
        if data[place] != 0xFF:
            raise HeaderProblem("is a damaged JPEG: a marker is missing")
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
        elif marker in _MARKERS_WITHOUT_LENGTH:
            place += 2
        elif marker in _SOF_MARKERS:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        elif marker in {0xD9, 0xDA}:
            raise HeaderProblem("is a JPEG without a size")
        else:
            place += 2 + int(struct.unpack_from(">H", data, place + 2)[0])


def _png(data: bytes) -> tuple[int, int]:
    length, kind, width, height = struct.unpack_from(">I4sII", data, len(PNG_MAGIC))
    if kind != b"IHDR" or length != 13:
        raise HeaderProblem("is a damaged PNG: it does not begin with its header")
    if not data.endswith(PNG_END):
        raise HeaderProblem("is a PNG that is cut short: its end chunk is missing")
    return width, height


def _bmp(data: bytes) -> tuple[int, int]:
    file_bytes, pixels_at, header_bytes, width, height = struct.unpack_from("<I4xIIii", data, 2)
    bits, compression = struct.unpack_from("<HI", data, 28)
    if header_bytes < 40:
        raise HeaderProblem("is a BMP of a kind that is not supported")
    # Rows are padded to 4 bytes. Compressed pixels (run lengths) have no size that the header could tell.
    needed = pixels_at + ((width * bits + 31) // 32 * 4) * abs(height) if compression in {0, 3} else pixels_at
    if max(file_bytes, needed) > len(data):
        raise HeaderProblem(f"is a BMP that is cut short: {max(file_bytes, needed)} bytes declared, {len(data)} there")
    return width, abs(height)


def _tiff(data: bytes) -> tuple[int, int]:
    order = "<" if data.startswith(b"II") else ">"
    fields = dict(_tiff_fields(data, order))
    if not fields.get(_WIDTH) or not fields.get(_HEIGHT):
        raise HeaderProblem("is a TIFF without a size")
    if fields.get(_COMPRESSION, (_UNCOMPRESSED,)) != (_UNCOMPRESSED,):
        # OpenCV gives damaged strips as if they were whole
        raise HeaderProblem("is a compressed TIFF, in which damage cannot be seen: let the camera write PNG or JPEG")
    places = fields.get(_STRIP_OFFSETS) or fields.get(_TILE_OFFSETS) or ()
    lengths = fields.get(_STRIP_BYTES) or fields.get(_TILE_BYTES) or ()
    if not places or len(places) != len(lengths):
        raise HeaderProblem("is a damaged TIFF: its pixels are not described")
    if max(place + length for place, length in zip(places, lengths, strict=True)) > len(data):
        raise HeaderProblem("is a TIFF that is cut short: its pixels are not all there")
    return fields[_WIDTH][0], fields[_HEIGHT][0]


def _tiff_fields(data: bytes, order: str) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield (tag, values) of the first directory's fields that hold whole numbers."""
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, directory)
    if entries > MAX_TIFF_ENTRIES:
        raise HeaderProblem("is a damaged TIFF: its directory is too long")
    end = directory + 2 + 12 * entries
    if struct.unpack_from(order + "I", data, end)[0]:
        raise HeaderProblem("is a TIFF of several pages: one picture a file")
    for entry in range(directory + 2, end, 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, entry)
        letter = _TIFF_FORMATS.get(kind)
        if letter is None or count > MAX_TIFF_STRIPS:
            continue
        form = f"{order}{count}{letter}"
        fits = struct.calcsize(form) <= 4
        at = entry + 8 if fits else struct.unpack_from(order + "I", data, entry + 8)[0]
        yield tag, struct.unpack_from(form, data, at)
