"""A manifest's content: what the station checks, where a release came from, what was trained and what arrived."""

import datetime
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ggml
import groups
import vocabulary
from adapter import Adapter, Change
from checked_json import Fields
from checks import normalised
from gguf_plan import FilePlan
from verify import Report

SCHEMA = 1
IMAGE_MAX_TOKENS = 4096
"""1024 x 1024 pixels at patches of 16: what Pixtral is trained with. llama.cpp's own limit is a quarter of it."""
_ECHO = ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "target_modules",
         "modules_to_save", "base_model_name_or_path", "peft_version")  # fmt: skip


@dataclass(frozen=True)
class Made:
    """Everything an export found out."""

    name: str
    config: Fields
    plans: Mapping[str, FilePlan]
    adapter: Adapter | None
    norms: Mapping[str, float]
    reports: Mapping[str, Report]
    """By file name."""
    files: Mapping[str, Mapping[str, object]]
    sources: list[dict[str, object]]
    inputs: str
    loads: Mapping[str, Mapping[str, object]]
    """What V2 found, by text file."""


def state_of(changes: list[Change], norms: Mapping[str, float]) -> str:
    """Return absent, untouched (present, but it changes nothing) or trained."""
    if not changes:
        return "absent"
    return "trained" if any(norms[change.weight] > 0 for change in changes) else "untouched"


def states(changes: Mapping[str, Change], norms: Mapping[str, float]) -> dict[str, str]:
    """Return the state of each group."""
    return {name: state_of(inside, norms) for name, inside in groups.by_group(dict(changes)).items()}


def manifest(made: Made, text: str, mmproj: str) -> dict[str, object]:
    """Return the manifest of the pair of these two files."""
    vision = made.config.table("vision_config")
    context = made.plans["text"].keys["llama.context_length"]
    pair = {kind: {"file": name, **made.files[name]} for kind, name in (("text", text), ("mmproj", mmproj))}
    return {
        "schema": SCHEMA,
        "name": made.name,
        **pair,
        "pair": pair_of(str(pair["text"]["sha256"]), str(pair["mmproj"]["sha256"])),
        "vision": {"patch_px": vision.integer("patch_size", 2, 256, 16), "image_max_tokens": IMAGE_MAX_TOKENS},
        "context_tokens": context,
        "runtime": _runtime(made.plans["text"].keys),
        "adapter": _adapter(made.adapter),
        "groups": _groups(made),
        "modules": _modules(made),
        "files": {name: {**made.files[name], **_file(report)} for name, report in made.reports.items()},
        "verified": {"V0": "passed", "V1": "passed", "V2": dict(made.loads)},
        "sources": made.sources,
        "inputs": made.inputs,
        "tools": {name: version_of(name) for name in ("gguf", "numpy", "llama-cpp-python")}
        | {"llama.cpp": ggml.COMMIT},
        "created_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def pair_of(text_sha256: str, mmproj_sha256: str) -> str:
    """Return what ties the two files of a release together; station/manifest.py computes the same."""
    return hashlib.sha256(f"{text_sha256} {mmproj_sha256}".encode()).hexdigest()


def _runtime(keys: Mapping[str, object]) -> dict[str, object]:
    template = str(keys["tokenizer.chat_template"])
    return {
        "resize": "the station gives pictures whose sides are multiples of patch_px; llama.cpp resizes nothing",
        "bos_token_id": keys["tokenizer.ggml.bos_token_id"],
        "eos_token_id": keys["tokenizer.ggml.eos_token_id"],
        "image_tokens": {"[IMG]": vocabulary.IMG, "[IMG_BREAK]": vocabulary.IMG_BREAK, "[IMG_END]": vocabulary.IMG_END},
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
    }


def _adapter(adapter: Adapter | None) -> dict[str, object] | None:
    if adapter is None:
        return None
    name = adapter.base_name
    echo = {key: adapter.config.values.get(key) for key in _ECHO}
    return echo | {"base": normalised(name), "trained_on_4bit": is_4bit(name)}


def is_4bit(base_name: str) -> bool:
    """Say whether a base is one of Unsloth's 4-bit copies, by its name."""
    return "bnb-4bit" in base_name.lower()


def _groups(made: Made) -> dict[str, object]:
    changes = made.adapter.changes if made.adapter else {}
    return {
        name: {
            "state": state_of(inside, made.norms), "modules": len(inside),
            "parameters": sum(change.parameters for change in inside),
        }
        for name, inside in groups.by_group(changes).items()
        if inside or name != "other"
    }  # fmt: skip


def _modules(made: Made) -> list[dict[str, object]]:
    """Return one row for each trained weight, with its coefficient in every file."""
    rows: dict[str, dict[str, object]] = {}
    for file, report in made.reports.items():
        for one in report.found:
            if one.change is None or one.entry.row >= 0:
                continue
            change, base = one.change, math.sqrt(one.base2)
            row = rows.setdefault(change.weight, {
                "weight": change.weight, "gguf": one.entry.name, "r": change.rank, "alpha": change.alpha,
                "scale": change.scale, "norm_change": _short(math.sqrt(one.delta2)), "norm_base": _short(base),
                "ratio": _short(math.sqrt(one.delta2) / base if base else 0.0),
                "max_change": _short(one.largest_delta), "coefficient": {},
            })  # fmt: skip
            row["coefficient"][file] = round(one.coefficient, 5)
    return list(rows.values())


def _file(report: Report) -> dict[str, object]:
    c = [one.coefficient for one in report.found if one.change is not None and one.delta2]
    return {
        "tensors": report.tensors, "types": report.kinds, "untouched_and_equal_to_base": report.untouched,
        "coefficients": {"modules": len(c), "lowest": round(min(c), 5), "highest": round(max(c), 5)} if c else None,
    }  # fmt: skip


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def version_of(package: str) -> str:
    """Return the version of an installed package, `absent` without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def file_record(path: Path) -> dict[str, object]:
    """Return name, hash and size of a small file."""
    data = path.read_bytes()
    return {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
