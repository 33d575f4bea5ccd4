"""The gate lets whole pictures of the right size through, and nothing else."""

import struct

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.capture.gate import CaptureLimits, check_size, declared_size, decode
from station.capture.headers import HeaderProblem, read_header
from station.errors import CaptureError
from station.records import Reason
from tests.pictures import draw_part, encoded

LIMITS = CaptureLimits(max_file_bytes=4_000_000, max_pixels=1_000_000)
PART = draw_part()
FILES = {ending: encoded(PART, ending) for ending in (".jpg", ".png", ".bmp", ".tiff")}
ENDINGS = pytest.mark.parametrize("ending", FILES)


def gate(data: bytes) -> tuple[int, int]:
    return declared_size("a.jpg", data, len(data), LIMITS)


def reason_of(data: bytes) -> Reason:
    with pytest.raises(CaptureError) as caught:
        gate(data)
    assert caught.value.hint
    assert "a.jpg" in caught.value.message
    return caught.value.reason


@ENDINGS
def test_a_whole_picture_passes_with_its_size(ending: str) -> None:
    assert gate(FILES[ending]) == (800, 600)
    assert decode("a", FILES[ending], (800, 600)).shape == (600, 800, 3)


@ENDINGS
@pytest.mark.parametrize("share", [0.0, 0.0001, 0.1, 0.5, 0.9, 0.99999])
def test_a_picture_cut_short_is_unreadable(ending: str, share: float) -> None:
    assert reason_of(FILES[ending][: int(len(FILES[ending]) * share)]) is Reason.IMAGE_UNREADABLE


def test_a_jpeg_may_be_padded_with_zeros_but_with_nothing_else() -> None:
    assert gate(FILES[".jpg"] + bytes(512)) == (800, 600)
    assert reason_of(FILES[".jpg"] + b"MORE") is Reason.IMAGE_UNREADABLE


@pytest.mark.parametrize(
    "data", [b"GIF89a" + bytes(99), b"RIFF\0\0\0\0WEBP", b"\x7fELF", b"GGUF", b"%PDF-1.7", b"#!/bin/sh"]
)
def test_what_is_no_picture_is_unreadable_whatever_its_name(data: bytes) -> None:
    assert reason_of(data) is Reason.IMAGE_UNREADABLE


def test_a_file_above_the_limit_is_unreadable_without_being_read() -> None:
    with pytest.raises(CaptureError, match="max_file_mib") as caught:
        declared_size("a.jpg", b"", 4_000_001, LIMITS)
    assert caught.value.reason is Reason.IMAGE_UNREADABLE


def test_a_header_that_claims_more_pixels_than_the_limit_is_refused_before_decoding() -> None:
    data = bytearray(FILES[".png"])
    data[16:24] = struct.pack(">II", 65_535, 65_535)
    assert reason_of(bytes(data)) is Reason.IMAGE_WRONG_SIZE


@pytest.mark.parametrize("size", [(63, 800), (800, 63), (1, 1)])
def test_a_tiny_picture_is_refused(size: tuple[int, int]) -> None:
    assert reason_of(encoded(np.zeros((*size, 3), np.uint8), ".png")) is Reason.IMAGE_WRONG_SIZE


def test_a_picture_that_says_it_has_no_pixels_is_unreadable() -> None:
    data = bytearray(FILES[".png"])
    data[16:20] = bytes(4)
    assert reason_of(bytes(data)) is Reason.IMAGE_UNREADABLE


def test_another_size_than_the_golden_picture_is_refused() -> None:
    check_size("a", (800, 600), (800, 600))
    with pytest.raises(CaptureError, match="800 x 600") as caught:
        check_size("a", (600, 800), (800, 600))
    assert caught.value.reason is Reason.IMAGE_WRONG_SIZE


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_damage_behind_a_right_header_is_unreadable(ending: str) -> None:
    """OpenCV alone shows a JPEG with a hole as if it were whole."""
    data = FILES[ending]
    middle = len(data) // 2
    with pytest.raises(CaptureError) as caught:
        decode("a", data[:middle] + bytes(64) + data[middle + 64 :], (800, 600))
    assert caught.value.reason is Reason.IMAGE_UNREADABLE


def test_a_compressed_tiff_is_refused_since_damage_in_it_cannot_be_seen() -> None:
    done, data = cv2.imencode(".tiff", PART, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    assert done
    with pytest.raises(HeaderProblem, match="compressed TIFF"):
        read_header(data.tobytes())


def test_a_tiff_of_several_pages_is_refused() -> None:
    done, data = cv2.imencodemulti(".tiff", [PART, PART], [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    assert done
    with pytest.raises(HeaderProblem, match="several pages"):
        read_header(data.tobytes())


def test_pixels_of_another_size_than_the_header_says_are_refused() -> None:
    with pytest.raises(CaptureError):
        decode("a", FILES[".png"], (600, 800))


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_either_byte_order_is_read(order: str) -> None:
    mark = b"II*\x00" if order == "<" else b"MM\x00*"
    entries = [(256, 4, 100), (257, 4, 80), (273, 4, 200), (279, 4, 50)]
    directory = struct.pack(order + "H", len(entries)) + b"".join(
        struct.pack(order + "HHII", t, k, 1, v) for t, k, v in entries
    )
    data = (mark + struct.pack(order + "I", 8) + directory).ljust(250, b"\0")
    assert read_header(data) == (100, 80)
    with pytest.raises(HeaderProblem, match="cut short"):
        read_header(data[:-1])


def test_a_top_down_bmp_has_a_positive_height() -> None:
    data = bytearray(FILES[".bmp"])
    data[22:26] = struct.pack("<i", -600)
    assert gate(bytes(data)) == (800, 600)


@given(st.sampled_from(sorted(FILES)), st.integers(0, 200), st.binary(max_size=40))
def test_no_damage_in_the_header_raises_anything_but_a_header_problem(ending: str, place: int, junk: bytes) -> None:
    data = FILES[ending][:place] + junk + FILES[ending][place + len(junk) :]
    try:
        width, height = read_header(data)
    except HeaderProblem:
        return
    assert width > 0
    assert height > 0


def test_exif_orientation_is_ignored() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = FILES[".jpg"][:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + FILES[".jpg"][2:]
    turned = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert turned is not None
    assert turned.shape == (800, 600, 3)
    assert decode("a", data, gate(data)).shape == (600, 800, 3)
