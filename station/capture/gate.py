"""The gate: is this file a whole picture of the camera's size, and if so, its pixels.

In: the bytes of a file. Out: BGR pixels, or CaptureError (IMAGE_UNREADABLE, IMAGE_WRONG_SIZE) with what to do.
The magic bytes say what a file is, never its name. Header and trailer are checked before OpenCV sees a byte, so that a
small file cannot make it allocate gigabytes. No I/O; runs in capture's one thread.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from station.capture.headers import JPEG_MAGIC, HeaderProblem, read_header
from station.errors import CaptureError
from station.records import Reason

MIN_SIDE_PX = 64
LOOK_AT_CAMERA = "Look at the camera's export and at the disk; the file is kept in quarantine."

Image = NDArray[np.uint8]
"""(height, width, 3) uint8, BGR as OpenCV gives it, unless a name says grey."""


@dataclass(frozen=True)
class CaptureLimits:
    """Largest file and picture that are looked at."""

    max_file_bytes: int
    max_pixels: int


def declared_size(name: str, data: bytes, size_bytes: int, limits: CaptureLimits) -> tuple[int, int]:
    """Return (width, height) of a picture file that is there to its end and within the limits. Raises CaptureError.

    `size_bytes` is the size of the file on disk; of a file above the limit `data` need not be given.
    """
    if size_bytes > limits.max_file_bytes:
        raise _unreadable(
            f"{name!r} has {size_bytes} bytes, more than the limit of {limits.max_file_bytes}.",
            "Raise capture.max_file_mib if the camera really writes such pictures.",
        )
    try:
        width, height = read_header(data)
    except HeaderProblem as problem:
        raise _unreadable(f"{name!r} {problem}.", LOOK_AT_CAMERA) from problem
    if width * height > limits.max_pixels:
        raise CaptureError(
            Reason.IMAGE_WRONG_SIZE,
            f"{name!r} is {width} x {height} px, more than the limit of {limits.max_pixels} px.",
            "Raise capture.max_megapixels if the camera really makes such pictures.",
        )
    if min(width, height) < MIN_SIDE_PX:
        raise CaptureError(
            Reason.IMAGE_WRONG_SIZE,
            f"{name!r} is {width} x {height} px; {MIN_SIDE_PX} px a side are the least.",
            "Set the camera to the golden picture's size.",
        )
    return width, height


def check_size(name: str, size: tuple[int, int], golden_size: tuple[int, int]) -> None:
    """Raise CaptureError if a picture's (width, height) is not that of the golden picture."""
    if size != golden_size:
        raise CaptureError(
            Reason.IMAGE_WRONG_SIZE,
            f"{name!r} is {size[0]} x {size[1]} px, the golden picture is {golden_size[0]} x {golden_size[1]} px.",
            "Set the camera to the golden picture's size, or teach the recipe again with this camera.",
        )


def decode(name: str, data: bytes, size: tuple[int, int]) -> Image:
    """Return the pixels, BGR, of a picture whose header declares `size`. Raises CaptureError.

    EXIF orientation is ignored: the camera is mounted, not held.
    """
    if data.startswith(JPEG_MAGIC):
        return _decode_jpeg(name, data, size)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise _unreadable(f"{name!r} cannot be decoded: {error.err or error}.", LOOK_AT_CAMERA) from error
    if pixels is None or pixels.shape != (size[1], size[0], 3):
        raise _unreadable(f"{name!r} cannot be decoded: its content is damaged.", LOOK_AT_CAMERA)
    return np.asarray(pixels, np.uint8)


def _decode_jpeg(name: str, data: bytes, size: tuple[int, int]) -> Image:
    """OpenCV shows a JPEG with a hole in it as if it were whole; simplejpeg refuses what libjpeg only warns of."""
    try:
        pixels = simplejpeg.decode_jpeg(data, "BGR", strict=True)
    except ValueError as error:
        raise _unreadable(f"{name!r} cannot be decoded: {error}.", LOOK_AT_CAMERA) from error
    if pixels.shape != (size[1], size[0], 3):
        raise _unreadable(f"{name!r} cannot be decoded: its content is damaged.", LOOK_AT_CAMERA)
    return np.asarray(pixels, np.uint8)


def _unreadable(message: str, hint: str) -> CaptureError:
    return CaptureError(Reason.IMAGE_UNREADABLE, message, hint)
