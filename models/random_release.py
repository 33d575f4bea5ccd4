"""Writes a release at the sizes of Pixtral-12B with random weights: speed and memory do not depend on what was learned.

    python models/random_release.py --out DIR [--quant F16,BF16,Q8_0,Q4_0,Q4_K_M] [--tokenizer tokenizer.json]

For `station bench` on a GPU, where the real weights are not at hand. The words are those of `--tokenizer` (Hugging
Face's form), else those of pins-tiny, filled up to Pixtral's 131,072. Rows repeat every 256, so that writing is quick.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import gguf
import numpy as np
import numpy.typing as npt

from station.manifest import pair_of, sha256_of

Kind = gguf.GGMLQuantizationType
_TOKENIZER = Path(__file__).parent / "pins-tiny/base/tokenizer.json"
_PERIOD = 256
_FILE_TYPES = {"F16": 1, "BF16": 32, "Q8_0": 7, "Q4_0": 2, "Q4_K_M": 15}
_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[INST]{% for part in message['content'] %}"
    "{{ part['text'] if part['type'] == 'text' else part['image_url']['url'] }}{% endfor %}[/INST]{% endfor %}"
)


@dataclass(frozen=True)
class Sizes:
    """The sizes of the text model and of the tower."""

    layers: int = 40
    width: int = 5120
    inner: int = 14336
    heads: int = 32
    key_value_heads: int = 8
    head: int = 128
    words: int = 131072
    tower_layers: int = 24
    tower_width: int = 1024
    tower_inner: int = 4096
    tower_heads: int = 16


def rows_of(kind: Kind, columns: int, rng: np.random.Generator) -> npt.NDArray[np.generic]:
    """Return 256 rows of random weights of about 0.02, packed as `kind`: (256, bytes) or (256, columns) of float16."""
    if kind == Kind.F16:
        return (rng.standard_normal((_PERIOD, columns), np.float32) * 0.02).astype(np.float16)
    if kind == Kind.BF16:  # the upper half of a float32
        values = (rng.standard_normal((_PERIOD, columns), np.float32) * 0.02).view(np.uint32) >> 16
        return values.astype(np.uint16).view(np.uint8)
    block_values, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (_PERIOD, columns // block_values, block_bytes), np.uint8)
    for place, value in _SCALES[kind]:
        blocks[..., place : place + 2] = np.array([value], np.float16).view(np.uint8)
    if kind == Kind.Q6_K:
        blocks[..., 192:208] = 16  # the 8-bit scales of the 16 parts of a block
    if kind == Kind.Q4_K:
        blocks[..., 4:12], blocks[..., 12:16] = 8, 0x88  # the 6-bit scales and offsets of its 8 parts: all 8
    return blocks.reshape(_PERIOD, -1)


_SCALES = {
    Kind.Q8_0: ((0, 0.00027),),
    Kind.Q4_0: ((0, 0.0043),),
    Kind.Q4_K: ((0, 0.00054), (2, 0.00405)),
    Kind.Q6_K: ((208, 0.00007),),
}
"""Where a block keeps its 16-bit scales, and values that make weights of about 0.02."""


def kind_of(name: str, quant: str, layer: int, layers: int) -> Kind:
    """Return how a matrix is packed; Q4_K_M gives the layers that llama.cpp holds dear six bits."""
    if quant != "Q4_K_M":
        return Kind[quant]
    dear = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    return Kind.Q6_K if name == "output" or (name in ("attn_v", "ffn_down") and dear) else Kind.Q4_K


def matrices(sizes: Sizes) -> Iterator[tuple[str, str, int, int, int]]:
    """Yield (GGUF name, short name, layer, rows, columns) of the text model's matrices."""
    queries, keys = sizes.heads * sizes.head, sizes.key_value_heads * sizes.head
    yield "token_embd.weight", "token_embd", 0, sizes.words, sizes.width
    for layer in range(sizes.layers):
        for name, rows, columns in (
            ("attn_q", queries, sizes.width),
            ("attn_k", keys, sizes.width),
            ("attn_v", keys, sizes.width),
            ("attn_output", sizes.width, queries),
            ("ffn_gate", sizes.inner, sizes.width),
            ("ffn_up", sizes.inner, sizes.width),
            ("ffn_down", sizes.width, sizes.inner),
        ):
            yield f"blk.{layer}.{name}.weight", name, layer, rows, columns
    yield "output.weight", "output", 0, sizes.words, sizes.width


def write_text(path: Path, quant: str, sizes: Sizes, tokenizer: Path) -> None:
    """Write the language model."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random")
    writer.add_block_count(sizes.layers)
    writer.add_context_length(8192)
    writer.add_embedding_length(sizes.width)
    writer.add_feed_forward_length(sizes.inner)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.key_value_heads)
    writer.add_key_length(sizes.head)
    writer.add_value_length(sizes.head)
    writer.add_rope_dimension_count(sizes.head)
    writer.add_rope_freq_base(1e9)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(sizes.words)
    writer.add_file_type(_FILE_TYPES[quant])
    _add_words(writer, sizes.words, tokenizer)
    rng, made = np.random.default_rng(1), {}
    for name, short, layer, rows, columns in matrices(sizes):
        kind = kind_of(short, quant, layer, sizes.layers)
        if (kind, rows, columns) not in made:
            made[kind, rows, columns] = np.tile(rows_of(kind, columns, rng), (rows // _PERIOD, 1))
        writer.add_tensor(name, made[kind, rows, columns], raw_dtype=None if kind == Kind.F16 else kind)
    ones = np.ones(sizes.width, np.float32)
    for layer in range(sizes.layers):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
    writer.add_tensor("output_norm.weight", ones)
    _write(writer)


def _add_words(writer: gguf.GGUFWriter, words: int, tokenizer: Path) -> None:
    data = json.loads(tokenizer.read_text(encoding="utf-8"))
    numbers = dict(data["model"]["vocab"]) | {added["content"]: added["id"] for added in data["added_tokens"]}
    special = {added["content"] for added in data["added_tokens"] if added.get("special")}
    tokens = sorted(numbers, key=lambda word: numbers[word])
    kinds = [gguf.TokenType.CONTROL if word in special else gguf.TokenType.NORMAL for word in tokens]
    fill = words - len(tokens)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in data["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("pixtral")
    writer.add_token_list([*tokens, *(f"<fill{number}>" for number in range(fill))])
    writer.add_token_types([int(kind) for kind in [*kinds, *([gguf.TokenType.NORMAL] * fill)]])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(numbers["<s>"])
    writer.add_eos_token_id(numbers["</s>"])
    writer.add_add_bos_token(True)
    writer.add_chat_template(_TEMPLATE)


def write_mmproj(path: Path, sizes: Sizes) -> None:
    """Write tower and projector in F16."""
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.use_silu", True)
    writer.add_string("clip.projector_type", "pixtral")
    for key, value in {
        "projection_dim": sizes.width,
        "image_size": 1024,
        "patch_size": 16,
        "embedding_length": sizes.tower_width,
        "feed_forward_length": sizes.tower_inner,
        "block_count": sizes.tower_layers,
        "attention.head_count": sizes.tower_heads,
    }.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.48145466, 0.4578275, 0.40821073])
    writer.add_array("clip.vision.image_std", [0.26862954, 0.26130258, 0.27577711])
    rng = np.random.default_rng(2)

    def random(*shape: int) -> npt.NDArray[np.float16]:
        return (rng.standard_normal(shape, np.float32) * 0.02).astype(np.float16)

    ones, width = np.ones(sizes.tower_width, np.float32), sizes.tower_width
    writer.add_tensor("v.patch_embd.weight", random(width, 3, 16, 16))
    writer.add_tensor("v.pre_ln.weight", ones)
    writer.add_tensor("v.token_embd.img_break", random(1, sizes.width)[0].astype(np.float32))
    for number, columns in ((1, width), (2, sizes.width)):
        writer.add_tensor(f"mm.{number}.weight", random(sizes.width, columns))
        writer.add_tensor(f"mm.{number}.bias", np.zeros(sizes.width, np.float32))
    square, wide, tall = random(width, width), random(sizes.tower_inner, width), random(width, sizes.tower_inner)
    for layer in range(sizes.tower_layers):
        for name, values in (
            *((f"attn_{part}", square) for part in ("q", "k", "v", "out")),
            *(("ffn_gate", wide), ("ffn_up", wide), ("ffn_down", tall), ("ln1", ones), ("ln2", ones)),
        ):
            writer.add_tensor(f"v.blk.{layer}.{name}.weight", values)
    _write(writer)


def _write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_manifest(folder: Path, quant: str) -> Path:
    """Write manifest-QUANT.json beside the pair and return its path."""
    text, mmproj = folder / f"text-{quant}.gguf", folder / "mmproj-F16.gguf"
    files = {
        name: {"file": path.name, "sha256": sha256_of(path), "bytes": path.stat().st_size}
        for name, path in (("text", text), ("mmproj", mmproj))
    }
    data = {
        "schema": 1,
        "name": f"random-12b-{quant}",
        **files,
        "pair": pair_of(str(files["text"]["sha256"]), str(files["mmproj"]["sha256"])),
        "vision": {"patch_px": 16, "image_max_tokens": 4096},
        "context_tokens": 8192,
    }
    path = folder / f"manifest-{quant}.json"
    path.write_text(json.dumps(data, indent=1), encoding="utf-8")
    return path


def main() -> None:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quant", default="F16,Q4_K_M", help=f"of {', '.join(_FILE_TYPES)}")
    parser.add_argument("--tokenizer", type=Path, default=_TOKENIZER)
    parser.add_argument("--layers", type=int, default=40, help="of the language model; fewer for a quick look")
    given = parser.parse_args()
    sizes = Sizes(layers=given.layers)
    given.out.mkdir(parents=True, exist_ok=True)
    write_mmproj(given.out / "mmproj-F16.gguf", sizes)
    for quant in given.quant.split(","):
        write_text(given.out / f"text-{quant}.gguf", quant, sizes, given.tokenizer)
        print(write_manifest(given.out, quant), flush=True)


if __name__ == "__main__":
    main()
