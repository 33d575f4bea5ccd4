"""Writes the GGUF files of a model in one pass over its base, in chunks of rows. No tensor is ever whole in memory.

The base is read once, in the order of its files, so that its hashes come along; every chunk is merged, put into order,
cast and written at its place. Memory: a few chunks and one module's A and B, whatever the size of the model.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore

import gguf
import numpy as np
from adapter import Change
from checked_json import ExportError
from ggml_half import half
from gguf import GGMLQuantizationType as Kind
from gguf_plan import Entry, FilePlan
from progress import Progress
from weights import Floats, Tensor

CHUNK_VALUES = 4 * 2**20
"""16 MiB as float32."""
_WORKERS = max(2, min(6, len(os.sched_getaffinity(0))))
_ALIGNMENT = 32


@dataclass(frozen=True)
class _Piece:
    """A part of a base file, read at once: rows of a tensor, or bytes that are only hashed."""

    start: int
    size: int
    tensor: Tensor | None = None
    first_row: int = 0
    rows: int = 0


class _Target:
    """One GGUF file being written."""

    def __init__(self, path: Path, plan: FilePlan) -> None:
        start, self.places = _write_head(path, plan), {}
        for entry in plan.entries:
            self.places[entry.name] = start
            start += -(-entry.bytes // _ALIGNMENT) * _ALIGNMENT
        self.file = os.open(path, os.O_RDWR)
        os.ftruncate(self.file, start)

    def write(self, entry: Entry, values: Floats, row: int) -> int:
        """Write rows from `row` on; return the number of bytes."""
        data = memoryview(np.ascontiguousarray(cast(values, entry.kind))).cast("B")
        row_bytes = entry.bytes // entry.shape[0]
        place, written = self.places[entry.name] + row * row_bytes, 0
        while written < len(data):
            written += os.pwrite(self.file, data[written:], place + written)
        return written

    def close(self) -> None:
        """Make the file durable."""
        try:
            os.fsync(self.file)
        finally:
            os.close(self.file)


def write_files(
    plans: dict[Path, FilePlan], found: dict[str, Tensor], changes: dict[str, Change]
) -> dict[Path, dict[str, object]]:
    """Write all files; return hash and size of each base file. Raises ExportError E06, E09 and OSError."""
    progress = Progress("convert", sum(plan.bytes for plan in plans.values()))
    targets: list[_Target] = []
    wanted: dict[str, list[tuple[_Target, Entry]]] = {}
    by_file: dict[Path, list[tuple[str, Tensor]]] = {}
    for name, tensor in found.items():
        by_file.setdefault(tensor.file, []).append((name, tensor))
    try:
        for path, plan in plans.items():
            targets.append(_Target(path, plan))
            for entry in plan.entries:
                wanted.setdefault(entry.base, []).append((targets[-1], entry))
        return {
            file: _pass_file(file, sorted(inside, key=lambda item: item[1].start), wanted, changes, progress)
            for file, inside in sorted(by_file.items())
        }
    finally:
        for target in targets:
            target.close()
        progress.end()


def _pass_file(
    file: Path, inside: list[tuple[str, Tensor]], wanted: dict, changes: dict[str, Change], progress: Progress
) -> dict[str, object]:
    digest, slots, jobs = hashlib.sha256(), BoundedSemaphore(_WORKERS + 1), []
    names = {id(tensor): name for name, tensor in inside}
    size = file.stat().st_size
    with file.open("rb", buffering=0) as stream, ThreadPoolExecutor(1) as hasher, ThreadPoolExecutor(_WORKERS) as pool:
        for piece in _pieces([tensor for _, tensor in inside], size, wanted, names):
            slots.acquire()
            raw = _read(stream, piece)
            hashed = hasher.submit(digest.update, raw)
            if piece.tensor is None or names[id(piece.tensor)] not in wanted:
                job = hashed
            else:
                name = names[id(piece.tensor)]
                job = pool.submit(_convert, piece, raw, changes.get(name), wanted[name], progress, hashed)
            job.add_done_callback(lambda _: slots.release())
            jobs.append(job)
            jobs = _still_running(jobs)
        for job in jobs:
            job.result()
    return {"file": file.name, "sha256": digest.hexdigest(), "bytes": size}


def _still_running(jobs: list[Future]) -> list[Future]:
    """Return what is not done; raises what a done one raised."""
    for job in jobs:
        if job.done():
            job.result()
    return [job for job in jobs if not job.done()]


def _pieces(tensors: list[Tensor], size: int, wanted: dict, names: dict[int, str]) -> Iterator[_Piece]:
    """Yield the whole file, in order."""
    place = 0
    for tensor in tensors:
        if tensor.start < place:
            raise ExportError("E06", f"{tensor.file}: {tensor.name} overlaps another tensor.", "Download it again.")
        yield from _gap(place, tensor.start)
        heads = max((entry.heads for _, entry in wanted.get(names[id(tensor)], ())), default=0)
        rows = tensor.shape[0] if tensor.shape else 1
        row_bytes = tensor.bytes // max(1, rows)
        for first, count in chunks(rows, tensor.row_values, heads):
            yield _Piece(tensor.start + first * row_bytes, count * row_bytes, tensor, first, count)
        place = tensor.start + tensor.bytes
    yield from _gap(place, size)


def _gap(start: int, stop: int) -> Iterator[_Piece]:
    step = 16 * 2**20
    for place in range(start, stop, step):
        yield _Piece(place, min(step, stop - place))


def chunks(rows: int, row_values: int, heads: int) -> Iterator[tuple[int, int]]:
    """Yield (first row, rows) of chunks of at most CHUNK_VALUES values, of whole heads where there are heads."""
    unit = rows // heads if heads else 1
    step = max(unit, CHUNK_VALUES // max(1, row_values) // unit * unit)
    for first in range(0, rows, step):
        yield first, min(step, rows - first)


def _read(stream: object, piece: _Piece) -> np.ndarray:
    raw, done = np.empty(piece.size, np.uint8), 0
    while done < piece.size:
        count = os.preadv(stream.fileno(), [raw[done:]], piece.start + done)
        if not count:
            raise ExportError("E06", f"{stream.name} became shorter while it was read.", "Copy the base again.")
        done += count
    return raw


def _convert(
    piece: _Piece, raw: np.ndarray, change: Change | None, wanted: list, progress: Progress, hashed: Future
) -> None:
    tensor = piece.tensor
    values = tensor.decode(raw).reshape(piece.rows, *tensor.shape[1:])
    if change:
        values = change.apply(values, piece.first_row, piece.first_row + piece.rows)
    for target, entry in wanted:
        if entry.row < 0:
            _check_range(values, entry)
            ordered = permuted(values, entry.heads * piece.rows // entry.shape[0]) if entry.heads else values
            progress.add(target.write(entry, ordered, piece.first_row))
        elif piece.first_row <= entry.row < piece.first_row + piece.rows:
            progress.add(target.write(entry, values[entry.row - piece.first_row], 0))
    hashed.result()


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


def _write_head(path: Path, plan: FilePlan) -> int:
    """Write everything before the tensors; return where they start."""
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
        end = writer.fout[0].tell()
        writer.close()
    except OSError:
        for file in writer.fout or ():
            with contextlib.suppress(OSError):  # the disk is still full
                file.close()
        raise
    return -(-end // _ALIGNMENT) * _ALIGNMENT
