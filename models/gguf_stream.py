"""Writes the GGUF files of a model in one pass over its base, in chunks of rows. No tensor is ever whole in memory.

Each file is made from front to back: pieces of the base are read, merged, put into order and cast by several threads,
and appended in their order. A thread beside them hashes the base's files. All of it goes past the page cache where the
file system can: the base is read twice, and that is still faster than copying it through the cache (decision 0033).
Memory: a few pieces and a few modules' A and B, whatever the size of the model.
"""

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from adapter import Change
from base_hash import BaseHash
from checked_json import ExportError
from direct_file import SECTOR_BYTES, DirectFile, aligned
from durable_output import Output
from ggml import half
from gguf import GGMLQuantizationType as Kind
from gguf_plan import Entry, FilePlan
from progress import Progress
from weights import Floats, Tensor

PIECE_VALUES = 2**20
"""Read at once: 2 MiB of bfloat16."""
BLOCK_VALUES = 2**17
"""Computed at once: it stays in the processor's cache from the first step to the last."""
_WORKERS = 2 * min(8, len(os.sched_getaffinity(0))) + 1
"""Threads that convert; twice as many as processors and one, since about half wait for the disk."""
_AHEAD = 3 * _WORKERS
"""Pieces under way."""
_ALIGNMENT = 32
"""Every tensor starts at a multiple of it."""


@dataclass(frozen=True)
class Written:
    """What was read and written."""

    sources: list[dict[str, object]]
    """File, sha256 and bytes of each file of the base."""
    sha256: dict[Path, str]
    """Of each file that was written."""


@dataclass(frozen=True)
class _Piece:
    """Rows of a tensor that are read at once."""

    entry: Entry
    tensor: Tensor
    change: Change | None
    first: int
    rows: int

    @property
    def row_bytes(self) -> int:
        return self.tensor.bytes // (self.tensor.shape[0] if self.tensor.shape else 1)

    @property
    def bytes(self) -> int:
        return self.rows * self.row_bytes


class _Slot:
    """Memory of one piece, used again and again: new memory must be emptied by the kernel, which takes time."""

    def __init__(self) -> None:
        self.raw = self.out = np.empty(0, np.uint8)

    def fit(self, raw: int, out: int) -> None:
        """Make room for so many bytes."""
        if self.raw.size < raw:
            self.raw = aligned(raw)
        if self.out.size < out:
            self.out = np.empty(out, np.uint8)


def write_files(plans: dict[Path, FilePlan], found: dict[str, Tensor], changes: dict[str, Change]) -> Written:
    """Write all files, durable. Raises ExportError E06, E09 and OSError."""
    progress = Progress("convert", sum(plan.bytes for plan in plans.values()))
    sha256 = {}
    with BaseHash({tensor.file for tensor in found.values()}) as base, ThreadPoolExecutor(_WORKERS) as pool:
        for path, plan in plans.items():
            head = _head(path, plan)
            with contextlib.closing(Output(path)) as output:
                output.append(memoryview(head))
                output.align(_ALIGNMENT)
                pieces = (piece for entry in plan.entries for piece in _pieces(entry, found, changes))
                for piece, data in _in_order(pool, pieces):
                    output.append(data)
                    if piece.entry.row >= 0 or piece.first + piece.rows == piece.entry.shape[0]:
                        output.align(_ALIGNMENT)
                    progress.add(len(data))
                sha256[path] = output.finish()
        sources = base.finish()
    progress.end()
    return Written(sources, sha256)


def _pieces(entry: Entry, found: dict[str, Tensor], changes: dict[str, Change]) -> Iterator[_Piece]:
    tensor, change = found[entry.base], changes.get(entry.base)
    if entry.row >= 0:
        yield _Piece(entry, tensor, change, entry.row, 1)
        return
    for first, rows in chunks(entry.shape[0], tensor.row_values, entry.heads, PIECE_VALUES):
        yield _Piece(entry, tensor, change, first, rows)


def chunks(rows: int, row_values: int, heads: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield (first row, rows) of chunks of at most so many values, of whole heads where there are heads."""
    unit = rows // heads if heads else 1
    step = max(unit, most // max(1, row_values) // unit * unit)
    for first in range(0, rows, step):
        yield first, min(step, rows - first)


def _in_order(pool: ThreadPoolExecutor, pieces: Iterator[_Piece]) -> Iterator[tuple[_Piece, memoryview]]:
    """Yield what becomes of each piece, valid until the next is asked for; others are converted meanwhile."""
    slots = [_Slot() for _ in range(_AHEAD)]
    waiting: deque[tuple[_Piece, Future]] = deque()
    for number, piece in enumerate(pieces):
        if len(waiting) == _AHEAD:
            first, job = waiting.popleft()
            yield first, job.result()
        waiting.append((piece, pool.submit(_converted, piece, slots[number % _AHEAD])))
    while waiting:
        first, job = waiting.popleft()
        yield first, job.result()


def _converted(piece: _Piece, slot: _Slot) -> memoryview:
    """Return the piece as it stands in the file."""
    entry, value_bytes = piece.entry, 4 if piece.entry.kind is Kind.F32 else 2
    row_values = piece.tensor.row_values
    slot.fit(piece.bytes + 2 * SECTOR_BYTES, piece.rows * row_values * value_bytes)
    raw, place = _read(piece, slot), 0
    heads = entry.heads * piece.rows // entry.shape[0] if entry.row < 0 else 0
    for first, rows in chunks(piece.rows, row_values, heads, BLOCK_VALUES):
        part = raw[first * piece.row_bytes : (first + rows) * piece.row_bytes]
        values = _merged(piece, part, piece.first + first, rows)
        _check_range(values, entry)
        if heads:
            values = permuted(values, heads * rows // piece.rows)
        data = cast(values, entry.kind).reshape(-1).view(np.uint8)
        slot.out[place : place + data.size] = data
        place += data.size
    return memoryview(slot.out)[:place]


def _read(piece: _Piece, slot: _Slot) -> np.ndarray:
    """Return the piece's bytes, somewhere in the slot."""
    place = piece.tensor.start + piece.first * piece.row_bytes
    with DirectFile(piece.tensor.file) as file:
        before, count = file.read(slot.raw, place, piece.bytes)
    if count < piece.bytes:
        raise ExportError("E06", f"{piece.tensor.file} became shorter while it was read.", "Copy the base again.")
    return slot.raw[before : before + piece.bytes]


def _merged(piece: _Piece, raw: np.ndarray, row: int, rows: int) -> Floats:
    values = piece.tensor.decode(raw).reshape(rows, *piece.tensor.shape[1:])
    return piece.change.apply(values, row, row + rows) if piece.change else values


def _check_range(values: Floats, entry: Entry) -> None:
    limit = 65504.0 if entry.kind is Kind.F16 else 3e38
    if not max(float(values.max()), -float(values.min())) <= limit:
        raise ExportError(
            "E09", f"{entry.base}: a merged value is not finite or does not fit into {entry.kind.name}.",
            "The training diverged, or the base is damaged. Train again with a lower rate.",
        )  # fmt: skip


def permuted(weight: Floats, heads: int) -> Floats:
    """Return q or k rows, head by head, from (x0..xn, y0..yn) to (x0, y0, x1, y1, ...)."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def cast(values: Floats, kind: Kind) -> np.ndarray:
    """Return the values as they are stored; bfloat16 is rounded to even and kept as whole numbers."""
    if kind is Kind.F16:
        return half(values)
    if kind is Kind.BF16:
        bits = np.ascontiguousarray(values).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return values


def _head(path: Path, plan: FilePlan) -> bytes:
    """Return everything before the tensors, as the gguf library writes it to `path`."""
    writer = gguf.GGUFWriter(path, plan.arch)
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for key, value in plan.keys.items():
        (kinds.get(type(value)) or writer.add_array)(key, value)
    for entry in plan.entries:
        writer.add_tensor_info(entry.name, entry.shape, np.dtype(np.float16), entry.bytes, entry.kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.close()
    except OSError:
        for file in writer.fout or ():
            with contextlib.suppress(OSError):  # the disk is still full
                file.close()
        raise
    return path.read_bytes()
