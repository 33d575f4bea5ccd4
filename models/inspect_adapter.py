"""What an adapter trained, read from its file: per group absent, present but untouched, or trained, and by how much.

Called by `export_gguf.py inspect`. Two adapters stand side by side. With a base, changes are said relative to it.
"""

import argparse
import json
import math
from pathlib import Path

import adapter
import describe
import groups
import inspect_picture
import numpy as np
import weights
from adapter import Adapter, Change
from weights import Tensor

_CELLS = 47
"""Width of one adapter's columns."""


def main(arguments: list[str]) -> None:
    """Print the table or JSON, and draw the picture. Raises ExportError."""
    parser = argparse.ArgumentParser(prog="export_gguf.py inspect", description=__doc__)
    parser.add_argument("adapters", type=Path, nargs="+", metavar="ADAPTER", help="one adapter folder, or two")
    parser.add_argument("--base", type=Path, help="the base: changes are then said relative to its weights")
    parser.add_argument("--json", action="store_true", help="print JSON, with a row for each module")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw a bar for each layer")
    given = parser.parse_args(arguments)
    if len(given.adapters) > 2:
        parser.error("one adapter or two")
    found = weights.base_tensors(given.base) if given.base else {}
    reports = [report(adapter.read(folder), found) for folder in given.adapters]
    print(json.dumps(reports, indent=1) if given.json else table(reports))
    if given.plot:
        inspect_picture.draw(reports, given.plot)


def report(trained: Adapter, found: dict[str, Tensor]) -> dict[str, object]:
    """Return everything about one adapter. Without a base, what needs one is null."""
    norms = {weight: _norm(change, found.get(weight)) for weight, change in trained.changes.items()}
    base = {weight: _base_norm(found[weight]) for weight in trained.changes if weight in found}
    inside = groups.by_group(trained.changes)
    promised = groups.promised(trained, list(found)) if found else None
    file = trained.folder / "adapter_model.safetensors"
    return {
        "adapter": str(trained.folder),
        "bytes": file.stat().st_size,
        "base": describe.normalised(trained.base_name),
        "trained_on_4bit": describe.is_4bit(trained.base_name),
        "r": trained.config.values.get("r"),
        "lora_alpha": trained.config.values.get("lora_alpha"),
        "groups": {
            name: _group(changes, norms, base) for name, changes in inside.items() if changes or name != "other"
        },
        "not_in_base": sorted(set(trained.changes) - set(found)) if found else None,
        "promised_but_absent": None if promised is None else sorted(promised - set(trained.changes)),
        "modules": [
            _module(change, norms[weight], base.get(weight)) for weight, change in trained.changes.items()
        ],
    }  # fmt: skip


def _module(change: Change, norm: float | None, base: float | None) -> dict[str, object]:
    return {
        "weight": change.weight,
        "group": groups.group_of(change.weight),
        "layer": groups.layer_of(change.weight),
        "r": change.rank,
        "parameters": change.parameters,
        "norm": norm,
        "base_norm": base,
        "relative": _ratio(norm, base),
    }


def _norm(change: Change, base: Tensor | None) -> float | None:
    norm = change.norm()
    if norm is not None or base is None or base.shape != change.shape:
        return norm
    rows = base.read()
    return float(np.linalg.norm(change.apply(rows, 0, len(rows)) - rows))


def _base_norm(tensor: Tensor) -> float:
    total, step = 0.0, max(1, 2**22 // max(1, tensor.row_values))
    for start in range(0, tensor.shape[0], step):
        flat = tensor.rows(start, min(start + step, tensor.shape[0])).ravel()
        total += float(np.vdot(flat, flat))
    return math.sqrt(total)


def _ratio(norm: float | None, base: float | None) -> float | None:
    return norm / base if norm is not None and base else None


def _group(changes: list[Change], norms: dict[str, float | None], base: dict[str, float]) -> dict[str, object]:
    known = [norms[change.weight] for change in changes]
    total = None if None in known else math.sqrt(sum(norm**2 for norm in known))
    there = [base[change.weight] for change in changes if change.weight in base]
    whole = math.sqrt(sum(norm**2 for norm in there)) if changes and len(there) == len(changes) else None
    is_trained = any(norm is None or norm > 0 for norm in known)
    return {
        "state": "absent" if not changes else "trained" if is_trained else "untouched",
        "modules": len(changes),
        "parameters": sum(change.parameters for change in changes),
        "bytes": sum(part.bytes for change in changes for part in change.parts),
        "norm": total,
        "relative": _ratio(total, whole),
    }


def table(reports: list[dict]) -> str:
    """Return the adapters side by side."""
    lines = []
    for one in reports:
        size = f"{one['bytes'] / 2**20:.1f} MiB"
        base = f"{one['base'] or 'a base it does not name'}{' in 4 bit' if one['trained_on_4bit'] else ''}"
        lines.append(f"{one['adapter']}: r {one['r']}, alpha {one['lora_alpha']}, {size}, trained on {base}")
        for key, text in (
            ("not_in_base", "not in the base"),
            ("promised_but_absent", "named by target_modules, absent"),
        ):
            if one[key]:
                lines.append(f"  {text}: {len(one[key])}, as {one[key][0]}")
    heads = "  ".join(f"{'state':9} {'modules':>7} {'parameters':>11} {'MiB':>7} {'change':>9}" for _ in reports)
    names = [str(one["adapter"])[-_CELLS:] for one in reports] if len(reports) > 1 else []
    lines += ["", f"{'':20}{'  '.join(f'{name:{_CELLS}}' for name in names)}".rstrip()] if names else [""]
    lines.append(f"{'group':20}{heads}")
    for name in dict.fromkeys(name for one in reports for name in one["groups"]):
        cells = [_cells(one["groups"].get(name) or _group([], {}, {})) for one in reports]
        lines.append(f"{name:20}{'  '.join(cells)}".rstrip())
    relative = any(group["relative"] is not None for one in reports for group in one["groups"].values())
    lines.append(f"\nchange: norm of the change{', relative to the base' if relative else ' (give --base to compare)'}")
    return "\n".join(lines)


def _cells(group: dict) -> str:
    change = ""
    if group["relative"] is not None:
        change = f"{100 * group['relative']:.3f} %"
    elif group["norm"] is not None and group["modules"]:
        change = f"{group['norm']:.4g}"
    size = f"{group['bytes'] / 2**20:.2f}"
    return f"{group['state']:9} {group['modules']:7} {group['parameters']:11,} {size:>7} {change:>9}"
