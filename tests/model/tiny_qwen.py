"""A tiny Qwen2-VL or Qwen2.5-VL pair: random weights, the shapes and names of a real one, the words of pins-tiny."""

import json
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from station.manifest import pair_of, sha256_of

ROOT = Path(__file__).parents[2]
WIDTH, INNER, HEADS, LAYERS = 128, 256, 4, 3
TOWER, TOWER_INNER, TOWER_LAYERS = 64, 128, 3
TEMPLATE = (
    "{% for message in messages %}<|im_start|>user\n{% for part in message['content'] %}{{ part['text'] }}{% endfor %}"
    "<|im_end|>\n<|im_start|>assistant\n{% endfor %}"
)


class Writer:
    """Writes random tensors of one file."""

    def __init__(self, path: Path, architecture: str, seed: int) -> None:
        self.gguf = gguf.GGUFWriter(path, architecture)
        self.rng = np.random.default_rng(seed)

    def random(self, name: str, *shape: int, scale: float = 0.2) -> None:
        """Add a float32 tensor of normal values."""
        self.gguf.add_tensor(name, (self.rng.standard_normal(shape, np.float32) * scale))

    def ones(self, name: str, size: int) -> None:
        """Add a norm."""
        values: npt.NDArray[np.float32] = np.ones(size, np.float32)
        self.gguf.add_tensor(name, values)

    def close(self) -> None:
        """Write the file."""
        self.gguf.write_header_to_file()
        self.gguf.write_kv_data_to_file()
        self.gguf.write_tensors_to_file()
        self.gguf.close()


def write_release(folder: Path, kind: str) -> Path:
    """Write text, mmproj and manifest.json; `kind`: qwen2vl_merger or qwen2.5vl_merger. Return the manifest's path."""
    _write_text(folder / "text.gguf")
    _write_mmproj(folder / "mmproj.gguf", kind)
    files = {
        name: {"file": f"{name}.gguf", "sha256": sha256_of(path), "bytes": path.stat().st_size}
        for name, path in (("text", folder / "text.gguf"), ("mmproj", folder / "mmproj.gguf"))
    }
    manifest = {
        "schema": 1,
        "name": "tiny-qwen",
        **files,
        "pair": pair_of(str(files["text"]["sha256"]), str(files["mmproj"]["sha256"])),
        "vision": {"patch_px": 28, "image_max_tokens": 1024},
        "context_tokens": 2048,
    }
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest))
    return path


def _write_text(path: Path) -> None:
    writer = Writer(path, "qwen2vl", seed=1)
    out = writer.gguf
    data = json.loads((ROOT / "models/pins-tiny/base/tokenizer.json").read_text())
    numbers = dict(data["model"]["vocab"]) | {added["content"]: added["id"] for added in data["added_tokens"]}
    special = {added["content"] for added in data["added_tokens"]}
    words = sorted(numbers, key=lambda word: numbers[word])
    more = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
    out.add_block_count(LAYERS)
    out.add_context_length(2048)
    out.add_embedding_length(WIDTH)
    out.add_feed_forward_length(INNER)
    out.add_head_count(HEADS)
    out.add_head_count_kv(2)
    out.add_rope_freq_base(10000.0)
    out.add_rope_dimension_sections([4, 6, 6, 0])
    out.add_layer_norm_rms_eps(1e-5)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("qwen2")
    out.add_token_list([*words, *more])
    kinds = [gguf.TokenType.CONTROL if word in special else gguf.TokenType.NORMAL for word in words]
    out.add_token_types([int(kind) for kind in [*kinds, *([gguf.TokenType.CONTROL] * len(more))]])
    out.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]])
    out.add_eos_token_id(len(words) + 1)
    out.add_add_bos_token(False)
    out.add_chat_template(TEMPLATE)
    count = len(words) + len(more)
    writer.random("token_embd.weight", count, WIDTH, scale=1.0)
    writer.random("output.weight", count, WIDTH)
    writer.ones("output_norm.weight", WIDTH)
    for layer in range(LAYERS):
        prefix = f"blk.{layer}."
        for name, rows in (("q", WIDTH), ("k", WIDTH // 2), ("v", WIDTH // 2)):
            writer.random(f"{prefix}attn_{name}.weight", rows, WIDTH)
            writer.random(f"{prefix}attn_{name}.bias", rows)
        writer.random(f"{prefix}attn_output.weight", WIDTH, WIDTH)
        for name, shape in (("gate", (INNER, WIDTH)), ("up", (INNER, WIDTH)), ("down", (WIDTH, INNER))):
            writer.random(f"{prefix}ffn_{name}.weight", *shape)
        writer.ones(f"{prefix}attn_norm.weight", WIDTH)
        writer.ones(f"{prefix}ffn_norm.weight", WIDTH)
    writer.close()


def _write_mmproj(path: Path, kind: str) -> None:
    writer = Writer(path, "clip", seed=2)
    out, newer = writer.gguf, kind == "qwen2.5vl_merger"
    out.add_type("mmproj")
    out.add_bool("clip.has_vision_encoder", True)
    out.add_bool("clip.use_silu" if newer else "clip.use_gelu", True)
    out.add_string("clip.projector_type", kind)
    sizes = {
        "image_size": 560, "patch_size": 14, "embedding_length": TOWER, "feed_forward_length": TOWER_INNER,
        "block_count": TOWER_LAYERS, "attention.head_count": 4, "projection_dim": WIDTH,
    }  # fmt: skip
    if newer:
        sizes |= {"n_wa_pattern": 2}
    for key, value in sizes.items():
        out.add_uint32(f"clip.vision.{key}", value)
    out.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    out.add_array("clip.vision.image_mean", [0.48, 0.46, 0.41])
    out.add_array("clip.vision.image_std", [0.27, 0.26, 0.28])
    writer.random("v.patch_embd.weight", TOWER, 3, 14, 14, scale=0.05)
    writer.random("v.patch_embd.weight.1", TOWER, 3, 14, 14, scale=0.05)
    writer.ones("v.post_ln.weight", TOWER)
    norms = [] if newer else ["bias"]
    for layer in range(TOWER_LAYERS):
        prefix = f"v.blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            writer.random(f"{prefix}{name}.weight", TOWER, TOWER)
            writer.random(f"{prefix}{name}.bias", TOWER)
        for name in ("ln1", "ln2"):
            writer.ones(f"{prefix}{name}.weight", TOWER)
            for bias in norms:
                writer.random(f"{prefix}{name}.{bias}", TOWER)
        for name in ("ffn_gate", "ffn_up") if newer else ("ffn_up",):
            writer.random(f"{prefix}{name}.weight", TOWER_INNER, TOWER)
            writer.random(f"{prefix}{name}.bias", TOWER_INNER)
        writer.random(f"{prefix}ffn_down.weight", TOWER, TOWER_INNER)
        writer.random(f"{prefix}ffn_down.bias", TOWER)
    if not newer:
        writer.random("v.post_ln.bias", TOWER)
    writer.random("mm.0.weight", 4 * TOWER, 4 * TOWER)
    writer.random("mm.0.bias", 4 * TOWER)
    writer.random("mm.2.weight", WIDTH, 4 * TOWER)
    writer.random("mm.2.bias", WIDTH)
    writer.close()
