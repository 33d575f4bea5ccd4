"""An adapter as PEFT and Unsloth write it: which weights it changes and how, read from its two files.

LoRA (with rsLoRA, rank_pattern, alpha_pattern), DoRA, and whole tensors that replace a weight (modules_to_save). What
cannot be merged is refused by name before any work.
"""

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import checked_json
import numpy as np
import numpy.typing as npt
import weights
from checked_json import ExportError, Fields
from weights import Floats, Tensor

_UNSUPPORTED = {
    "lora_bias": False, "bias": "none", "layer_replication": None, "target_parameters": None,
    "trainable_token_indices": None, "use_qalora": False, "use_bdlora": None, "alora_invocation_tokens": None,
    "arrow_config": None, "kasa_config": None, "monteclora_config": None, "fan_in_fan_out": False,
}  # fmt: skip
"""Keys of adapter_config.json and the value that this exporter can merge."""
_KNOWN = {
    "peft_type", "peft_version", "task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode",
    "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "target_modules",
    "exclude_modules", "modules_to_save", "layers_to_transform", "layers_pattern", "init_lora_weights", "loftq_config",
    "eva_config", "corda_config", "lora_ga_config", "velora_config", "qalora_group_size", "megatron_config",
    "megatron_core", "runtime_config", "ensure_weight_tying",
}  # fmt: skip
"""Keys that are used here, or say nothing about the merged weight. PEFT 0.21."""
_KEEPS_BASE = (None, True, False, "gaussian", "eva", "orthogonal")
"""Ways to begin a training that leave the base as it is; PiSSA, OLoRA, CorDA, LoftQ and others change it."""
_PARTS = {"lora_A.weight": "a", "lora_B.weight": "b", "lora_magnitude_vector": "m", "lora_magnitude_vector.weight": "m"}
_MARKER = re.compile(r"\.(lora_\w+(?:\.\w+)*|base_layer\.\w+|token_adapter\..+)$")


@dataclass(frozen=True)
class Change:
    """What training did to one weight W: W + scale * B @ A; with `magnitude` m also its rows' norms; or `whole`."""

    weight: str
    """Canonical name of the weight."""
    module: str
    """The module's path when it was trained."""
    rank: int = 0
    alpha: float = 0.0
    scale: float = 0.0
    a: Tensor | None = None
    """(rank, in)"""
    b: Tensor | None = None
    """(out, rank)"""
    magnitude: Tensor | None = None
    """(out,), DoRA only"""
    whole: Tensor | None = None
    """Replaces the weight."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the base's weight must have."""
        return self.whole.shape if self.whole else (self.b.shape[0], self.a.shape[1])

    @property
    def parts(self) -> list[Tensor]:
        """The adapter's tensors that make this change."""
        return [part for part in (self.a, self.b, self.magnitude, self.whole) if part is not None]

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return sum(math.prod(part.shape) for part in self.parts)

    def apply(self, base: Floats, start: int, stop: int) -> Floats:
        """Return rows `start` to `stop` of the merged weight; `base` holds the same rows of the base."""
        if self.whole:
            return self.whole.rows(start, stop)
        a, b = _matrices(self)
        delta = b[start:stop] @ a
        if self.magnitude:
            delta += base
            norm = np.sqrt(np.einsum("ri,ri->r", delta, delta))
            delta *= (self.magnitude.rows(start, stop) / norm)[:, None]
            return delta.astype(np.float32)
        merged = delta.astype(np.float32)
        merged += base
        return merged

    def norm(self) -> float | None:
        """Return the Frobenius norm of the change without forming it, or None where that needs the base."""
        if self.whole or self.magnitude:
            return None
        a, b = _matrices(self)
        return math.sqrt(max(0.0, float(np.sum((b.T @ b) * (a @ a.T)))))


@lru_cache(maxsize=8)  # neighbouring chunks are of one module; all modules together would not be small
def _matrices(change: Change) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return A and scale * B. In 64 bit, the order in which a processor adds up is below what 32 bit can hold."""
    return change.a.read().astype(np.float64), change.b.read().astype(np.float64) * change.scale


@dataclass(frozen=True)
class Adapter:
    """A read adapter."""

    folder: Path
    config: Fields
    changes: dict[str, Change]
    """By canonical name of the weight."""

    @property
    def base_name(self) -> str:
        """The base it was trained on, as the adapter names it."""
        value = self.config.values.get("base_model_name_or_path")
        return value if isinstance(value, str) else ""


def read(folder: Path) -> Adapter:
    """Return the adapter. Raises ExportError E01, E02 or E03."""
    config_path, file = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if not file.is_file() and (folder / "adapter_model.bin").is_file():
        raise ExportError(
            "E01", f"{folder} holds adapter_model.bin, which can run code when it is read.",
            "Save the adapter again with save_pretrained(..., safe_serialization=True).",
        )  # fmt: skip
    if not config_path.is_file() or not file.is_file():
        raise ExportError(
            "E01", f"{folder} holds no adapter_config.json with adapter_model.safetensors.",
            "Give the folder that save_pretrained wrote, or a checkpoint-N folder of the trainer.",
        )  # fmt: skip
    config = checked_json.read(config_path, "E01", "Save the adapter again.")
    if config.values.get("peft_type") != "LORA":
        raise ExportError("E01", f"{config_path}: peft_type is not LORA.", "Train a LoRA.")
    _check_features(config)
    return Adapter(folder, config, _changes(file, config))


def _check_features(config: Fields) -> None:
    """Raise ExportError E02 for a training whose result is not base + scale * B @ A."""
    for key, value in config.values.items():
        if key in _KNOWN or value in (_UNSUPPORTED.get(key), None, False, [], {}, ""):
            continue
        why = "it cannot be merged" if key in _UNSUPPORTED else "this exporter does not know what it does"
        raise ExportError("E02", f"{config.where}: {key[:60]} is set; {why}.", f"Train without {key[:60]}.")
    begun = config.values.get("init_lora_weights")
    if begun not in _KEEPS_BASE:
        raise ExportError(
            "E02", f"{config.where}: init_lora_weights is {begun!r:.60}: the adapter is for a base that was changed "
            "before training, and would be wrong on the one you have.",
            "Let PEFT convert it: save_pretrained(..., path_initial_model_for_weight_conversion=...).",
        )  # fmt: skip


def _changes(file: Path, config: Fields) -> dict[str, Change]:
    grouped: dict[str, dict[str, Tensor]] = {}
    for tensor in weights.file_tensors(file, "E01"):
        stem, part = _split(tensor.name)
        parts = grouped.setdefault(weights.canonical(stem), {})
        if part in parts or (parts and "whole" in {part, *parts}):
            raise ExportError("E04", f"The adapter changes {stem[:100]} twice.", "Save the adapter again.")
        _check_values(tensor)
        parts[part] = tensor
    if not grouped:
        raise ExportError("E01", f"{file} holds no tensor.", "Save the adapter again.")
    return {weight: _change(weight, parts, config) for weight, parts in grouped.items()}


def _split(name: str) -> tuple[str, str]:
    """Return the weight's name and which part of its change this tensor is."""
    marked = _MARKER.search(name)
    if not marked:
        return name, "whole"
    if marked[1] not in _PARTS:
        raise ExportError("E02", f"The adapter holds {name[:100]}; it cannot be merged.", "Train without it.")
    return f"{name[: marked.start()]}.weight", _PARTS[marked[1]]


def _check_values(tensor: Tensor) -> None:
    if tensor.kind not in ("F64", "F32", "F16", "BF16"):
        raise ExportError(
            "E02", f"The adapter holds {tensor.name[:100]} of type {tensor.kind[:20]}.", "Save it in 32 bit."
        )
    if not tensor.shape or 0 in tensor.shape:
        raise ExportError("E03", f"The adapter's {tensor.name[:100]} is empty.", "Save the adapter again.")
    step = max(1, 2**22 // max(1, tensor.row_values))
    for start in range(0, tensor.shape[0], step):
        if not np.isfinite(tensor.rows(start, min(start + step, tensor.shape[0]))).all():
            raise ExportError(
                "E03", f"The adapter's {tensor.name[:100]} holds a value that is not finite.",
                "The training diverged: train again with a lower rate.",
            )  # fmt: skip


def _change(weight: str, parts: dict[str, Tensor], config: Fields) -> Change:
    if "whole" in parts:
        whole = parts["whole"]
        return Change(weight, whole.name.removeprefix("base_model.model."), whole=whole)
    if not {"a", "b"} <= set(parts):
        raise ExportError("E03", f"{weight[:100]}: lora_A or lora_B is missing.", "Save the adapter again.")
    a, b, magnitude = parts["a"], parts["b"], parts.get("m")
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise ExportError("E02", f"{weight[:100]}: only LoRA of matrices can be merged.", "Train without it.")
    module = a.name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
    rank = _of_module(config, "rank_pattern", "r", module)
    alpha = _of_module(config, "alpha_pattern", "lora_alpha", module)
    if not a.shape[0] == b.shape[1] == rank:
        raise ExportError(
            "E03", f"{weight[:100]}: rank is {a.shape[0]} and {b.shape[1]}, adapter_config.json says {rank:g}.",
            "The two files are not of one training: save the adapter again.",
        )  # fmt: skip
    if bool(config.values.get("use_dora")) != (magnitude is not None):
        raise ExportError("E03", f"{weight[:100]}: use_dora and lora_magnitude_vector disagree.", "Save it again.")
    if magnitude and magnitude.shape != (b.shape[0],):
        raise ExportError("E03", f"{weight[:100]}: lora_magnitude_vector has a wrong size.", "Save it again.")
    scale = alpha / math.sqrt(rank) if config.values.get("use_rslora") else alpha / rank
    return Change(weight, module, int(rank), alpha, scale, a, b, magnitude)


def _of_module(config: Fields, patterns: str, default: str, module: str) -> float:
    """Return r or alpha of a module; PEFT matches a pattern against the end of the module's path."""
    table = config.table(patterns, optional=True)
    for key in table.values:
        try:
            if re.match(rf"(.*\.)?({key})$", module):
                return table.number(key)
        except re.error as error:
            raise ExportError(
                "E03", f"{table.where}: {key[:60]!r} is no pattern.", "Save the adapter again."
            ) from error
    return config.number(default)
