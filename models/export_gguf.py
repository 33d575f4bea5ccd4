"""Merges a LoRA into its 16-bit base and writes a GGUF pair with its manifest.

    python models/export_gguf.py --base DIR --adapter DIR --out DIR --name pins-tiny

plan -> merge -> convert -> manifest. Merging happens in float32, from the files, never through a loaded model: every
adapter tensor must land on exactly one weight. Both halves are written: text-F16.gguf and mmproj-F16.gguf; also the
`[IMG_BREAK]` row, which llama.cpp's own converter loses, and q/k in the order its rotary embedding expects.
Without --adapter the base alone is exported. Needs the `export` extra; no GPU, no network, no torch.
"""

import argparse
import datetime
import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import adapter
import gguf
import numpy as np
import weights
from weights import ExportError, Floats, Tensor

Json = dict[str, Any]
IMG_BREAK = 12
_TEXT = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
_VISION = {
    "attention.q_proj": "attn_q", "attention.k_proj": "attn_k", "attention.v_proj": "attn_v",
    "attention.o_proj": "attn_out", "feed_forward.gate_proj": "ffn_gate", "feed_forward.up_proj": "ffn_up",
    "feed_forward.down_proj": "ffn_down", "attention_norm": "ln1", "ffn_norm": "ln2",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One tensor to write."""

    gguf_name: str
    base_name: str
    heads: int = 0
    """Not 0: rows of so many heads are put from half-split into adjacent-pair order."""
    row: int = -1
    """Not -1: only this row."""
    reshape: tuple[int, ...] = field(default=())


def text_entries(config: Json) -> list[Entry]:
    """Return what the text GGUF holds, in file order."""
    text, prefix = config["text_config"], "language_model.model."
    entries = [Entry("token_embd.weight", f"{prefix}embed_tokens.weight")]
    for layer in range(text["num_hidden_layers"]):
        for theirs, ours in _TEXT.items():
            heads = {"attn_q": text["num_attention_heads"], "attn_k": text["num_key_value_heads"]}.get(ours, 0)
            entries.append(Entry(f"blk.{layer}.{ours}.weight", f"{prefix}layers.{layer}.{theirs}.weight", heads))
    entries.append(Entry("output_norm.weight", f"{prefix}norm.weight"))
    return [*entries, Entry("output.weight", "language_model.lm_head.weight")]


def vision_entries(config: Json) -> list[Entry]:
    """Return what the mmproj holds, in file order."""
    vision, prefix = config["vision_config"], "vision_tower."
    side = vision["patch_size"]
    entries = [
        Entry("v.patch_embd.weight", f"{prefix}patch_conv.weight", reshape=(vision["hidden_size"], 3, side, side)),
        Entry("v.pre_ln.weight", f"{prefix}ln_pre.weight"),
    ]
    for layer in range(vision["num_hidden_layers"]):
        for theirs, ours in _VISION.items():
            heads = vision["num_attention_heads"] if ours in ("attn_q", "attn_k") else 0
            name = f"{prefix}transformer.layers.{layer}.{theirs}.weight"
            entries.append(Entry(f"v.blk.{layer}.{ours}.weight", name, heads))
    for number in (1, 2):
        for kind in ("weight", "bias"):
            name = f"multi_modal_projector.linear_{number}.{kind}"
            entries = [*entries, Entry(f"mm.{number}.{kind}", name)]
    embedding = "language_model.model.embed_tokens.weight"
    return [*entries, Entry("v.token_embd.img_break", embedding, row=IMG_BREAK)]


def permuted(weight: Floats, heads: int) -> Floats:
    """Return q or k rows, head by head, from (x0..xn, y0..yn) to (x0, y0, x1, y1, ...)."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


class Merge:
    """Base weights with the adapter's changes added, one at a time."""

    def __init__(self, base: dict[str, Tensor], pairs: dict[str, adapter.Pair]) -> None:
        self.base, self.pairs = base, pairs
        for name, pair in pairs.items():
            self._check(name, pair)
        if pairs and not any(np.any(pair.b.read()) for pair in pairs.values()):
            raise ExportError("E12", "The adapter changes nothing: every lora_B is zero.", "It was never trained.")

    def _check(self, name: str, pair: adapter.Pair) -> None:
        if name not in self.base:
            raise ExportError("E04", f"{name} of the adapter is not in the base.", "Give the base it was trained on.")
        expected = (pair.b.shape[0], pair.a.shape[1])
        if self.base[name].shape != expected:
            raise ExportError(
                "E03", f"{name}: the adapter is for {expected}, the base has {self.base[name].shape}.",
                "Give the base it was trained on.",
            )  # fmt: skip

    def read(self, entry: Entry) -> Floats:
        """Return the merged tensor in GGUF order."""
        if entry.base_name not in self.base:
            raise ExportError("E06", f"The base has no {entry.base_name}.", "A shard is missing: copy the base again.")
        value = self.base[entry.base_name].read()
        if entry.base_name in self.pairs:
            value = value + self.pairs[entry.base_name].delta()
        if entry.row >= 0:
            return np.asarray(value[entry.row], np.float32)
        if entry.heads:
            value = permuted(value, entry.heads)
        return np.asarray(value.reshape(entry.reshape) if entry.reshape else value, np.float32)


def write_file(path: Path, arch: str, keys: Json, entries: list[Entry], merge: Merge) -> None:
    """Write one GGUF under a temporary name, then rename. Matrices in F16, vectors in F32."""
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, arch)
    for key, value in keys.items():
        _add(writer, key, value)
    for entry in entries:
        value = merge.read(entry)
        if value.ndim > 1:
            if np.abs(value).max() > np.finfo(np.float16).max:
                raise ExportError("E09", f"{entry.base_name} does not fit into F16.", "Export as F32.")
            value = value.astype(np.float16)
        writer.add_tensor(entry.gguf_name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)


def _add(writer: gguf.GGUFWriter, key: str, value: object) -> None:
    kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    add: Any = kinds.get(type(value), writer.add_array)
    add(key, value)


def text_keys(config: Json, base: Path, name: str) -> Json:
    """Return the metadata of the text GGUF."""
    text = config["text_config"]
    head = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
    rope = text.get("rope_parameters") or text
    return {
        "general.name": name,
        "general.file_type": int(gguf.LlamaFileType.MOSTLY_F16),
        "llama.vocab_size": text["vocab_size"],
        "llama.context_length": text["max_position_embeddings"],
        "llama.embedding_length": text["hidden_size"],
        "llama.feed_forward_length": text["intermediate_size"],
        "llama.block_count": text["num_hidden_layers"],
        "llama.attention.head_count": text["num_attention_heads"],
        "llama.attention.head_count_kv": text["num_key_value_heads"],
        "llama.attention.key_length": head,
        "llama.attention.value_length": head,
        "llama.attention.layer_norm_rms_epsilon": float(text["rms_norm_eps"]),
        "llama.rope.dimension_count": head,
        "llama.rope.freq_base": float(rope["rope_theta"]),
        **tokenizer_keys(base, text["vocab_size"]),
    }


def tokenizer_keys(base: Path, vocabulary_size: int) -> Json:
    """Return the vocabulary as GGUF metadata, from tokenizer.json."""
    data = json.loads((base / "tokenizer.json").read_text())
    settings = json.loads((base / "tokenizer_config.json").read_text())
    ids = dict(data["model"]["vocab"]) | {token["content"]: token["id"] for token in data["added_tokens"]}
    special = {token["id"] for token in data["added_tokens"] if token["special"]}
    if sorted(ids.values()) != list(range(vocabulary_size)) or ids.get("[IMG_BREAK]") != IMG_BREAK:
        raise ExportError("E08", "tokenizer.json does not fit the embedding.", "Give base and tokenizer of one model.")
    tokens = sorted(ids, key=lambda token: ids[token])
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in data["model"]["merges"]]
    template = base / "chat_template.jinja"
    kinds = (gguf.TokenType.CONTROL, gguf.TokenType.NORMAL)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "pixtral",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [int(kinds[ids[token] not in special]) for token in tokens],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": ids[settings["bos_token"]],
        "tokenizer.ggml.eos_token_id": ids[settings["eos_token"]],
        "tokenizer.ggml.padding_token_id": ids[settings["pad_token"]],
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": template.read_text() if template.exists() else settings["chat_template"],
    }


def vision_keys(config: Json, base: Path, name: str) -> Json:
    """Return the metadata of the mmproj; refuses what llama.cpp's runtime hard-codes otherwise."""
    vision = config["vision_config"]
    theta = (vision.get("rope_parameters") or vision)["rope_theta"]
    if (vision["hidden_act"], config["projector_hidden_act"], float(theta)) != ("silu", "gelu", 10000.0):
        raise ExportError("E07", "The vision tower is not Pixtral's.", "llama.cpp runs silu, gelu and theta 10000.")
    pixels = json.loads((base / "preprocessor_config.json").read_text())
    return {
        "general.name": name,
        "general.type": "mmproj",
        "general.file_type": int(gguf.LlamaFileType.MOSTLY_F16),
        "clip.has_vision_encoder": True,
        "clip.projector_type": "pixtral",
        "clip.use_silu": True,
        "clip.vision.projection_dim": config["text_config"]["hidden_size"],
        "clip.vision.image_size": vision["image_size"],
        "clip.vision.patch_size": vision["patch_size"],
        "clip.vision.embedding_length": vision["hidden_size"],
        "clip.vision.feed_forward_length": vision["intermediate_size"],
        "clip.vision.block_count": vision["num_hidden_layers"],
        "clip.vision.attention.head_count": vision["num_attention_heads"],
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.image_mean": [float(v) for v in pixels["image_mean"]],
        "clip.vision.image_std": [float(v) for v in pixels["image_std"]],
    }


def manifest(name: str, config: Json, files: dict[str, Path], merge: Merge, adapter_folder: Path | None) -> Json:
    """Return the release's manifest: what the station checks, and where it came from."""
    groups = {"vision_tower": 0, "multi_modal_projector": 0, "language_model": 0}
    for module in merge.pairs:
        groups[module.split(".")[0]] += 1
    sources = sorted({tensor.file for tensor in merge.base.values()})
    if adapter_folder is not None:
        sources += [adapter_folder / "adapter_config.json", adapter_folder / "adapter_model.safetensors"]
    return {
        "schema": 1,
        "name": name,
        **{kind: file_record(path) for kind, path in files.items()},
        "vision": {"patch_px": config["vision_config"]["patch_size"], "image_max_tokens": 4096},
        "context_tokens": config["text_config"]["max_position_embeddings"],
        "lora_modules": groups,
        "sources": [file_record(path) for path in sources],
        "tools": {"gguf": _version("gguf"), "numpy": np.__version__},
        "created_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def file_record(path: Path) -> Json:
    """Return name, hash and size of a file."""
    data = path.read_bytes()
    return {"file": path.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def export(base: Path, adapter_folder: Path | None, out: Path, name: str) -> Path:
    """Write the release into `out`; return the manifest's path. Raises ExportError before anything has a final name."""
    config = json.loads((base / "config.json").read_text())
    found = weights.tensors(base, "*.safetensors")
    merge = Merge(found, adapter.read(adapter_folder) if adapter_folder else {})
    files = {"text": out / "text-F16.gguf", "mmproj": out / "mmproj-F16.gguf"}
    out.mkdir(parents=True, exist_ok=True)
    write_file(files["text"], "llama", text_keys(config, base, name), text_entries(config), merge)
    write_file(files["mmproj"], "clip", vision_keys(config, base, name), vision_entries(config), merge)
    path = out / "manifest.json"
    content = manifest(name, config, files, merge, adapter_folder)
    path.with_suffix(".partial").write_text(json.dumps(content, indent=1) + "\n")
    path.with_suffix(".partial").replace(path)  # last: a folder without a manifest is no release
    return path


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="Hugging Face folder with 16-bit safetensors")
    parser.add_argument("--adapter", type=Path, help="folder with adapter_config.json and adapter_model.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="release folder to write")
    parser.add_argument("--name", required=True, help="name of the release")
    arguments = parser.parse_args()
    try:
        print(export(arguments.base, arguments.adapter, arguments.out, arguments.name))
    except (ExportError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
