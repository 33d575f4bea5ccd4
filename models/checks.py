"""Checks of adapter and base against each other, before any work: E03, E04, E06, E10, E11, E12."""

import re
import shutil
from pathlib import Path

import groups
import numpy as np
import quantize
from adapter import Adapter, Change
from checked_json import ExportError, Fields
from gguf_plan import FilePlan
from progress import say
from weights import Tensor

_OTHER_BASE = "Give the base that the adapter was trained on."
_SUFFIX = re.compile(r"(-unsloth)?-bnb-4bit$")


def check_placed(changes: dict[str, Change], found: dict[str, Tensor]) -> None:
    """Every change must land on one weight of its shape. Raises ExportError E04, E02 or E03."""
    lost = [change for weight, change in changes.items() if weight not in found]
    if lost:
        counts: dict[str, int] = {}
        for change in lost:
            prefix = re.split(r"\.layers\.|\.linear_", change.module)[0][:80]
            counts[prefix] = counts.get(prefix, 0) + 1
        where = ", ".join(f"{count} under {prefix}" for prefix, count in counts.items())
        examples = ", ".join(change.module[:80] for change in lost[:3])
        raise ExportError(
            "E04", f"{len(lost)} of {len(changes)} modules of the adapter are not in the base ({where}): {examples}.",
            _OTHER_BASE,
        )  # fmt: skip
    for weight, change in changes.items():
        if change.shape != found[weight].shape:
            code = "E02" if change.whole else "E03"
            raise ExportError(
                code, f"{weight}: the adapter is for {change.shape}, the base has {found[weight].shape}.", _OTHER_BASE
            )


def check_promise(adapter: Adapter, weights: list[str], expect_vision: str) -> None:
    """Compare what target_modules names with what is there. Raises ExportError E10 for a missing vision half."""
    promised = groups.promised(adapter, weights)
    if promised is None:
        return
    missing = [groups.group_of(weight) for weight in promised - set(adapter.changes)]
    for name in sorted(set(missing)):
        text = f"target_modules names {missing.count(name)} modules of {name} that the adapter does not hold."
        if name in groups.VISION and expect_vision == "auto":
            raise ExportError(
                "E10", text, "The file lost them: save the adapter again, or say --expect-vision forbidden."
            )
        say("check", f"warning: {text}")


def check_vision(states: dict[str, str], expect_vision: str) -> None:
    """Raise ExportError E10 if the vision tower was trained and should not be, or the other way round."""
    is_trained = any(states[name] == "trained" for name in groups.VISION)
    if expect_vision == "required" and not is_trained:
        raise ExportError("E10", "The adapter does not train the vision tower.", "Train with finetune_vision_layers.")
    if expect_vision == "forbidden" and is_trained:
        raise ExportError("E10", "The adapter trains the vision tower.", "Say --expect-vision auto if that is meant.")


def check_effect(norms: dict[str, float]) -> None:
    """Raise ExportError E12 if the adapter changes nothing."""
    if not any(norm > 0 for norm in norms.values()):
        raise ExportError("E12", "The adapter changes nothing: every change is zero.", "It was never trained.")


def norms_of(changes: dict[str, Change], found: dict[str, Tensor]) -> dict[str, float]:
    """Return the norm of each change; DoRA and whole tensors need the base for it."""
    out = {}
    for weight, change in changes.items():
        norm = change.norm()
        out[weight] = norm if norm is not None else _norm_of(change, found[weight])
    return out


def _norm_of(change: Change, base: Tensor) -> float:
    total, step = 0.0, max(1, 2**22 // max(1, base.row_values))
    for start in range(0, base.shape[0], step):
        rows = base.rows(start, min(start + step, base.shape[0]))
        delta = (change.apply(rows, start, start + len(rows)) - rows).ravel()
        total += float(np.vdot(delta, delta))
    return float(np.sqrt(total))


def normalised(name: str) -> str:
    """Return a base's name without owner, case and the suffix of its 4-bit copies."""
    return _SUFFIX.sub("", name.rstrip("/").rpartition("/")[2].lower())


def check_name(adapter: Adapter, base: Path, config: Fields) -> None:
    """Warn of another base's name. Raises ExportError E06 for a base model where the instruct model was trained."""
    trained = normalised(adapter.base_name)
    path = config.values.get("_name_or_path")
    given = normalised(path if isinstance(path, str) and path else base.resolve().name)
    if trained == given or not trained:
        return
    if "pixtral-12b" in trained and "pixtral-12b" in given and ("base" in trained) != ("base" in given):
        raise ExportError("E06", f"The adapter was trained on {trained}, this base is {given}.", _OTHER_BASE)
    say("check", f"warning: the adapter names its base {adapter.base_name!r}, this is {given!r}.")


def disk_needed(plans: dict[str, FilePlan], quants: list[str], mmproj_type: str) -> int:
    """Return the bytes of all files to write, at their largest."""
    text, vision = plans["text"].bytes, plans["mmproj"].bytes
    extra = sum(text * quantize.BITS[kind] / 16 for kind in quants if kind != "F16")
    head = 64 * 2**20 if text > 2**32 else 2**22
    return round(text + vision + extra + (vision * 8.5 / 16 if mmproj_type == "q8_0" else 0) + head)


def check_disk(out: Path, needed: int) -> None:
    """Raise ExportError E11 if the folder's disk has not enough room."""
    free = shutil.disk_usage(out).free
    if free < needed:
        raise ExportError(
            "E11", f"{out} needs {needed / 2**30:.2f} GiB, {free / 2**30:.2f} GiB are free.",
            "Make room, or give another --out.",
        )  # fmt: skip
