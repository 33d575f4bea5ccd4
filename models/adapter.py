"""A LoRA adapter as PEFT and Unsloth write it: which modules it changed and by how much."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import weights
from weights import ExportError, Floats, Tensor

_UNSUPPORTED = {
    "use_dora": False, "lora_bias": False, "bias": "none", "layer_replication": None, "target_parameters": None,
    "trainable_token_indices": None, "use_qalora": False, "fan_in_fan_out": False,
}  # fmt: skip
"""Values of adapter_config.json that this exporter can merge."""


@dataclass(frozen=True)
class Pair:
    """What LoRA adds to one weight: scale * B @ A."""

    a: Tensor
    """(r, in)"""
    b: Tensor
    """(out, r)"""
    scale: float

    def delta(self) -> Floats:
        """Return the change of the weight, (out, in)."""
        return np.float32(self.scale) * (self.b.read() @ self.a.read())


def read(folder: Path) -> dict[str, Pair]:
    """Return the pairs by canonical name of the weight they change. Raises ExportError."""
    path = folder / "adapter_config.json"
    if not path.exists() or not (folder / "adapter_model.safetensors").exists():
        raise ExportError(
            "E01", f"{folder} holds no adapter_config.json with adapter_model.safetensors.",
            "Save the adapter with save_pretrained (safe_serialization on).",
        )  # fmt: skip
    config = json.loads(path.read_text())
    if config.get("peft_type") != "LORA":
        raise ExportError("E01", f"{path}: peft_type is {config.get('peft_type')}, not LORA.", "Train a LoRA.")
    for key, value in _UNSUPPORTED.items():
        if config.get(key, value) != value:
            raise ExportError("E02", f"{path}: {key} = {config[key]} is not supported.", f"Train with {key} = {value}.")
    found = weights.tensors(folder, "adapter_model.safetensors")
    return {name: _pair(name, found, config) for name in _modules(found)}


def _modules(found: dict[str, Tensor]) -> list[str]:
    """Return the weights that have an A and a B, and refuse anything else."""
    names = [re.sub(r"\.lora_[AB]\.weight$", ".weight", name) for name in found]
    for key, name in zip(found, names, strict=True):
        if key == name:
            raise ExportError("E02", f"The adapter holds {key}, which is no LoRA matrix.", "Train without it.")
        if names.count(name) != 2:
            raise ExportError("E03", f"{name}: lora_A or lora_B is missing.", "Save the adapter again.")
    return list(dict.fromkeys(names))


def _pair(name: str, found: dict[str, Tensor], config: dict[str, object]) -> Pair:
    stem = name.removesuffix(".weight")
    a, b = found[f"{stem}.lora_A.weight"], found[f"{stem}.lora_B.weight"]
    rank = _of_module(config, "rank_pattern", "r", a)
    alpha = _of_module(config, "alpha_pattern", "lora_alpha", a)
    if not a.shape[0] == b.shape[1] == rank:
        raise ExportError("E03", f"{name}: rank is {a.shape[0]} and {b.shape[1]}, the configuration says {rank}.", "")
    if not (np.isfinite(a.read()).all() and np.isfinite(b.read()).all()):
        raise ExportError("E03", f"{name}: a value is not finite.", "The training diverged: train again, lower rate.")
    return Pair(a, b, alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank)


def _of_module(config: dict[str, object], patterns: str, default: str, a: Tensor) -> float:
    """Return r or alpha of a module; PEFT matches a pattern against the end of the module's path."""
    module = a.name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
    table = config.get(patterns) or {}
    assert isinstance(table, dict)
    for key, value in table.items():
        if re.match(rf"(.*\.)?({key})$", module):
            return float(value)
    value = config[default]
    assert isinstance(value, int | float)
    return float(value)
