"""Reads a GGUF file back, without the library that wrote it: a proof needs a second pair of eyes, and less memory.

`read_head` returns metadata and the places of the tensors, `Stored.rows` the values of rows as float32.
"""

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import gguf
import numpy as np
from checked_json import ExportError
from gguf import GGMLQuantizationType as Kind
from weights import Floats

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32


@dataclass(frozen=True)
class Stored:
    """One tensor of the file."""

    file: Path
    name: str
    kind: Kind
    shape: tuple[int, ...]
    """As numpy has it: rows first."""
    start: int

    @property
    def row_bytes(self) -> int:
        """Bytes in one row, everything but the first dimension."""
        block, size = gguf.GGML_QUANT_SIZES[self.kind]
        return int(np.prod(self.shape[1:], dtype=np.int64)) // block * size

    def rows(self, start: int, stop: int) -> Floats:
        """Return rows as float32. A vector's rows are its values."""
        one = self.row_bytes
        raw = np.fromfile(self.file, np.uint8, (stop - start) * one, offset=self.start + start * one)
        if len(raw) != (stop - start) * one:
            raise ExportError("V0", f"{self.file} ends before its last tensor.", "The disk may be full or failing.")
        if self.kind in (Kind.F16, Kind.F32):
            values = raw.view(np.float16 if self.kind is Kind.F16 else np.float32).astype(np.float32)
        else:
            values = gguf.dequantize(raw.reshape(stop - start, -1), self.kind)
        return values.reshape(stop - start, *self.shape[1:])


def read_head(file: Path) -> tuple[dict[str, object], dict[str, Stored]]:
    """Return metadata and tensors of a GGUF file. Raises ExportError V0."""
    try:
        with file.open("rb") as stream:
            return _Head(file, stream).read()
    except (struct.error, ValueError, KeyError) as error:
        raise ExportError("V0", f"{file} is no whole GGUF file: {error}.", "Export again.") from error


class _Head:
    def __init__(self, file: Path, stream: BinaryIO) -> None:
        self.file, self.place = file, 0
        self.data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)

    def read(self) -> tuple[dict[str, object], dict[str, Stored]]:
        magic, version, tensors, keys = (self.take(kind) for kind in ("<I", "<I", "<Q", "<Q"))
        if (magic, version) != (0x46554747, 3):
            raise ValueError("wrong first bytes")
        values = {self.string(): self.value(self.take("<I")) for _ in range(keys)}
        heads = [self.tensor() for _ in range(tensors)]
        start = -(-self.place // _ALIGNMENT) * _ALIGNMENT
        stored = {name: Stored(self.file, name, kind, shape, start + at) for name, kind, shape, at in heads}
        if len(stored) != tensors:
            raise ValueError("a tensor is there twice")
        return values, stored

    def take(self, form: str) -> int:
        value = struct.unpack_from(form, self.data, self.place)[0]
        self.place += struct.calcsize(form)
        return value

    def string(self) -> str:
        size = self.take("<Q")
        self.place += size
        return self.data[self.place - size : self.place].decode()

    def value(self, kind: int) -> object:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.take("<I"), self.take("<Q")
            take: Callable[[], object] = self.string if inner == _STRING else lambda: self.take(_SCALARS[inner])
            return [take() for _ in range(count)]
        return self.take(_SCALARS[kind])

    def tensor(self) -> tuple[str, Kind, tuple[int, ...], int]:
        name = self.string()
        shape = tuple(self.take("<Q") for _ in range(self.take("<I")))[::-1]
        return name, Kind(self.take("<I")), shape, self.take("<Q")
