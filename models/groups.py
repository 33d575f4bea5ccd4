"""What an adapter trained, by group of modules, and whether that agrees with what its configuration promises."""

import re

from adapter import Adapter, Change
from checked_json import ExportError

_GROUPS = {
    "vision attention": re.compile(r"^vision_tower\.transformer\.layers\.\d+\.attention\."),
    "vision mlp": re.compile(r"^vision_tower\.transformer\.layers\.\d+\.feed_forward\."),
    "projector": re.compile(r"^multi_modal_projector\."),
    "language attention": re.compile(r"^language_model\.model\.layers\.\d+\.self_attn\."),
    "language mlp": re.compile(r"^language_model\.model\.layers\.\d+\.mlp\."),
    "head": re.compile(r"^language_model\.lm_head\."),
    "other": re.compile(r""),
}
VISION = ("vision attention", "vision mlp")
NAMES = tuple(_GROUPS)
_LAYER = re.compile(r"\.layers\.(\d+)\.")
_LEAF = re.compile(r"(?:(?:q|k|v|o|gate|up|down)_proj|linear_[12]|lm_head)\.weight$")


def group_of(weight: str) -> str:
    """Return the group of a weight."""
    return next(name for name, pattern in _GROUPS.items() if pattern.match(weight))


def layer_of(weight: str) -> int | None:
    """Return the number of the weight's layer, None outside the layers."""
    found = _LAYER.search(weight)
    return int(found[1]) if found else None


def by_group(changes: dict[str, Change]) -> dict[str, list[Change]]:
    """Return the changes of each group; all groups are there."""
    out: dict[str, list[Change]] = {name: [] for name in NAMES}
    for weight, change in changes.items():
        out[group_of(weight)].append(change)
    return out


def promised(adapter: Adapter, weights: list[str]) -> set[str] | None:
    """Return the weights that target_modules names, None where it cannot be told."""
    config = adapter.config.values
    target = config.get("target_modules")
    if any(config.get(key) for key in ("layers_to_transform", "exclude_modules", "layers_pattern")):
        return None
    is_new = any(change.module.startswith(("model.", "lm_head")) for change in adapter.changes.values())
    modules = {_trained_name(weight, is_new): weight for weight in weights if _LEAF.search(weight)}
    if isinstance(target, str) and target != "all-linear":
        try:
            pattern = re.compile(target)
        except re.error as error:
            raise ExportError("E03", "adapter_config.json: target_modules is no pattern.", "Save it again.") from error
        return {weight for module, weight in modules.items() if pattern.fullmatch(module)}
    if isinstance(target, list) and all(isinstance(name, str) for name in target):
        ends = tuple(f".{name}" for name in target)
        return {weight for module, weight in modules.items() if module in target or module.endswith(ends)}
    return None


def _trained_name(weight: str, is_new: bool) -> str:
    """Return the module's path in transformers from 4.52 on, or before."""
    module = weight.removesuffix(".weight")
    if not is_new or module == "language_model.lm_head":
        return module.removeprefix("language_model.") if is_new else module
    return "model." + module.replace("language_model.model.", "language_model.", 1)
