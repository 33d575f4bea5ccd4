"""Why did the fine-tuned model judge every part wrongly? A ready experiment: change one thing at a time, measure parts.

    python models/ablate.py --out DIR            # one CUDA GPU, some ten minutes with the drawing

One product the base has never seen, 200 drawn pictures of it to learn from, 400 others to measure. Each variant trains
a LoRA on the shipped base for the same number of seconds and differs from the first in one thing: what is shown, what
is asked about, which half is trained, on which base, in which order it answers. After each, a linear probe reads the
tower's features: where the probe is right and the answer wrong, the language half is to blame; where the probe is wrong
too, the tower or the picture. The first variant is exported as F16, Q8_0 and Q4_K_M and judged the way of the line.
Writes DIR/ablation.json as it goes, prints a table. Needs the `train` extra.
"""

import argparse
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import measure_products
import network
import numpy as np
import peft
import pin_tiles
import probe
import products
import set_training
import tokenizer
import torch
import whole_region
from set_training import Plan, Tiles
from tokenizers import Tokenizer
from train_lora import UNSLOTH_TARGETS
from transformers import LlavaForConditionalGeneration

from station import report

LINEAR = r"(?:q|k|v|o|gate|up|down)_proj"
LANGUAGE, VISION = rf".*language_model.*\.{LINEAR}", rf".*vision_tower.*\.{LINEAR}"
TRAIN_SEED, TEST_SEED = 9300, 9400
QUANTIZED = ("F16", "Q8_0", "Q4_K_M")


def two_pictures(golden: torch.Tensor, test: torch.Tensor) -> list[torch.Tensor]:
    """Return two pictures of one tile each: the tower cannot compare them, only the language half can."""
    return [golden, test]


def no_difference(golden: torch.Tensor, test: torch.Tensor) -> list[torch.Tensor]:
    """Return golden | test in one picture."""
    return [torch.cat([golden, test], -1)]


def test_only(golden: torch.Tensor, test: torch.Tensor) -> list[torch.Tensor]:  # noqa: ARG001  called as the other ways to show are
    """Return the test tile alone."""
    return [test]


def half_size(golden: torch.Tensor, test: torch.Tensor) -> list[torch.Tensor]:
    """Return the composite at half the size: a pin covers one to two patches."""
    small = [torch.nn.functional.avg_pool2d(tile, 2).round() for tile in (golden, test)]
    return set_training.composite(*small)


class VerdictLast(network.AnswerForm):
    """The pin's answer with the mode before the verdict."""

    def __init__(self, vocabulary: Tokenizer) -> None:
        super().__init__(vocabulary, report.PIN_INSTRUCTION, with_region=False)
        mode, judgement = "- defect mode->", "\n- your judgement->"
        self.parts = [list(vocabulary.encode(text, add_special_tokens=False).ids) for text in (mode, judgement)]

    def answers(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return token ids (n, length) and loss weights of that shape."""
        device, n = batch["judgement"].device, len(batch["judgement"])
        first, second = (torch.tensor(part, device=device).expand(n, -1) for part in self.parts)
        mode = torch.tensor(self.modes, device=device)[batch["mode"]][:, None]
        judgement = torch.tensor(self.judgements, device=device)[batch["judgement"]][:, None]
        end = torch.full_like(mode, tokenizer.EOS)
        answer = torch.cat([first, mode, second, judgement, end], 1)
        weight = [0.02] * first.shape[1] + [0.5] + [0.02] * second.shape[1] + [1.0, 0.02]
        return answer, torch.tensor(weight, device=device).expand(n, -1)

    def judgement_at(self) -> int:
        """Return the index of the judgement in an answer."""
        return len(self.parts[0]) + 1 + len(self.parts[1])

    def mode_at(self) -> int:
        """Return the index of the mode in an answer."""
        return len(self.parts[0])


@dataclass(frozen=True)
class Variant:
    """One row of the table."""

    name: str
    show: set_training.Show = set_training.composite
    targets: str | None = UNSLOTH_TARGETS
    """Which weights the LoRA changes; None: nothing is trained."""
    verdict_last: bool = False
    four_bit: bool = False
    """The LoRA is trained on a base of 4 bit (nf4, blocks of 64) and put on the one of 16 bit."""
    whole: int = 0
    """0: one query a pin; 1 or 2: one query for the whole region, with so many pictures."""


VARIANTS = (
    Variant("reference: composite of each pin, verdict first, both halves trained"),
    Variant("untrained", targets=None),
    Variant("golden and test in one picture, no difference", show=no_difference),
    Variant("golden and test as two pictures", show=two_pictures),
    Variant("test picture only", show=test_only),
    Variant("pictures of half the size", show=half_size),
    Variant("verdict after the mode", verdict_last=True),
    Variant("language half trained only", targets=LANGUAGE),
    Variant("vision half trained only", targets=VISION),
    Variant("trained on a 4-bit base", four_bit=True),
    Variant("whole region, untrained", targets=None, whole=1),
    Variant("whole region, test only", whole=1),
    Variant("whole region, golden and test", whole=2),
    Variant("whole region, golden and test, language half, 4-bit base", targets=LANGUAGE, four_bit=True, whole=2),
)  # fmt: skip


@dataclass(frozen=True)
class Material:
    """What all variants share."""

    base: Path
    train: pin_tiles.PinTiles
    test: pin_tiles.PinTiles
    columns: int
    """Of the product's field, to name places."""
    centres: np.ndarray
    """(pins, 2): each pin's x and y in the region's picture, 0..1."""
    device: str
    seconds: float
    batch: int


def asker_of(variant: Variant, material: Material) -> tuple[network.Asker, dict[str, torch.Tensor]]:
    """Return the network to train, and what its 4-bit weights were before."""
    plain = LlavaForConditionalGeneration.from_pretrained(material.base, dtype=torch.float32)
    before = probe.quantize_to_4_bit(plain) if variant.four_bit else {}
    model: Any = plain
    if variant.targets is None:
        plain.requires_grad_(False)
    else:
        config = peft.LoraConfig(r=16, lora_alpha=16, target_modules=variant.targets, task_type="CAUSAL_LM")
        model = peft.get_peft_model(plain, config)
    vocabulary = Tokenizer.from_file(str(material.base / "tokenizer.json"))
    asker = network.Asker(model, vocabulary).to(material.device)
    asker.pin_head.requires_grad_(False)
    asker.patch_head.requires_grad_(False)
    asker.forms["pins, verdict last"] = VerdictLast(vocabulary)
    return asker, before


def run(variant: Variant, material: Material, seed: int) -> tuple[dict[str, Any], network.Asker]:
    """Train and measure one variant."""
    torch.manual_seed(seed)
    asker, before = asker_of(variant, material)
    plan = Plan(seed, material.seconds, material.batch, 1e-3, drawn_every=0)
    row: dict[str, Any] = {"variant": variant.name}
    if variant.whole:
        row |= whole_region.run(asker, material, variant.whole, plan, variant.targets is not None, before)
    else:
        form = asker.forms["pins, verdict last" if variant.verdict_last else "pins"]
        train, test = (Tiles(tiles, material.device, seed) for tiles in (material.train, material.test))
        if variant.targets is not None:
            row["steps"] = set_training.train(asker, form, variant.show, train, [], plan)
        if before:
            row["on the 4-bit base"] = judged(asker, form, variant, test, material)
            probe.restore(asker, before)
        row |= judged(asker, form, variant, test, material)
        row |= probe.of_pins(asker, variant.show, train, test)
    return row, asker


def judged(
    asker: network.Asker, form: network.AnswerForm, variant: Variant, test: Tiles, material: Material
) -> dict[str, float]:
    """Return how right parts and pins are judged."""
    margin, undecided, _ = set_training.answers(asker, form, variant.show, test)
    right = probe.balanced((margin >= 0) | undecided, material.test.mode > 0)
    return set_training.part_table(material.test, margin, undecided) | {"pin right": right}


def prepare(product: products.Product, arguments: argparse.Namespace) -> Material:
    """Draw, teach and cut what all variants share."""
    out, processes = arguments.out, arguments.processes
    recipe_path = measure_products.taught_recipe(product, out)
    learn = measure_products.drawn_set(product, out, arguments.pictures, TRAIN_SEED, processes, many=True)
    measured = measure_products.drawn_set(product, out, arguments.parts, TEST_SEED, processes)
    region = measure_products.load_recipe(recipe_path).file.regions[0]
    centres = [((pin.x + 0.5 - region.box.x) / region.box.width, (pin.y + 0.5 - region.box.y) / region.box.height)
               for pin in region.pins]  # fmt: skip
    return Material(
        base=arguments.base,
        train=pin_tiles.cut_set(recipe_path, learn, processes),
        test=pin_tiles.cut_set(recipe_path, measured, processes),
        columns=product.design.columns,
        centres=np.array(centres),
        device=arguments.device,
        seconds=arguments.seconds,
        batch=arguments.batch,
    )


def variants(material: Material, adapter: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Yield each variant's row; the first one's adapter is saved."""
    for variant in VARIANTS:
        start = time.monotonic()
        row, asker = run(variant, material, seed)
        if variant is VARIANTS[0]:
            asker.model.peft_config["default"].base_model_name_or_path = material.base.name
            asker.model.save_pretrained(adapter)
        row["seconds"] = round(time.monotonic() - start, 1)
        yield row


def quantized(product: products.Product, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row for each quantization of the first variant, judged the way of the line."""
    base, out, processes = arguments.base, arguments.out, arguments.processes
    release = out / "release"
    export = [sys.executable, str(Path(__file__).parent / "export_gguf.py"), "--base", str(base)]
    export += ["--adapter", str(out / "adapter"), "--out", str(release), "--quant", ",".join(QUANTIZED)]
    subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
    settings = measure_products.load_settings(measure_products.ROOT / "config.yaml")
    settings = settings.model_copy(update={"recipe": measure_products.taught_recipe(product, out)})
    folder = measure_products.drawn_set(product, out, arguments.parts, TEST_SEED, processes)
    for kind in QUANTIZED:
        manifest = release / ("manifest.json" if kind == QUANTIZED[0] else f"manifest-{kind}.json")
        lines = measure_products.judged(settings, folder, manifest, out / f"{kind}.jsonl", processes)
        table = measure_products.table_of(lines)
        shares = {key: table[key]["share"] for key in ("judgement right", "escapes", "false rejects")}
        yield {"variant": f"the reference as {kind}, by the station", "parts": len(lines)} | shares


def printed(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table in Markdown."""
    keys = ("judgement right", "escapes", "false rejects", "pin right", "probe right", "steps")
    lines = ["| variant | " + " | ".join(keys) + " |", "| --- " * (len(keys) + 1) + "|"]
    for row in rows:
        cells = [row.get(key, "") for key in keys]
        words = [f"{100 * cell:.2f} %" if isinstance(cell, float) else str(cell) for cell in cells]
        lines.append(f"| {row['variant']} | " + " | ".join(words) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run all variants and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=Path(__file__).parent / "pins-tiny/base")
    parser.add_argument("--product", choices=products.ALL, default=products.BLADE_8.name)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=20.0, help="of training, for each variant")
    parser.add_argument("--pictures", type=int, default=200, help="to learn from")
    parser.add_argument("--parts", type=int, default=400, help="to measure")
    parser.add_argument("--batch", type=int, default=384, help="pins")
    parser.add_argument("--seed", type=int, default=41)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    product = products.ALL[arguments.product]
    material = prepare(product, arguments)
    rows: list[dict[str, Any]] = []
    for source in (
        variants(material, arguments.out / "adapter", arguments.seed),
        quantized(product, arguments),
    ):
        for row in source:
            rows.append(row)
            print(json.dumps(row), flush=True)
            (arguments.out / "ablation.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(printed(rows))


if __name__ == "__main__":
    main()
