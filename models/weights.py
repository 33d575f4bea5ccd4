"""Reads Hugging Face safetensors folders with numpy alone, under one set of names for every transformers version.

`base_tensors` and `file_tensors` read headers only; `Tensor.rows` reads values when asked for, in chunks of rows.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import checked_json
import numpy as np
import numpy.typing as npt
from checked_json import ExportError

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
_QUANTIZED = re.compile(r"\.(absmax|quant_map|nested_\w+|quant_state\.\w+|SCB|weight_format)$")
_QUANTIZED_KINDS = {"U8", "I8", "F8_E4M3", "F8_E5M2"}
_MAX_HEADER_BYTES = 32 * 2**20
_16_BIT = "Give the 16-bit base (for Pixtral: unsloth/Pixtral-12B-2409)."
_AGAIN = "Copy or download it again."


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
    stop: int
    """First byte after it."""

    @property
    def row_values(self) -> int:
        """Values in one row: everything but the first dimension."""
        return math.prod(self.shape[1:])

    @property
    def bytes(self) -> int:
        """Size in the file."""
        return math.prod(self.shape) * np.dtype(_NUMPY[self.kind]).itemsize

    def read(self) -> Floats:
        """Return all values as float32."""
        return self.rows(0, self.shape[0]) if self.shape else self._values(0, 1).reshape(())

    def rows(self, start: int, stop: int) -> Floats:
        """Return rows `start` to `stop` as float32."""
        values = self._values(start * self.row_values, (stop - start) * self.row_values)
        return values.reshape(stop - start, *self.shape[1:])

    def _values(self, first: int, count: int) -> Floats:
        kind = np.dtype(_NUMPY[self.kind])
        raw = np.fromfile(self.file, dtype=kind, count=count, offset=self.start + first * kind.itemsize)
        if len(raw) != count:
            raise ExportError("E06", f"{self.file} became shorter while it was read.", _AGAIN)
        return self.decode(raw)

    def decode(self, raw: npt.NDArray[np.generic]) -> Floats:
        """Return bytes of the tensor as float32."""
        values = np.frombuffer(raw, dtype=_NUMPY[self.kind])
        if self.kind == "BF16":  # the upper half of a float32
            wide = values.astype(np.uint32)
            wide <<= 16
            return wide.view(np.float32)
        return values.astype(np.float32, copy=False)


def base_tensors(folder: Path) -> dict[str, Tensor]:
    """Return all tensors of a base, by canonical name, from the shards its index names. Raises ExportError."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        listed = checked_json.read(index, "E06", _AGAIN).table("weight_map")
        shards = {listed.text(name) for name in listed.values}
        names = sorted(shards)
    else:
        listed, names = None, sorted(path.name for path in folder.glob("model*.safetensors"))
    if not names:
        native = "Mistral's own format" if list(folder.glob("consolidated*")) else "no model*.safetensors"
        raise ExportError("E06", f"{folder} holds {native}.", "Give a Hugging Face folder with safetensors shards.")
    found: dict[str, Tensor] = {}
    for name in names:
        if Path(name).name != name or len(name) > 200 or not (folder / name).is_file():
            raise ExportError("E06", f"The shard {folder / name[:100]} is missing.", _AGAIN)
        _add(found, file_tensors(folder / name, "E06"))
    lost = sorted(set(map(canonical, listed.values)) - set(found)) if listed else []
    if lost:
        raise ExportError("E06", f"{folder}: no shard holds {lost[0]} and {len(lost) - 1} more.", _AGAIN)
    return found


def _add(found: dict[str, Tensor], more: list[Tensor]) -> None:
    for tensor in more:
        name = canonical(tensor.name)
        if tensor.kind in _QUANTIZED_KINDS or _QUANTIZED.search(name):
            raise ExportError("E05", f"{tensor.file}: {tensor.name[:100]}: the base is quantized.", _16_BIT)
        if name in found:
            raise ExportError("E06", f"{tensor.file}: {tensor.name[:100]} is there twice.", "Remove the extra file.")
        if tensor.kind in _NUMPY:
            found[name] = tensor


def file_tensors(file: Path, code: str) -> list[Tensor]:
    """Return the tensors of one safetensors file. Raises ExportError with `code` for a damaged file."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > size - 8 or length > _MAX_HEADER_BYTES:
                raise ExportError(code, f"{file} is cut off or no safetensors file.", _AGAIN)
            header = checked_json.parse(stream.read(length), f"{file}: header", code, _AGAIN)
    except OSError as error:
        raise ExportError(code, f"{file} cannot be read: {error.strerror}.", _AGAIN) from error
    tensors = [
        _tensor(file, name, header.table(name), size - 8 - length, 8 + length)
        for name in header.values
        if name != "__metadata__"
    ]
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.start, tensor.stop)):
        if tensor.start < end:
            raise ExportError(code, f"{file}: {tensor.name[:100]} overlaps another tensor.", _AGAIN)
        end = tensor.stop
    return tensors


def _tensor(file: Path, name: str, entry: checked_json.Fields, room: int, data_start: int) -> Tensor:
    kind, shape, place = entry.text("dtype"), entry.items("shape"), entry.items("data_offsets")
    numbers = [*shape, *place]
    if len(place) != 2 or not all(type(n) is int and 0 <= n < 2**48 for n in numbers) or len(shape) > 8:
        raise ExportError(entry.code, f"{entry.where[:200]} has no shape or place that can be.", _AGAIN)
    start, end = place
    if end > room:
        raise ExportError(entry.code, f"{file} is cut off in {name[:100]}.", _AGAIN)
    tensor = Tensor(file, name, kind, tuple(shape), data_start + start, data_start + end)
    if kind in _NUMPY and tensor.bytes != end - start:
        raise ExportError(entry.code, f"{entry.where[:200]}: {end - start} bytes do not fit its shape.", _AGAIN)
    return tensor


def fingerprint(file: Path) -> list[object]:
    """Return what changes when a large file is replaced: name, size and time of change."""
    status = file.stat()
    return [file.name, status.st_size, status.st_mtime_ns]
