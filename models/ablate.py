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

import camera
import defects
import lora
import measure_products
import network
import numpy as np
import probe
import products
import site_training
import tokenizer
import torch
import whole_parts
import whole_region
from site_edits import Batch, SiteBatches
from site_pins import Pixels, SitePins
from site_training import Plan
from tokenizers import Tokenizer
from transformers import LlavaForConditionalGeneration

from station import report

LINEAR = r"(?:q|k|v|o|gate|up|down)_proj"
LANGUAGE, VISION = rf".*language_model.*\.{LINEAR}", rf".*vision_tower.*\.{LINEAR}"
TRAIN_SEED, TEST_SEED = 9300, 9400
QUANTIZED = ("F16", "Q8_0", "Q4_K_M")


def composite(picture: torch.Tensor) -> list[torch.Tensor]:
    """Return the station's own picture: golden | test | signed difference."""
    return [picture]


def two_pictures(picture: torch.Tensor) -> list[torch.Tensor]:
    """Return golden and test as a picture each: the tower cannot compare them, only the language half can."""
    return list(picture.chunk(3, -1)[:2])


def no_difference(picture: torch.Tensor) -> list[torch.Tensor]:
    """Return golden | test in one picture."""
    return [torch.cat(two_pictures(picture), -1)]


def test_only(picture: torch.Tensor) -> list[torch.Tensor]:
    """Return the test tile alone."""
    return two_pictures(picture)[1:]


def half_size(picture: torch.Tensor) -> list[torch.Tensor]:
    """Return the composite at half the size: a pin covers one to two patches."""
    small = [torch.nn.functional.avg_pool2d(tile, 2).round() for tile in two_pictures(picture)]
    return [camera.compose(*small)]


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
    show: whole_parts.Show = composite
    targets: str | None = lora.UNSLOTH_TARGETS
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
    train: SitePins
    test: SitePins
    train_regions: Pixels
    test_regions: Pixels
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
        model = lora.added(plain, site_training.RANK, variant.targets)
    asker = site_training.asker_of(model, material.base, material.device)
    asker.forms["pins, verdict last"] = VerdictLast(Tokenizer.from_file(str(material.base / "tokenizer.json")))
    return asker, before


def run(variant: Variant, material: Material, seed: int) -> tuple[dict[str, Any], network.Asker]:
    """Train and measure one variant."""
    torch.manual_seed(seed)
    asker, before = asker_of(variant, material)
    plan = Plan(material.seconds, material.batch, 1e-3, seed, material.device)
    row: dict[str, Any] = {"variant": variant.name}
    if variant.whole:
        row |= whole_region.run(asker, material, variant.whole, plan, variant.targets is not None, before)
    else:
        form = asker.forms["pins, verdict last" if variant.verdict_last else "pins"]
        if variant.targets is not None:
            row["steps"] = trained(asker, form, variant, material, plan)
        if before:
            row["on the 4-bit base"] = judged(asker, form, variant, material)
            probe.restore(asker, before)
        row |= judged(asker, form, variant, material)
        seen = [probe.features(asker, variant.show, pins, material.device) for pins in (material.train, material.test)]
        row["probe right"] = probe.fitted(*seen[0], *seen[1])
    return row, asker


def trained(asker: network.Asker, form: network.AnswerForm, variant: Variant, material: Material, plan: Plan) -> int:
    """Train on the set's pins alone; return the number of steps."""
    batches = SiteBatches(material.train, tuple(range(1, len(defects.MODES))), plan.device, plan.seed)

    def query(_: int) -> tuple[Sequence[torch.Tensor], Batch]:
        picture, labels = batches.draw(plan.batch)
        return variant.show(picture), labels

    return site_training.steps(asker, form, query, plan)


def judged(asker: network.Asker, form: network.AnswerForm, variant: Variant, material: Material) -> dict[str, float]:
    """Return how right parts and pins are judged."""
    margin, undecided = whole_parts.answers(asker, form, variant.show, material.test, material.device)
    right = probe.balanced((margin >= 0) | undecided, material.test.mode > 0)
    return whole_parts.table(material.test, margin, undecided) | {"pin right": right}


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
        train=whole_parts.cut(recipe_path, learn),
        test=whole_parts.cut(recipe_path, measured),
        train_regions=whole_region.cut(recipe_path, learn),
        test_regions=whole_region.cut(recipe_path, measured),
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
            lora.save(asker.model, material.base.name, adapter)
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
