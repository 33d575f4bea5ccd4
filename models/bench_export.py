"""Measures the exporter at the sizes of Pixtral-12B: random weights, an adapter with all 448 modules at r 16.

    python models/bench_export.py --folder DIR [--quant F16,Q4_K_M] [--layers 40]

Writes base and adapter once (25 GB), then measures in one run: reading the base and writing as many bytes as the export
does, each stage of the export, and the memory of its process. Prints JSON. Needs about 60 GB of disk.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the exporter has it

import numpy as np

_POOL_VALUES = 2**25
_BLOCK_BYTES = 32 * 2**20
_PROCESSES = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
_SPECIAL = (
    "<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS]"
    " [IMG] <pad> [IMG_BREAK] [IMG_END]"
).split()


def config(layers: int) -> dict:
    """Return config.json as it is published for Pixtral-12B: most sizes of the vision tower are left out."""
    return {
        "model_type": "llava", "projector_hidden_act": "gelu", "vision_feature_layer": -1,
        "text_config": {
            "model_type": "mistral", "hidden_size": 5120, "head_dim": 128, "intermediate_size": 14336,
            "num_hidden_layers": layers, "num_key_value_heads": 8, "max_position_embeddings": 1024000,
            "rms_norm_eps": 1e-5, "rope_theta": 1e9, "sliding_window": None, "vocab_size": 131072,
        },
        "vision_config": {
            "model_type": "pixtral", "head_dim": 64, "hidden_act": "silu", "image_size": 1024, "patch_size": 16,
            "rope_theta": 10000.0,
        },
    }  # fmt: skip


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Return every weight."""
    out: dict[str, tuple[int, ...]] = {"language_model.model.embed_tokens.weight": (131072, 5120)}
    sizes = {"q": (4096, 5120), "k": (1024, 5120), "v": (1024, 5120), "o": (5120, 4096)}
    for layer in range(layers):
        prefix = f"language_model.model.layers.{layer}"
        out |= {f"{prefix}.self_attn.{name}_proj.weight": shape for name, shape in sizes.items()}
        out |= {f"{prefix}.mlp.{name}_proj.weight": (14336, 5120) for name in ("gate", "up")}
        out |= {f"{prefix}.mlp.down_proj.weight": (5120, 14336)}
        out |= {f"{prefix}.{name}_layernorm.weight": (5120,) for name in ("input", "post_attention")}
    out |= {"language_model.model.norm.weight": (5120,), "language_model.lm_head.weight": (131072, 5120)}
    out |= {"vision_tower.patch_conv.weight": (1024, 3, 16, 16), "vision_tower.ln_pre.weight": (1024,)}
    for layer in range(24):
        prefix = f"vision_tower.transformer.layers.{layer}"
        out |= {f"{prefix}.attention.{name}_proj.weight": (1024, 1024) for name in "qkvo"}
        out |= {f"{prefix}.feed_forward.{name}_proj.weight": (4096, 1024) for name in ("gate", "up")}
        out |= {f"{prefix}.feed_forward.down_proj.weight": (1024, 4096)}
        out |= {f"{prefix}.{name}_norm.weight": (1024,) for name in ("attention", "ffn")}
    for number, columns in ((1, 1024), (2, 5120)):
        out |= {f"multi_modal_projector.linear_{number}.weight": (5120, columns)}
        out |= {f"multi_modal_projector.linear_{number}.bias": (5120,)}
    return out


def write_base(folder: Path, layers: int) -> None:
    """Write shards of about 5 GB in bfloat16, with the tokenizer's files."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    pool = ((rng.standard_normal(_POOL_VALUES, np.float32) * 0.02).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    room = 0
    for name, shape in shapes(layers).items():
        size = 2 * int(np.prod(shape, dtype=np.int64))
        if room + size > 5 * 10**9:
            shards.append({})
            room = 0
        shards[-1][name] = shape
        room += size
    index = {}
    for number, shard in enumerate(shards):
        file = f"model-{number + 1:05}-of-{len(shards):05}.safetensors"
        _write_shard(folder / file, shard, pool)
        index |= dict.fromkeys(shard, file)
    _write_json(folder / "model.safetensors.index.json", {"weight_map": index})
    _write_json(folder / "config.json", config(layers))
    pixels = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    _write_json(folder / "preprocessor_config.json", pixels)
    _write_tokenizer(folder)


def _write_shard(path: Path, tensors: dict[str, tuple[int, ...]], pool: bytes) -> None:
    header, place = {}, 0
    for name, shape in tensors.items():
        size = 2 * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    head = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        while place > 0:
            place -= file.write(memoryview(pool)[: min(place, len(pool))])


def _write_tokenizer(folder: Path) -> None:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in printable] + [chr(256 + n) for n in range(256 - len(printable))]
    words = [*_SPECIAL, *letters]
    merges = []
    for first in letters[:188]:
        for second in letters[:188]:
            for third in letters[:4]:
                if len(words) < 131072:
                    merges.append([first + second, third] if third != letters[0] else [first, second])
                    words.append("".join(merges[-1]))
    tokens = {"type": "BPE", "vocab": {word: n for n, word in enumerate(words)}, "merges": merges}
    added = [{"id": n, "content": word, "special": True} for n, word in enumerate(_SPECIAL)]
    _write_json(folder / "tokenizer.json", {"model": tokens, "added_tokens": added})
    template = "{% for m in messages %}[INST]{{ m['content'] }}[/INST]{% endfor %}"
    settings = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "chat_template": template}
    _write_json(folder / "tokenizer_config.json", settings)


def write_adapter(folder: Path, layers: int, rank: int = 16) -> None:
    """Write an adapter of all language and vision modules, 32 bit, as Unsloth saves it."""
    folder.mkdir(parents=True)
    rng, tensors = np.random.default_rng(2), {}
    for name, shape in shapes(layers).items():
        if name.endswith("_proj.weight"):
            module = "model." + name.replace("language_model.model.", "language_model.").removesuffix(".weight")
            for part, size in (("lora_A", (rank, shape[1])), ("lora_B", (shape[0], rank))):
                tensors[f"base_model.model.{module}.{part}.weight"] = rng.standard_normal(size, np.float32) * 0.004
    header, place = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [place, place + values.nbytes]}
        place += values.nbytes
    head = json.dumps(header).encode()
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for values in tensors.values():
            values.tofile(file)
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "base_model_name_or_path": "random"}
    _write_json(folder / "adapter_config.json", settings)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


class Watch:
    """Seconds, processor seconds of this process and its children, and the machine's load, since it was made."""

    def __init__(self) -> None:
        self.started, self.busy = time.monotonic(), sum(os.times()[:4])

    def read(self) -> dict[str, float]:
        """Return them; a load far above the number of processes says that other work had its share."""
        seconds, busy = time.monotonic() - self.started, sum(os.times()[:4]) - self.busy
        return {"s": round(seconds, 1), "processor s": round(busy, 1), "load": round(os.getloadavg()[0], 1)}


def copy_time(base: Path, target: Path, size: int) -> dict[str, float]:
    """Return the time of reading the base and writing `size` bytes, durable. Reads and writes take turns."""
    forget()
    watch, left, block = Watch(), size, memoryview(bytearray(_BLOCK_BYTES))
    with target.open("wb", buffering=0) as out:
        for path in sorted(base.glob("*.safetensors")):
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(block):
                    left -= out.write(block[: min(count, left)])
        os.fsync(out.fileno())
    found = watch.read()
    target.unlink()
    return found


def forget() -> None:
    """Empty the page cache where that is allowed, so that reading means reading."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        print("the page cache could not be emptied", file=sys.stderr)


def export_times(folder: Path, quants: list[str]) -> dict:
    """Export in this process; return seconds and memory by stage."""
    import export_gguf

    stages: dict[str, dict] = {}

    def timed(name: str) -> None:
        inner = getattr(export_gguf, name)

        def outer(*parts: object) -> object:
            watch = Watch()
            result = inner(*parts)
            own, children = (resource.getrusage(who).ru_maxrss / 2**20 for who in _PROCESSES)
            memory = {"peak GiB so far": round(own, 2), "of a child process": round(children, 2)}
            stages[name] = watch.read() | memory
            print(name, stages[name], file=sys.stderr, flush=True)
            return result

        setattr(export_gguf, name, outer)

    for name in ("make_plan", "check", "merge", "convert", "quantize_all", "verify_all"):
        timed(name)
    order = export_gguf.Order(folder / "base", folder / "adapter", folder / "out", "random-12b", tuple(quants))
    started = time.monotonic()
    manifest = json.loads(export_gguf.export(order).read_text())
    return {
        "stages": stages,
        "whole s": round(time.monotonic() - started, 1),
        "files": {
            name: {key: file[key] for key in ("bytes", "coefficients")} for name, file in manifest["files"].items()
        },
    }


def main() -> None:
    """Write what is missing, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--quant", default="F16,Q4_K_M")
    parser.add_argument("--layers", type=int, default=40, help="of the language model; fewer for a quick look")
    parser.add_argument("--prepare", action="store_true", help="only write base and adapter")
    parser.add_argument("--export-only", action="store_true", help="used by itself: the export in a fresh process")
    given = parser.parse_args()
    if given.export_only:
        print(json.dumps(export_times(given.folder, given.quant.split(","))))
        return
    if not (given.folder / "base").exists():
        write_base(given.folder / "base", given.layers)
        write_adapter(given.folder / "adapter", given.layers)
    if given.prepare:
        return
    size = sum(2 * int(np.prod(shape, dtype=np.int64)) for shape in shapes(given.layers).values())
    result = {"base bytes": size, "copy": copy_time(given.folder / "base", given.folder / "copy", size)}
    print(json.dumps(result), flush=True)
    forget()
    command = [sys.executable, __file__, "--folder", str(given.folder), "--quant", given.quant, "--export-only"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print(json.dumps(result | json.loads(done.stdout.splitlines()[-1]), indent=1))


if __name__ == "__main__":
    main()
