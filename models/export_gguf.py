"""Merges a LoRA into its 16-bit base and writes a proven GGUF pair with its manifest.

    python models/export_gguf.py --base DIR --adapter DIR --out DIR [--name NAME] [--quant F16,Q8_0,Q4_K_M] [--dry-run]
    python models/export_gguf.py inspect ADAPTER [ADAPTER2] [--base DIR] [--json] [--plot FILE.png]

plan -> check -> merge -> convert -> quantize -> verify -> manifest. Everything happens from the files, in chunks of
rows, never through a loaded model; every tensor of the adapter must land on exactly one weight. Both halves
are written, with the `[IMG_BREAK]` row that llama.cpp's own converter loses. Files get their names after all
were verified, the manifest last. An interrupted export goes on where it was. Without --adapter the base is exported.
Needs numpy, gguf and llama-cpp-python; no GPU, no network, no torch.
"""

import argparse
import errno
import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # chunks are the threads; a matrix of rank 16 has no work for more

import adapter
import checked_json
import checks
import describe
import gguf_plan
import gguf_stream
import inspect_adapter
import load_check
import quantize
import release
import verify
import vocabulary
import weights
from checked_json import ExportError, Fields
from gguf import GGMLQuantizationType as Kind
from progress import say

_MMPROJ_KINDS = {"f16": Kind.F16, "q8_0": Kind.F16, "f32": Kind.F32, "bf16": Kind.BF16}
"""What the mmproj is first written as; q8_0 is then quantized by llama.cpp."""
_FORM = 2
"""Counts up when the same inputs would give other files."""


@dataclass(frozen=True)
class Order:
    """What is to be exported."""

    base: Path
    adapter: Path | None
    out: Path
    name: str
    quants: tuple[str, ...] = ("F16",)
    """The first is the text file of manifest.json."""
    mmproj_type: str = "f16"
    expect_vision: str = "auto"

    @property
    def mmproj(self) -> str:
        """Name of the mmproj that is released."""
        return f"mmproj-{self.mmproj_type.upper()}.gguf"

    @property
    def first_mmproj(self) -> str:
        """Name of the mmproj as it is first written."""
        return f"mmproj-{_MMPROJ_KINDS[self.mmproj_type].name}.gguf"

    def manifest_of(self, quant: str) -> str:
        """Return the name of the manifest for this type of the text file."""
        return "manifest.json" if quant == self.quants[0] else f"manifest-{quant}.json"

    @property
    def released(self) -> list[str]:
        """Names of all files of the release."""
        return [*(f"text-{quant}.gguf" for quant in self.quants), self.mmproj]


@dataclass(frozen=True)
class Plan:
    """What was read of the inputs, and what will be written."""

    config: Fields
    found: dict[str, weights.Tensor]
    adapter: adapter.Adapter | None
    files: dict[str, gguf_plan.FilePlan]
    """`text` and `mmproj`, as they are first written."""

    @property
    def changes(self) -> dict[str, adapter.Change]:
        """What the adapter changes."""
        return self.adapter.changes if self.adapter else {}


def make_plan(order: Order) -> Plan:
    """Read headers and configurations of base and adapter. Raises ExportError E01 to E08."""
    config = checked_json.read(order.base / "config.json", "E06", "Give a Hugging Face folder of Pixtral.")
    gguf_plan.check_config(config)
    trained = adapter.read(order.adapter) if order.adapter else None
    found = weights.base_tensors(order.base)
    words = config.table("text_config").integer("vocab_size", 16, 2**21)
    keys = vocabulary.keys(order.base, order.adapter, words)
    files = {
        "text": gguf_plan.plan_text(config, keys, order.name),
        "mmproj": gguf_plan.plan_vision(config, order.base, found, order.name, _MMPROJ_KINDS[order.mmproj_type]),
    }
    return Plan(config, found, trained, files)


def check(order: Order, plan: Plan) -> None:
    """Compare adapter, base and expectation. Raises ExportError E02 to E10."""
    gguf_plan.check_base(list(plan.files.values()), plan.found)
    if plan.adapter is None:
        return
    checks.check_placed(plan.changes, plan.found)
    checks.check_name(plan.adapter, order.base, plan.config)
    checks.check_promise(plan.adapter, list(plan.found), order.expect_vision)


def merge(order: Order, plan: Plan) -> dict[str, float]:
    """Return the norm of every change; the weights themselves are merged while they are written. Raises E10 or E12."""
    norms = checks.norms_of(plan.changes, plan.found)
    if plan.adapter is not None:
        states = describe.states(plan.changes, norms)
        for group, state in states.items():
            if state != "absent":
                say("merge", f"{group}: {state}")
        checks.check_vision(states, order.expect_vision)
        checks.check_effect(norms)
    return norms


def inputs_of(order: Order, plan: Plan) -> str:
    """Return a hash that changes when the inputs would give other files."""
    small = [order.base / name for name in ("config.json", "tokenizer.json", "tokenizer_config.json")]
    small += (
        [order.adapter / name for name in ("adapter_config.json", "adapter_model.safetensors")] if order.adapter else []
    )
    content = {
        "form": _FORM,
        "name": order.name,
        "llama": describe.version_of("llama-cpp-python"),
        "keys": [str(file.keys) for file in plan.files.values()],
        "small": [release.sha256_of(path) for path in small],
        "shards": [weights.fingerprint(file) for file in sorted({tensor.file for tensor in plan.found.values()})],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode(errors="replace")).hexdigest()


def convert(order: Order, plan: Plan, folder: release.Folder) -> None:
    """Write both files in their first type, in one pass over the base."""
    names = {"text-F16.gguf": plan.files["text"], order.first_mmproj: plan.files["mmproj"]}
    missing = {name: file for name, file in names.items() if not folder.finished(name)}
    if not missing:
        say("convert", "skipped: both files are there")
        return
    written = gguf_stream.write_files(
        {folder.partial(name): file for name, file in missing.items()}, plan.found, plan.changes
    )
    folder.sources = written.sources
    for name in missing:
        folder.finish(name, written.sha256[folder.partial(name)])


def quantize_all(order: Order, folder: release.Folder) -> None:
    """Write the text file in every other type asked for, and the mmproj."""
    wanted = [(f"text-{kind}.gguf", "text-F16.gguf", kind) for kind in order.quants if kind != "F16"]
    if order.mmproj_type == "q8_0":
        wanted.append((order.mmproj, order.first_mmproj, "Q8_0"))
    for name, source, kind in wanted:
        if folder.finished(name):
            say("quantize", f"{name} skipped: it is there")
            continue
        quantize.quantized(place(folder, source), folder.partial(name), kind)
        folder.finish(name, release.sha256_of(folder.partial(name)))


def place(folder: release.Folder, name: str) -> Path:
    """Return where a finished file is."""
    partial = folder.partial(name)
    return partial if partial.exists() else folder.path / name


def verify_all(order: Order, plan: Plan, folder: release.Folder) -> tuple[dict[str, verify.Report], dict[str, dict]]:
    """Return what V0, V1 and V2 found of every file; a wrong one is removed. Raises ExportError V0, V1 or V2."""
    reports, loads = {}, {}
    for name in order.released:
        path, file = place(folder, name), plan.files[name.split("-")[0]]
        try:
            is_quantized = name not in ("text-F16.gguf", order.first_mmproj)
            reports[name] = verify.check_structure(path, file, is_quantized=is_quantized)
            verify.check_weights(path, file, plan.found, plan.changes, reports[name])
        except ExportError:
            folder.discard([*order.released, "text-F16.gguf", order.first_mmproj])
            raise
    for quant in order.quants:
        name = f"text-{quant}.gguf"
        loads[name] = load_check.check_loads(place(folder, name), place(folder, order.mmproj))
        say("verify", f"{name} with {order.mmproj}: arrived whole, loads, sees {loads[name]['image_tokens']} tokens")
    return reports, loads


def export(order: Order) -> Path:
    """Write the release; return the manifest's path. Raises ExportError before anything has a final name."""
    plan = make_plan(order)
    check(order, plan)
    order.out.mkdir(parents=True, exist_ok=True)
    folder = release.Folder(order.out, inputs_of(order, plan))
    folder.load()
    if not any(folder.files):
        checks.check_disk(order.out, checks.disk_needed(plan.files, list(order.quants), order.mmproj_type))
    norms = merge(order, plan)
    try:
        convert(order, plan, folder)
        quantize_all(order, folder)
    except OSError as error:
        folder.discard(
            [name for name in (*order.released, "text-F16.gguf", order.first_mmproj) if name not in folder.files]
        )
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ExportError("E11", f"The disk of {order.out} is full.", "Make room and run it again.") from error
        raise
    reports, loads = verify_all(order, plan, folder)
    made = describe.Made(
        order.name, plan.config, plan.files, plan.adapter, norms, reports, folder.files, sources_of(order, folder),
        folder.inputs, loads,
    )  # fmt: skip
    manifests = {
        order.manifest_of(quant): describe.manifest(made, f"text-{quant}.gguf", order.mmproj) for quant in order.quants
    }
    folder.publish(order.released, manifests)
    return order.out / "manifest.json"


def sources_of(order: Order, folder: release.Folder) -> list[dict[str, object]]:
    """Return the files that went in, with hashes."""
    if order.adapter is None:
        return folder.sources
    own = [order.adapter / name for name in ("adapter_config.json", "adapter_model.safetensors")]
    names = {source["file"] for source in folder.sources}
    return [*folder.sources, *(describe.file_record(path) for path in own if path.name not in names)]


def print_plan(order: Order) -> None:
    """Print what would be written; nothing is."""
    plan = make_plan(order)
    check(order, plan)
    merge(order, plan)
    for kind, file in plan.files.items():
        print(f"{kind}: {len(file.entries)} tensors, {file.bytes / 2**30:.2f} GiB")
    trained = {entry.base for file in plan.files.values() for entry in file.entries} & set(plan.changes)
    print(f"changed by the adapter: {len(trained)} weights")
    print(f"files: {', '.join([*order.released, *map(order.manifest_of, order.quants)])}, SHA256SUMS")
    needed = checks.disk_needed(plan.files, list(order.quants), order.mmproj_type)
    print(f"disk, at most: {needed / 2**30:.2f} GiB in {order.out}")


def read_order(arguments: list[str]) -> tuple[Order, bool]:
    """Return the command line's order, and whether only the plan is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="Hugging Face folder with 16-bit safetensors")
    parser.add_argument("--adapter", type=Path, help="folder with adapter_config.json and adapter_model.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="release folder to write")
    parser.add_argument("--name", help="name of the release (default: the name of --out)")
    parser.add_argument("--quant", default="F16", help=f"of {','.join(quantize.BITS)}; the first is for the station")
    parser.add_argument("--mmproj-type", choices=list(_MMPROJ_KINDS), default="f16")
    parser.add_argument("--expect-vision", choices=("auto", "required", "forbidden"), default="auto")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    given = parser.parse_args(arguments)
    quants = tuple(dict.fromkeys(given.quant.split(",")))
    if unknown := [quant for quant in quants if quant not in quantize.BITS]:
        parser.error(f"--quant {unknown[0]}: one of {', '.join(quantize.BITS)}")
    order = Order(
        given.base, given.adapter, given.out, given.name or given.out.resolve().name, quants, given.mmproj_type,
        given.expect_vision,
    )  # fmt: skip
    return order, given.dry_run


def main(arguments: list[str]) -> int:
    """Run the command line; 1 when the export cannot be right."""
    try:
        if arguments[:1] == ["inspect"]:
            inspect_adapter.main(arguments[1:])
            return 0
        order, is_dry = read_order(arguments)
        if is_dry:
            print_plan(order)
        else:
            print(export(order))
    except (ExportError, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
