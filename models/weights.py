"""Reads Hugging Face safetensors folders with numpy alone, under one set of names for every transformers version."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from station.errors import StationError

Floats = npt.NDArray[np.float32]
_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_RENAMES = (
    (re.compile(r"^base_model\.model\."), ""),
    (re.compile(r"^(?:_orig_mod|module)\."), ""),
    (re.compile(r"^model\.language_model\."), "language_model.model."),
    (re.compile(r"^model\.(vision_tower|multi_modal_projector)\."), r"\1."),
    (re.compile(r"^lm_head\."), "language_model.lm_head."),
)
"""From the names of transformers 4.52 and later, and PEFT's prefix, to the names Pixtral has on disk."""


class ExportError(StationError):
    """The export cannot be right. `code` names the check (see docs/export.md)."""

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(f"{code}: {message}", hint)
        self.code = code


def canonical(name: str) -> str:
    """Return a tensor's name as Pixtral has it on disk."""
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return name


@dataclass(frozen=True)
class Tensor:
    """One tensor of a safetensors file, read when asked for."""

    file: Path
    name: str
    kind: str
    shape: tuple[int, ...]
    start: int
    """First byte in the file."""

    def read(self) -> Floats:
        """Return the values as float32."""
        count = int(np.prod(self.shape, dtype=np.int64))
        raw = np.fromfile(self.file, dtype=_NUMPY[self.kind], count=count, offset=self.start)
        if self.kind == "BF16":  # the upper half of a float32
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float32).reshape(self.shape)


def tensors(folder: Path, pattern: str) -> dict[str, Tensor]:
    """Return all tensors of the folder's files matching `pattern`, by canonical name. Raises ExportError."""
    found: dict[str, Tensor] = {}
    for file in sorted(folder.glob(pattern)):
        for tensor in _header(file):
            name = canonical(tensor.name)
            if name in found:
                raise ExportError("E04", f"{file}: {tensor.name} is there twice.", "Remove the extra file.")
            found[name] = tensor
    return found


def _header(file: Path) -> Iterator[Tensor]:
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > size - 8:
            raise ExportError("E06", f"{file} is cut off.", "Copy or download it again.")
        header = json.loads(stream.read(length))
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _NUMPY:
            raise ExportError(
                "E05",
                f"{file}: {name} has type {entry['dtype']}: this is a quantized base.",
                "Give the 16-bit base (for Pixtral: unsloth/Pixtral-12B-2409).",
            )
        start, end = entry["data_offsets"]
        if 8 + length + end > size:
            raise ExportError("E06", f"{file} is cut off in {name}.", "Copy or download it again.")
        yield Tensor(file, name, entry["dtype"], tuple(entry["shape"]), 8 + length + start)
