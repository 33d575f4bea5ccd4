"""Malformed picture files, made from a good part picture that would be OK: whatever is wrong must be noticed.

`refused()` must never pass; `harmless()` are files with something odd that a decoder cannot or need not notice (another
compression, a bit in the pixels): they may get any verdict, but must not end or slow down the station.
"""

import io
import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import PngImagePlugin

from tests.pictures import Image, Pose, draw_part, encoded

PART = draw_part(Pose(12, -8, 2))
HEIGHT, WIDTH = PART.shape[:2]
ENDINGS = (".jpg", ".png", ".bmp", ".tiff")


def saved(image: Image, form: str, mode: str = "RGB", **options: object) -> bytes:
    """Return the picture as Pillow writes it."""
    out = io.BytesIO()
    Pillow.fromarray(image[:, :, ::-1]).convert(mode).save(out, form, **options)
    return out.getvalue()


def refused() -> Iterator[tuple[str, bytes]]:
    """Yield (kind, file) of what must not be OK."""
    for ending in ENDINGS:
        yield from _damaged(ending, encoded(PART, ending))
    yield from _headers()
    yield from _other_formats()
    yield from _wrong_pictures()


def harmless() -> Iterator[tuple[str, bytes]]:
    """Yield (kind, file) of what is odd and may pass."""
    jpeg = encoded(PART, ".jpg")
    yield "progressive", saved(PART, "JPEG", progressive=True)
    yield "CMYK", saved(PART, "JPEG", "CMYK")
    yield "grey JPEG", saved(PART, "JPEG", "L")
    yield "palette PNG", saved(PART, "PNG", "P")
    yield "1 bit PNG", saved(PART, "PNG", "1")
    yield "alpha PNG", saved(PART, "PNG", "RGBA")
    yield "LZW TIFF", saved(PART, "TIFF", compression="tiff_lzw")
    yield "zeros behind", jpeg + bytes(4096)
    for orientation in range(2, 9):
        exif = Pillow.Exif()
        exif[0x0112] = orientation
        yield f"EXIF orientation {orientation}", saved(PART, "JPEG", exif=exif)
    yield "broken ICC profile", saved(PART, "JPEG", icc_profile=b"not a profile" * 10)
    text = PngImagePlugin.PngInfo()
    text.add_text("bomb", "0" * 50_000_000, zip=True)
    yield "zTXt bomb", saved(PART, "PNG", pnginfo=text)
    for place in (0.3, 0.5, 0.7, 0.9):
        at = int(len(jpeg) * place)
        yield f"JPEG bit flip at {place:.0%}", jpeg[:at] + bytes([jpeg[at] ^ 4]) + jpeg[at + 1 :]


def _damaged(ending: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    name = ending[1:]
    for size in (0, 1, 2, 4, 8, 16, 24, 32):
        yield f"{name}: {size} bytes", data[:size]
    for share in (0.1, 0.25, 0.5, 0.75, 0.9, 0.99):
        yield f"{name}: cut at {share:.0%}", data[: int(len(data) * share)]
    yield f"{name}: last byte missing", data[:-1]
    yield f"{name}: garbage in front", b"garbage" + data
    yield f"{name}: magic destroyed", b"\x00\x00\x00\x00" + data[4:]
    yield f"{name}: all zeros", bytes(len(data))
    yield f"{name}: all ones", b"\xff" * len(data)
    yield f"{name}: zeros after the header", data[:64] + bytes(len(data) - 64)


def _headers() -> Iterator[tuple[str, bytes]]:
    png, jpeg, bmp = encoded(PART, ".png"), encoded(PART, ".jpg"), encoded(PART, ".bmp")
    for width, height in ((65535, 65535), (0, 0), (1, 100_000), (100_000, 1), (2**31 - 1, 2**31 - 1), (WIDTH, 0)):
        chunk = b"IHDR" + struct.pack(">II", width, height) + png[24:29]
        yield f"png: {width} x {height}", png[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]
    frame = jpeg.index(b"\xff\xc0")
    for width, height in ((65535, 65535), (0, 0), (WIDTH, 0), (0, HEIGHT), (WIDTH, 65535)):
        yield f"jpg: {width} x {height}", jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :]
    for width, height in ((2**31 - 1, 2**31 - 1), (0, 0), (-WIDTH, HEIGHT), (WIDTH, 10 * HEIGHT)):
        yield f"bmp: {width} x {height}", bmp[:18] + struct.pack("<ii", width, height) + bmp[26:]
    yield "png: wrong sum", png[:29] + b"\x00\x00\x00\x00" + png[33:]
    yield "png: header twice cut", png[:33] + png[:33]
    yield "png: no IDAT", png[:33] + png[-12:]
    yield "png: garbage behind", png + b"garbage"
    yield "jpg: no frame", jpeg[:20] + b"\xff\xd9"
    yield "jpg: ends at once", b"\xff\xd8\xff\xd9"
    yield "jpg: endless fill", b"\xff\xd8" + b"\xff" * 100_000 + b"\xff\xd9"
    yield "jpg and zip", jpeg + b"PK\x03\x04" + bytes(100) + b"PK\x05\x06"
    yield "jpg: arithmetic", jpeg.replace(b"\xff\xc0", b"\xff\xc9", 1)
    yield "jpg: 12 bit", jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :]
    yield "tiff: endless directory", b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 0xFFFF) + bytes(12)
    yield "tiff: directory in itself", b"II*\x00\x04\x00\x00\x00" * 100
    yield "tiff: directory outside", b"II*\x00\xff\xff\xff\xff" + bytes(100)
    yield "tiff: big", b"II+\x00\x08\x00\x00\x00" + bytes(100)


def _other_formats() -> Iterator[tuple[str, bytes]]:
    for form in ("GIF", "WEBP", "PPM", "TGA", "PCX", "JPEG2000", "ICO", "EPS", "PDF", "SGI"):
        yield f"{form} named .jpg", saved(PART, form)
    yield "APNG", saved(PART, "PNG", save_all=True, append_images=[Pillow.new("RGB", (WIDTH, HEIGHT))])[:-20]
    yield "script", b"#!/bin/sh\nrm -rf /\n"
    yield "ELF", b"\x7fELF" + bytes(1000)
    yield "GGUF", b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60)
    yield "SVG", b"<svg xmlns='http://www.w3.org/2000/svg' width='800' height='600'/>"
    yield "PSD", b"8BPS" + bytes(1000)
    yield "FITS", b"SIMPLE  =                    T" + bytes(3000)
    yield "HEIC", b"\x00\x00\x00\x18ftypheic" + bytes(1000)
    yield "gzip", b"\x1f\x8b\x08\x00" + bytes(100)


def _wrong_pictures() -> Iterator[tuple[str, bytes]]:
    black = np.zeros_like(PART)
    yield "all black", encoded(black)
    yield "all white", encoded(np.full_like(PART, 255))
    yield "noise", encoded(np.random.default_rng(1).integers(0, 256, PART.shape, dtype=np.uint8))
    yield "upside down", encoded(np.ascontiguousarray(PART[::-1, ::-1]))
    yield "mirrored", encoded(np.ascontiguousarray(PART[:, ::-1]))
    yield "half black", encoded(np.where(np.arange(HEIGHT)[:, None, None] < HEIGHT // 2, PART, 0).astype(np.uint8))
    bmp = encoded(PART, ".bmp")
    yield "BMP with a tail of zeros", bmp[: len(bmp) // 2] + bytes(len(bmp) - len(bmp) // 2)
    for size in (
        (WIDTH // 2, HEIGHT // 2),
        (WIDTH + 1, HEIGHT),
        (WIDTH, HEIGHT - 1),
        (HEIGHT, WIDTH),
        (1, 1),
        (64, 64),
    ):
        yield f"{size[0]} x {size[1]}", encoded(np.asarray(cv2.resize(PART, size), np.uint8))
