"""Writes small Pixtral checkpoints and adapters with numpy alone, in the layouts of three transformers versions."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
WIDTH, INNER, HEADS, KV_HEADS, HEAD, LAYERS, VISION_LAYERS = 256, 256, 4, 2, 64, 2, 3
SPECIAL = (
    "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS]"
    " [IMG] <pad> [IMG_BREAK] [IMG_END]"
).split()
WORDS = len(SPECIAL) + 256 + 2
TEMPLATE = "{{ bos_token }}{% for m in messages %}[INST]{{ m['content'] }}[/INST]{% endfor %}"

LAYOUTS = ("4.51", "4.57", "5.x")
"""4.51: legacy names everywhere, one shard. 4.57: new names in the adapter, legacy ones in the base, two shards.
5.x: new names in both."""


def shapes() -> dict[str, tuple[int, ...]]:
    """Return every weight by its legacy name."""
    out: dict[str, tuple[int, ...]] = {"language_model.model.embed_tokens.weight": (WORDS, WIDTH)}
    for layer in range(LAYERS):
        p = f"language_model.model.layers.{layer}"
        out |= {
            f"{p}.self_attn.q_proj.weight": (HEADS * HEAD, WIDTH),
            f"{p}.self_attn.k_proj.weight": (KV_HEADS * HEAD, WIDTH),
            f"{p}.self_attn.v_proj.weight": (KV_HEADS * HEAD, WIDTH),
            f"{p}.self_attn.o_proj.weight": (WIDTH, HEADS * HEAD),
            f"{p}.mlp.gate_proj.weight": (2 * INNER, WIDTH),
            f"{p}.mlp.up_proj.weight": (2 * INNER, WIDTH),
            f"{p}.mlp.down_proj.weight": (WIDTH, 2 * INNER),
            f"{p}.input_layernorm.weight": (WIDTH,),
            f"{p}.post_attention_layernorm.weight": (WIDTH,),
        }
    out |= {"language_model.model.norm.weight": (WIDTH,), "language_model.lm_head.weight": (WORDS, WIDTH)}
    out |= {"vision_tower.patch_conv.weight": (WIDTH, 3, 16, 16), "vision_tower.ln_pre.weight": (WIDTH,)}
    for layer in range(VISION_LAYERS):
        p = f"vision_tower.transformer.layers.{layer}"
        out |= {f"{p}.attention.{name}_proj.weight": (WIDTH, WIDTH) for name in "qkvo"}
        out |= {
            f"{p}.feed_forward.gate_proj.weight": (INNER, WIDTH),
            f"{p}.feed_forward.up_proj.weight": (INNER, WIDTH),
            f"{p}.feed_forward.down_proj.weight": (WIDTH, INNER),
            f"{p}.attention_norm.weight": (WIDTH,),
            f"{p}.ffn_norm.weight": (WIDTH,),
        }
    for number in (1, 2):
        out |= {f"multi_modal_projector.linear_{number}.weight": (WIDTH, WIDTH)}
        out |= {f"multi_modal_projector.linear_{number}.bias": (WIDTH,)}
    return out


def config() -> dict[str, Any]:
    """Return config.json."""
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": 10,
        "multimodal_projector_bias": True,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "text_config": {
            "model_type": "mistral", "hidden_size": WIDTH, "intermediate_size": 2 * INNER, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "vocab_size": WORDS,
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "sliding_window": None,
            "hidden_act": "silu",
        },
        "vision_config": {
            "model_type": "pixtral", "hidden_size": WIDTH, "intermediate_size": INNER, "head_dim": WIDTH // 4,
            "num_hidden_layers": VISION_LAYERS, "num_attention_heads": 4, "image_size": 1024, "patch_size": 16,
            "hidden_act": "silu", "rope_theta": 10000.0,
        },
    }  # fmt: skip


def tokenizer() -> dict[str, Any]:
    """Return tokenizer.json: special tokens, the 256 bytes in GPT-2's letters, two merges."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(rest))]
    tokens = [*SPECIAL, *letters, "in", "er"]
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": n, "content": token, "special": True}
            | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            for n, token in enumerate(SPECIAL)
        ],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {token: n for n, token in enumerate(tokens)},
            "merges": [["i", "n"], ["e", "r"]],
        },
    }


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def write_safetensors(path: Path, tensors: dict[str, Floats], kind: str = "F32") -> None:
    """Write tensors as F32, F16 or BF16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blobs, place = [], 0
    for name, values in tensors.items():
        blob = _encode(values, kind)
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [place, place + len(blob)]}
        blobs.append(blob)
        place += len(blob)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(blobs))


def _encode(values: Floats, kind: str) -> bytes:
    if kind == "BF16":
        return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return values.astype({"F32": np.float32, "F16": np.float16}[kind]).tobytes()


def new_name(name: str) -> str:
    """Return a weight's name in transformers from 4.52 on."""
    if name.startswith("language_model.lm_head"):
        return name.removeprefix("language_model.")
    return "model." + name.replace("language_model.model.", "language_model.", 1)


def bfloat(values: Floats) -> Floats:
    """Return what bfloat16 keeps of the values (cut off, not rounded)."""
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


def write_base(folder: Path, layout: str, seed: int = 1) -> dict[str, Floats]:
    """Write a base; return its weights by legacy name, as stored."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    tensors = {name: bfloat(_weights(rng, shape)) for name, shape in shapes().items()}
    names = {name: new_name(name) if layout == "5.x" else name for name in tensors}
    parts = [list(tensors)] if layout == "4.51" else [list(tensors)[0::2], list(tensors)[1::2]]
    index: dict[str, str] = {}
    for number, part in enumerate(parts):
        file = "model.safetensors" if len(parts) == 1 else f"model-{number + 1:05}-of-{len(parts):05}.safetensors"
        write_safetensors(folder / file, {names[name]: tensors[name] for name in part}, "BF16")
        index |= {names[name]: file for name in part}
    if len(parts) > 1:
        write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})
    write_json(folder / "config.json", config())
    write_json(folder / "tokenizer.json", tokenizer())
    settings = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    write_json(folder / "tokenizer_config.json", settings | {"add_bos_token": True, "chat_template": TEMPLATE})
    pixels = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    write_json(folder / "preprocessor_config.json", pixels)
    return tensors


def _weights(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    noise = rng.standard_normal(shape, np.float32)
    return noise * 0.05 if len(shape) > 1 else 1 + noise * 0.1


RECIPES = (
    "all", "language only", "vision only", "mlp only", "projector", "rslora", "rank_pattern", "alpha_pattern",
    "modules_to_save", "dora",
)  # fmt: skip
_LANGUAGE = ("language_model.model.layers",)
_VISION = ("vision_tower.transformer.layers",)
_PARTS = {
    "language only": _LANGUAGE,
    "vision only": _VISION,
    "projector": (*_LANGUAGE, *_VISION, "multi_modal_projector"),
}


@dataclass
class Recipe:
    """A trained adapter: what was written, and what it must do to each weight."""

    config: dict[str, Any]
    tensors: dict[str, Floats]
    merged: dict[str, Floats] = field(default_factory=dict)
    """Expected weights, by legacy name."""


def is_target(name: str, recipe: str) -> bool:
    """Say whether a recipe trains a weight."""
    if not name.endswith(("_proj.weight", "linear_1.weight", "linear_2.weight")):
        return False
    if recipe == "mlp only" and ".mlp." not in name and ".feed_forward." not in name:
        return False
    return name.startswith(_PARTS.get(recipe, (*_LANGUAGE, *_VISION)))


def make_adapter(base: dict[str, Floats], recipe: str, layout: str, seed: int = 2) -> Recipe:
    """Return an adapter that was trained by a recipe. The merging here is written apart from the exporter's."""
    rng = np.random.default_rng(seed)
    made = Recipe(_adapter_config(recipe), {})
    for name, weight in base.items():
        if not is_target(name, recipe):
            continue
        module = (name if layout == "4.51" else new_name(name)).removesuffix(".weight")
        rank = 8 if recipe == "rank_pattern" and "gate_proj" in name else 4
        alpha = 32 if recipe == "alpha_pattern" and "q_proj" in name else 8
        a = rng.standard_normal((rank, weight.shape[1]), np.float32) * 0.05
        b = rng.standard_normal((weight.shape[0], rank), np.float32) * 0.05
        made.tensors |= {f"base_model.model.{module}.lora_A.weight": a, f"base_model.model.{module}.lora_B.weight": b}
        scale = alpha / math.sqrt(rank) if recipe == "rslora" else alpha / rank
        merged = weight.astype(np.float64) + scale * np.einsum("or,ri->oi", b.astype(np.float64), a.astype(np.float64))
        if recipe == "dora":
            m = np.linalg.norm(weight, axis=1) * rng.uniform(0.9, 1.1, len(weight)).astype(np.float32)
            made.tensors[f"base_model.model.{module}.lora_magnitude_vector"] = m
            merged *= (m / np.linalg.norm(merged, axis=1))[:, None]
        made.merged[name] = merged.astype(np.float32)
    if recipe == "modules_to_save":
        for name in ("multi_modal_projector.linear_1.weight", "multi_modal_projector.linear_1.bias",
                     "language_model.lm_head.weight"):  # fmt: skip
            whole = base[name] + rng.standard_normal(base[name].shape, np.float32) * 0.01
            made.tensors["base_model.model." + (name if layout == "4.51" else new_name(name))] = whole
            made.merged[name] = whole
    return made


def _adapter_config(recipe: str) -> dict[str, Any]:
    return {
        "peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "use_rslora": recipe == "rslora",
        "use_dora": recipe == "dora", "fan_in_fan_out": False, "task_type": "CAUSAL_LM",
        "rank_pattern": {"gate_proj": 8} if recipe == "rank_pattern" else {},
        "alpha_pattern": {r"layers\.\d+\..*q_proj": 32} if recipe == "alpha_pattern" else {},
        "modules_to_save": ["linear_1", "lm_head"] if recipe == "modules_to_save" else None,
        "target_modules": None, "base_model_name_or_path": "unsloth/Pixtral-12B-2409-unsloth-bnb-4bit",
    }  # fmt: skip


def write_adapter(folder: Path, made: Recipe) -> None:
    """Write an adapter folder as PEFT does."""
    folder.mkdir(parents=True)
    write_json(folder / "adapter_config.json", made.config)
    write_safetensors(folder / "adapter_model.safetensors", made.tensors)
