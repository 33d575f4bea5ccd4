"""Every recipe in every layout arrives, in every type: compared with a merge and a name table written apart."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, dequantize

from tests.export import tiny_pixtral
from tests.export.conftest import Bench
from tests.export.tiny_pixtral import HEADS, KV_HEADS, LAYOUTS, RECIPES, Floats

TOLERANCE = {"text-F16.gguf": 0.01, "mmproj-F16.gguf": 0.01, "text-Q8_0.gguf": 0.02, "text-Q4_K_M.gguf": 0.05}
ERROR = {"text-F16.gguf": 5e-4, "mmproj-F16.gguf": 5e-4, "text-Q8_0.gguf": 0.012, "text-Q4_K_M.gguf": 0.1}
NAMES = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "gate_proj": "ffn_gate", "up_proj": "ffn_up",
    "down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "attention_norm": "ln1", "ffn_norm": "ln2",
}  # fmt: skip


def gguf_name(name: str) -> tuple[str, int]:
    """Return the name in the file and the number of heads whose rows are reordered."""
    whole = {
        "language_model.model.embed_tokens.weight": "token_embd.weight",
        "language_model.model.norm.weight": "output_norm.weight",
        "language_model.lm_head.weight": "output.weight",
        "vision_tower.patch_conv.weight": "v.patch_embd.weight",
        "vision_tower.ln_pre.weight": "v.pre_ln.weight",
    }
    if name in whole:
        return whole[name], 0
    parts = name.split(".")
    if parts[0] == "multi_modal_projector":
        return f"mm.{parts[1][-1]}.{parts[2]}", 0
    is_vision, leaf = parts[0] == "vision_tower", parts[-2]
    output = "attn_out" if is_vision else "attn_output"
    heads = {"q_proj": HEADS, "k_proj": HEADS if is_vision else KV_HEADS}.get(leaf, 0)
    return f"{'v.' if is_vision else ''}blk.{parts[3]}.{NAMES.get(leaf, output)}.weight", heads


def in_hugging_face_order(stored: Floats, heads: int) -> Floats:
    if not heads:
        return stored
    pairs = stored.reshape(heads, -1, 2, stored.shape[1])
    return np.concatenate([pairs[:, :, 0], pairs[:, :, 1]], axis=1).reshape(stored.shape)


def read(path: Path) -> dict[str, Floats]:
    return {tensor.name: np.asarray(dequantize(tensor.data, tensor.tensor_type)) for tensor in GGUFReader(path).tensors}


def check_files(bench: Bench, manifest: dict[str, Any]) -> None:
    files = {name: read(bench.out / name) for name in manifest["files"]}
    for name, weight in bench.weights.items():
        expected = bench.made.merged.get(name, weight)
        stored_name, heads = gguf_name(name)
        for file, tensors in files.items():
            if (stored_name in tensors) == file.startswith("mmproj" if stored_name[:2] in ("v.", "mm") else "text"):
                if stored_name not in tensors:
                    continue
                found = in_hugging_face_order(tensors[stored_name].reshape(expected.shape), heads)
                error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
                assert error < ERROR[file], (file, name, error)
    row = bench.weights["language_model.model.embed_tokens.weight"][12]
    assert np.array_equal(files["mmproj-F16.gguf"]["v.token_embd.img_break"], row)
    assert {module["weight"] for module in manifest["modules"]} == set(bench.made.merged)
    for module in manifest["modules"]:
        for file, coefficient in module["coefficient"].items():
            assert abs(coefficient - 1) < TOLERANCE[file], (file, module)


@pytest.mark.parametrize(
    ("recipe", "layout"),
    [
        pytest.param(recipe, layout, marks=[pytest.mark.export] if (i + k) % 3 else [])
        for i, recipe in enumerate(RECIPES)
        for k, layout in enumerate(LAYOUTS)
    ],
)
@pytest.mark.usefixtures("unloaded")
def test_everything_arrives(make_bench: Callable[..., Bench], recipe: str, layout: str) -> None:
    bench = make_bench(recipe, layout)
    manifest = json.loads(bench.export("F16", "Q8_0", "Q4_K_M").read_text())
    check_files(bench, manifest)


@pytest.mark.parametrize("kind", ["f32", "bf16", "q8_0"])
def test_the_mmproj_can_have_other_types(bench: Bench, kind: str) -> None:
    manifest = json.loads(bench.export("Q8_0", mmproj_type=kind).read_text())
    assert manifest["mmproj"]["file"] == f"mmproj-{kind.upper()}.gguf"
    assert not (bench.out / "text-F16.gguf").exists()
    limit = 0.0121 if kind == "q8_0" else 0.004
    tensors = read(bench.out / manifest["mmproj"]["file"])
    for name in (name for name in bench.weights if name.startswith(("vision_tower.", "multi_modal"))):
        expected = bench.made.merged.get(name, bench.weights[name])
        stored, heads = gguf_name(name)
        found = in_hugging_face_order(tensors[stored].reshape(expected.shape), heads)
        assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < limit, name


def test_states_of_groups_are_said(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench("language only")
    groups = json.loads(bench.export().read_text())["groups"]
    assert {name: group["state"] for name, group in groups.items()} == {
        "vision attention": "absent", "vision mlp": "absent", "projector": "absent",
        "language attention": "trained", "language mlp": "trained", "head": "absent",
    }  # fmt: skip
    assert groups["language mlp"]["modules"] == 3 * tiny_pixtral.LAYERS


def test_a_base_without_adapter_is_exported_as_it_is(bench: Bench) -> None:
    import export_gguf  # noqa: PLC0415

    manifest = export_gguf.export(export_gguf.Order(bench.base, None, bench.out, "base"))
    bench.made.merged = {}
    data = json.loads(manifest.read_text())
    assert data["modules"] == []
    check_files(bench, data)
