"""What a Pixtral's two GGUF files hold: tensors with order, shapes and types, and metadata. No tensor is read.

From config.json, with the defaults that transformers fills in: the published Pixtral-12B leaves out most sizes of the
vision tower. Anything llama.cpp's runtime hard-codes otherwise is refused (E07).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import checked_json
import gguf
import vocabulary
from checked_json import ExportError, Fields
from gguf import GGMLQuantizationType as Kind
from weights import Tensor

_PIXTRAL = "This exporter is for Pixtral (LlavaForConditionalGeneration with a pixtral vision tower)."
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
_EMBEDDING = "language_model.model.embed_tokens.weight"


@dataclass(frozen=True)
class Sizes:
    """Sizes of one half of the model."""

    width: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    """Values per head."""


@dataclass(frozen=True)
class Entry:
    """One tensor to write."""

    name: str
    """In the GGUF file."""
    base: str
    """Canonical name of the weight."""
    shape: tuple[int, ...]
    kind: Kind
    heads: int = 0
    """Not 0: rows of so many heads are put from half-split into adjacent-pair order."""
    row: int = -1
    """Not -1: only this row of the weight."""

    @property
    def bytes(self) -> int:
        """Size in the file, without padding."""
        return math.prod(self.shape) * (4 if self.kind is Kind.F32 else 2)


@dataclass(frozen=True)
class FilePlan:
    """One GGUF file to write."""

    arch: str
    keys: dict[str, object]
    entries: list[Entry]

    @property
    def bytes(self) -> int:
        """Size of the tensors."""
        return sum(entry.bytes for entry in self.entries)


def plan_text(config: Fields, vocabulary_keys: dict[str, object], name: str) -> FilePlan:
    """Return the text file, in F16."""
    text = config.table("text_config")
    size, words = text_sizes(config), text.integer("vocab_size", 16, 2**21)
    rope = text.table("rope_parameters", optional=True)
    theta = (rope if "rope_theta" in rope.values else text).number("rope_theta", 10000.0)
    keys: dict[str, object] = {
        "general.name": name,
        "general.file_type": int(gguf.LlamaFileType.MOSTLY_F16),
        "llama.vocab_size": words,
        "llama.context_length": text.integer("max_position_embeddings", 16, 2**31, 131072),
        "llama.embedding_length": size.width,
        "llama.feed_forward_length": size.inner,
        "llama.block_count": size.layers,
        "llama.attention.head_count": size.heads,
        "llama.attention.head_count_kv": size.kv_heads,
        "llama.attention.key_length": size.head,
        "llama.attention.value_length": size.head,
        "llama.attention.layer_norm_rms_epsilon": text.number("rms_norm_eps", 1e-6),
        "llama.rope.dimension_count": size.head,
        "llama.rope.freq_base": theta,
        **vocabulary_keys,
    }
    rows = {"attn_q": size.heads * size.head, "attn_k": size.kv_heads * size.head, "attn_v": size.kv_heads * size.head}
    shapes = {kind: (count, size.width) for kind, count in rows.items()} | {
        "attn_output": (size.width, size.heads * size.head), "ffn_gate": (size.inner, size.width),
        "ffn_up": (size.inner, size.width), "ffn_down": (size.width, size.inner),
    }  # fmt: skip
    heads = {"attn_q": size.heads, "attn_k": size.kv_heads}
    entries = [Entry("token_embd.weight", _EMBEDDING, (words, size.width), Kind.F16)]
    for layer in range(size.layers):
        prefix = f"language_model.model.layers.{layer}."
        entries += _block(f"blk.{layer}.", prefix, _TEXT, shapes, heads, size.width, Kind.F16)
    entries.append(Entry("output_norm.weight", "language_model.model.norm.weight", (size.width,), Kind.F32))
    entries.append(Entry("output.weight", "language_model.lm_head.weight", (words, size.width), Kind.F16))
    return FilePlan("llama", keys, entries)


def plan_vision(config: Fields, base: Path, found: dict[str, Tensor], name: str, kind: Kind) -> FilePlan:
    """Return the mmproj; matrices are written as `kind`."""
    vision, size, width = config.table("vision_config"), vision_sizes(config), text_sizes(config).width
    side = vision.integer("patch_size", 2, 256, 16)
    pixels = _pixels(base)
    file_types = {
        Kind.F32: gguf.LlamaFileType.ALL_F32,
        Kind.F16: gguf.LlamaFileType.MOSTLY_F16,
        Kind.BF16: gguf.LlamaFileType.MOSTLY_BF16,
    }
    keys: dict[str, object] = {
        "general.name": name,
        "general.type": "mmproj",
        "general.file_type": int(file_types[kind]),
        "clip.has_vision_encoder": True,
        "clip.projector_type": "pixtral",
        "clip.use_silu": True,
        "clip.vision.projection_dim": width,
        "clip.vision.image_size": vision.integer("image_size", side, 65536, 1024),
        "clip.vision.patch_size": side,
        "clip.vision.embedding_length": size.width,
        "clip.vision.feed_forward_length": size.inner,
        "clip.vision.block_count": size.layers,
        "clip.vision.attention.head_count": size.heads,
        "clip.vision.attention.layer_norm_epsilon": 1e-5,
        "clip.vision.image_mean": _three(pixels, "image_mean"),
        "clip.vision.image_std": _three(pixels, "image_std"),
    }
    shapes = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_out"), (size.width, size.width)) | {
        "ffn_gate": (size.inner, size.width), "ffn_up": (size.inner, size.width), "ffn_down": (size.width, size.inner),
    }  # fmt: skip
    heads = {"attn_q": size.heads, "attn_k": size.heads}
    patch = Kind.F16 if kind is Kind.F16 else Kind.F32
    entries = [
        Entry("v.patch_embd.weight", "vision_tower.patch_conv.weight", (size.width, 3, side, side), patch),
        Entry("v.pre_ln.weight", "vision_tower.ln_pre.weight", (size.width,), Kind.F32),
    ]
    for layer in range(size.layers):
        prefix = f"vision_tower.transformer.layers.{layer}."
        entries += _block(f"v.blk.{layer}.", prefix, _VISION, shapes, heads, size.width, kind)
    for number, columns in ((1, size.width), (2, width)):
        projector = f"multi_modal_projector.linear_{number}"
        entries.append(Entry(f"mm.{number}.weight", f"{projector}.weight", (width, columns), kind))
        if f"{projector}.bias" in found:
            entries.append(Entry(f"mm.{number}.bias", f"{projector}.bias", (width,), Kind.F32))
    entries.append(Entry("v.token_embd.img_break", _EMBEDDING, (width,), Kind.F32, row=vocabulary.IMG_BREAK))
    return FilePlan("clip", keys, entries)


def _block(
    ours: str, theirs: str, names: dict[str, str], shapes: dict, heads: dict[str, int], width: int, kind: Kind
) -> list[Entry]:
    """Return one layer: matrices as `kind`, norms in F32."""
    return [
        Entry(
            f"{ours}{new}.weight", f"{theirs}{old}.weight", shapes.get(new, (width,)),
            kind if new in shapes else Kind.F32, heads.get(new, 0),
        )
        for old, new in names.items()
    ]  # fmt: skip


def text_sizes(config: Fields) -> Sizes:
    """Return the language model's sizes."""
    text = config.table("text_config")
    width, heads = text.integer("hidden_size", 32, 65536, 4096), text.integer("num_attention_heads", 1, 1024, 32)
    return Sizes(
        width, text.integer("intermediate_size", 32, 2**20, 14336), text.integer("num_hidden_layers", 1, 512, 32),
        heads, text.integer("num_key_value_heads", 1, 1024, 8), text.integer("head_dim", 2, 8192, width // heads),
    )  # fmt: skip


def vision_sizes(config: Fields) -> Sizes:
    """Return the vision tower's sizes."""
    vision = config.table("vision_config")
    width, heads = vision.integer("hidden_size", 32, 65536, 1024), vision.integer("num_attention_heads", 1, 1024, 16)
    layers = vision.integer("num_hidden_layers", 1, 512, 24)
    return Sizes(width, vision.integer("intermediate_size", 32, 2**20, 4096), layers, heads, heads, width // heads)


def check_config(config: Fields) -> None:
    """Refuse what the runtime would compute otherwise than the trained model. Raises ExportError E05 or E07."""
    if config.values.get("quantization_config"):
        raise ExportError(
            "E05", f"{config.where}: quantization_config is set: this is the 4-bit training base.",
            "Give the 16-bit base (for Pixtral: unsloth/Pixtral-12B-2409).",
        )  # fmt: skip
    text, vision = config.table("text_config"), config.table("vision_config")
    rope = vision.table("rope_parameters", optional=True)
    text_rope = text.table("rope_parameters", optional=True)
    found = {
        "model_type": (config.values.get("model_type"), ("llava",)),
        "text_config.model_type": (text.values.get("model_type", "mistral"), ("mistral",)),
        "text_config.hidden_act": (text.values.get("hidden_act", "silu"), ("silu",)),
        "text_config.sliding_window": (text.values.get("sliding_window"), (None,)),
        "text_config.rope_scaling": (text.values.get("rope_scaling"), (None,)),
        "text_config.rope_type": (text_rope.values.get("rope_type", "default"), ("default",)),
        "vision_config.model_type": (vision.values.get("model_type"), ("pixtral",)),
        "vision_config.hidden_act": (vision.values.get("hidden_act", "gelu"), ("silu",)),
        "vision_config.num_channels": (vision.values.get("num_channels", 3), (3,)),
        "vision_config.rope_theta": (
            (rope if "rope_theta" in rope.values else vision).values.get("rope_theta", 10000.0), (10000,),
        ),
        "projector_hidden_act": (config.values.get("projector_hidden_act", "gelu"), ("gelu",)),
        "vision_feature_layer": (config.values.get("vision_feature_layer", -2), (-1,)),
        "spatial_merge_size": (config.values.get("spatial_merge_size"), (None, 1)),
    }  # fmt: skip
    for key, (value, allowed) in found.items():
        if isinstance(value, list | dict) or value not in allowed:
            raise ExportError("E07", f"{config.where}: {key} is {value!r:.60}, not {allowed[-1]!r}.", _PIXTRAL)
    for half, size in (("text_config", text_sizes(config)), ("vision_config", vision_sizes(config))):
        if size.heads % size.kv_heads or size.head % 2 or (half == "vision_config" and size.width % size.heads):
            raise ExportError("E07", f"{config.where}: the heads of {half} do not fit.", _PIXTRAL)


def check_base(plans: list[FilePlan], found: dict[str, Tensor]) -> None:
    """Compare the base's tensors with the plan. Raises ExportError E06 (missing) or E07 (other shape, unknown)."""
    planned: set[str] = set()
    for entry in (entry for plan in plans for entry in plan.entries):
        planned.add(entry.base)
        if entry.base not in found:
            raise ExportError("E06", f"The base has no {entry.base}.", "A shard is missing: copy the base again.")
        shape = found[entry.base].shape
        if entry.row < 0 and shape != entry.shape:
            raise ExportError(
                "E07", f"{entry.base} is {shape}, config.json says {entry.shape}.", "Copy the base again."
            )
    unknown = sorted(name for name in set(found) - planned if not name.endswith(("rotary_emb.inv_freq", "inv_freq")))
    if unknown:
        raise ExportError("E07", f"The base holds {unknown[0][:100]}, which is not Pixtral's.", _PIXTRAL)


def _pixels(base: Path) -> Fields:
    hint = "Give the base with its preprocessor_config.json."
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (base / name).exists():
            fields = checked_json.read(base / name, "E07", hint)
            inner = fields.table("image_processor", optional=True)
            fields = inner if "image_mean" in inner.values else fields
            if "image_mean" in fields.values:
                return fields
    raise ExportError("E07", f"{base} has no image_mean and image_std.", hint)


def _three(fields: Fields, key: str) -> list[float]:
    values = fields.items(key)
    if len(values) != 3 or not all(isinstance(v, int | float) and 0 < v < 1e6 for v in values):
        raise fields.wrong(key, "three positive numbers")
    return [float(value) for value in values]
