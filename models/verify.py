"""V0 and V1: a GGUF file holds what was planned, and the training arrived in it. From the files alone, no inference.

The proof of V1 is a number per trained weight: how much of the change W' - W is found in the file, along that change,
c = <file - W, W' - W> / <W' - W, W' - W>. It is 1 where the training arrived, 0 where it was lost, 2 where it was added
twice, about 0 where rows are in the wrong order or of another layer; quantizing only adds noise to it.
"""

import math
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import gguf_read
import gguf_stream
import numpy as np
from adapter import Change
from checked_json import ExportError
from gguf import GGMLQuantizationType as Kind
from gguf_plan import Entry, FilePlan
from gguf_read import Stored
from groups import layer_of
from progress import Progress
from weights import Floats, Tensor

_ROUNDING = {Kind.F32: 1e-6, Kind.F16: 1e-3, Kind.BF16: 5e-3, Kind.Q8_0: 0.02, Kind.Q6_K: 0.06, Kind.Q5_K: 0.12}
"""Largest error of a tensor, relative to its values, by what it is stored as; 0.2 for anything coarser."""
_TOLERANCE = {Kind.F32: 0.01, Kind.F16: 0.01, Kind.BF16: 0.02, Kind.Q8_0: 0.02}
"""How far c may be from 1; 0.05 for anything coarser, and never less than six standard deviations of its noise."""
_AGAIN = "Nothing was released. Report this with the command that made it."


@dataclass
class Found:
    """What V1 found of one tensor of one file."""

    entry: Entry
    kind: Kind
    change: Change | None
    dot: float = 0.0
    delta2: float = 0.0
    base2: float = 0.0
    error2: float = 0.0
    values: int = 0
    largest_delta: float = 0.0
    is_exact: bool = True

    @property
    def coefficient(self) -> float:
        """How much of the change is in the file."""
        return self.dot / self.delta2 if self.delta2 else 1.0

    @property
    def tolerance(self) -> float:
        """How far the coefficient may be from 1."""
        noise = math.sqrt(self.error2 / self.delta2 / self.values) if self.delta2 and self.values else 0.0
        return max(_TOLERANCE.get(self.kind, 0.05), 6 * noise)

    @property
    def rounding(self) -> float:
        """The error of the values, relative to them."""
        return math.sqrt(self.error2 / self.base2) if self.base2 else float(self.error2 > 0)


@dataclass
class Report:
    """What V0 and V1 found of one file."""

    kinds: dict[str, int]
    tensors: int
    found: list[Found] = field(default_factory=list)

    @property
    def untouched(self) -> int:
        """Tensors that the adapter does not change; each was compared with the base."""
        return sum(one.change is None for one in self.found)


def check_structure(file: Path, plan: FilePlan, *, is_quantized: bool) -> Report:
    """V0: names, shapes, types and metadata are exactly the planned ones. Raises ExportError V0."""
    keys, stored = gguf_read.read_head(file)
    planned = {entry.name: entry.shape for entry in plan.entries}
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    wrong = sorted(name for name in planned.keys() | shapes.keys() if planned.get(name) != shapes.get(name))
    if wrong:
        name = wrong[0]
        raise ExportError(
            "V0", f"{_name(file)}: {name} is {shapes.get(name, 'missing')}, planned {planned.get(name, 'nothing')}; "
            f"{len(wrong)} tensors differ.", _AGAIN,
        )  # fmt: skip
    if not is_quantized:
        kinds = [entry.name for entry in plan.entries if stored[entry.name].kind is not entry.kind]
        if kinds:
            raise ExportError("V0", f"{_name(file)}: {kinds[0]} has the wrong type.", _AGAIN)
    for key, value in ({"general.architecture": plan.arch} | plan.keys).items():
        if key != "general.file_type" and not _same(keys.get(key), value):
            raise ExportError("V0", f"{_name(file)}: {key} is not what was planned.", _AGAIN)
    return Report(dict(Counter(tensor.kind.name for tensor in stored.values())), len(stored))


def _name(file: Path) -> str:
    return file.name.removesuffix(".partial")


def _same(found: object, planned: object) -> bool:
    if isinstance(planned, list) and isinstance(found, list):
        return len(found) == len(planned) and all(map(_same, found, planned))
    if isinstance(planned, float):
        return isinstance(found, float) and bool(np.float32(found) == np.float32(planned))
    return found == planned


def check_weights(
    file: Path, plan: FilePlan, found: dict[str, Tensor], changes: dict[str, Change], report: Report
) -> None:
    """V1: measure every tensor of the file and put it into the report. Raises ExportError V1 with what is wrong."""
    _, stored = gguf_read.read_head(file)
    progress = Progress("verify", plan.bytes)

    def measure(entry: Entry) -> Found:
        one = _measure(stored[entry.name], entry, found[entry.base], changes.get(entry.base))
        progress.add(entry.bytes)
        return one

    with ThreadPoolExecutor(2) as pool:
        report.found = list(pool.map(measure, plan.entries))
    progress.end()
    wrong = [(one, said) for one in report.found if (said := _what_is_wrong(one))]
    if wrong:
        one, said = wrong[0]
        more = f" {len(wrong) - 1} more tensors are wrong." if len(wrong) > 1 else ""
        cause = _cause(one, stored[one.entry.name], found, changes)
        raise ExportError("V1", f"{_name(file)}: {one.entry.name}: {said}{cause}.{more}", _AGAIN)


def _measure(stored: Stored, entry: Entry, base: Tensor, change: Change | None) -> Found:
    one = Found(entry, stored.kind, change)
    for first, ours, plain, merged in _rows(stored, entry, base, change):
        del first
        error, size = ours - merged, plain.ravel()
        one.error2 += _square(error)
        one.base2 += float(np.vdot(size, size))
        one.values += size.size
        if change is None:
            expected = gguf_stream.cast(plain, entry.kind)
            one.is_exact &= np.array_equal(gguf_stream.cast(ours, entry.kind), expected)
        else:
            delta = merged - plain
            one.delta2 += _square(delta)
            one.dot += float(np.vdot(ours - plain, delta))
            one.largest_delta = max(one.largest_delta, float(np.abs(delta).max()))
    return one


def _rows(
    stored: Stored, entry: Entry, base: Tensor, change: Change | None
) -> Iterable[tuple[int, Floats, Floats, Floats]]:
    """Yield first row, and rows of the file in the base's order, of the base, and of the merged weight."""
    if entry.row >= 0:
        plain = base.rows(entry.row, entry.row + 1)
        merged = change.apply(plain, entry.row, entry.row + 1) if change else plain
        yield 0, stored.rows(0, entry.shape[0]).reshape(plain.shape), plain, merged
        return
    for first, count in gguf_stream.chunks(entry.shape[0], base.row_values, entry.heads, gguf_stream.BLOCK_VALUES):
        plain = base.rows(first, first + count)
        merged = change.apply(plain, first, first + count) if change else plain
        ours = stored.rows(first, first + count)
        if entry.heads:
            ours = _put_back(ours, entry.heads * count // entry.shape[0])
        yield first, ours, plain, merged


def _put_back(rows: Floats, heads: int) -> Floats:
    """Return q or k rows from llama.cpp's order (x0, y0, x1, y1, ...) to Hugging Face's (x0..xn, y0..yn)."""
    head = len(rows) // heads
    order = np.concatenate([np.arange(0, head, 2), np.arange(1, head, 2)])
    return rows[(np.arange(heads)[:, None] * head + order).ravel()]


def _square(values: Floats) -> float:
    flat = values.ravel()
    return float(np.vdot(flat, flat))


def _what_is_wrong(one: Found) -> str:
    limit = _ROUNDING.get(one.kind, 0.2)
    if one.change is None:
        exact_kind = one.kind is one.entry.kind
        if (exact_kind and not one.is_exact) or one.rounding > limit:
            return f"was not trained, and is not the base's either (error {one.rounding:.3f})"
        return ""
    if abs(one.coefficient - 1) > one.tolerance or not math.isfinite(one.coefficient):
        return f"the training did not arrive as it is, coefficient {one.coefficient:.3f} instead of 1"
    return f"differs from the merged weight by {one.rounding:.3f}" if one.rounding > limit else ""


def _cause(one: Found, stored: Stored, found: dict[str, Tensor], changes: dict[str, Change]) -> str:
    """Return what probably happened, for the message."""
    c = one.coefficient
    if one.entry.heads:
        unordered = _measure(stored, Entry(**(vars(one.entry) | {"heads": 0})), found[one.entry.base], one.change)
        if unordered.rounding <= _ROUNDING.get(one.kind, 0.2):
            return ": rows of q and k are not in llama.cpp's order"
    if one.change and abs(c) < 0.02 and one.rounding < 0.5:
        for other in _siblings(one.change, changes):
            if abs(_measure(stored, one.entry, found[one.entry.base], other).coefficient - 1) < 0.05:
                return f": it holds the training of layer {layer_of(other.weight)}"
        return ": this module's training is lost"
    if one.change and one.rounding < 0.5:
        return f": the change was scaled by {c:.3g}"
    return ""


def _siblings(change: Change, changes: dict[str, Change]) -> list[Change]:
    """Return the changes of the same module in other layers."""
    tail = change.weight.split(".layers.")[-1].partition(".")[2]
    half = change.weight.split(".")[0]
    return [
        other for other in changes.values()
        if other.weight != change.weight and other.shape == change.shape
        and other.weight.startswith(half) and other.weight.endswith(tail)
    ]  # fmt: skip
