"""Measures models on the five products that no training has seen, each taught from one golden picture.

    python models/measure_products.py --out DIR --parts 400 --model NAME=MANIFEST [--model NAME=MANIFEST ...]

For each product: draw its golden picture, `station teach` it, draw a labelled set (every second part defective, one to
three defects of even severity), judge the set the way of the line. The recipe is the draft as taught, nothing edited.
DIR keeps recipes, sets and verdicts, so that a stopped run goes on; DIR/products.json and the printout are the table.
`{product}` in a manifest's path is replaced by the product's name.
"""

import argparse
import functools
import json
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import cv2
import draw_frames
import products
from measure import Line, share
from products import Product

from calibration.layout import Known
from calibration.run_set import LabelledSet
from calibration.seen import Seen
from calibration.teach import teach
from station.recipe_file import load_recipe
from station.records import Evaluation
from station.settings import Settings
from station.settings_file import load_settings

ROOT = Path(__file__).parent.parent
SEED = 9100
"""Of the measured sets; training sets have another."""
KILL_MS = 600_000
"""Here nobody waits for a verdict: a busy machine may take long over one."""


def taught_recipe(product: Product, folder: Path) -> Path:
    """Return the recipe that `station teach` proposes for the product's golden picture, made once."""
    path = folder / product.name / "recipe.yaml"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        golden = folder / f"{product.name}.png"
        cv2.imwrite(str(golden), draw_frames.golden_frame(product=product))
        teach([golden], Known(product.pins, (product.design.rows, product.design.columns)), path.parent)
    return path


def drawn_set(product: Product, folder: Path, parts: int, seed: int, processes: int, many: bool = False) -> Path:
    """Return the folder of a labelled set of the product, drawn once; `many`: of many defects, to learn from."""
    path = folder / f"{product.name}-{seed}-{parts}"
    if not (path / "labels.csv").exists():
        draw = functools.partial(draw_frames.draw_part, seed, product=product, many=many)
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            draw_frames.write_set(path, pool.imap(draw, range(parts), chunksize=4))
    return path


def judged(settings: Settings, folder: Path, manifest: Path, out: Path, processes: int) -> list[Line]:
    """Return one line a part: what is true and what the model said, from `out` if it was judged before."""
    if not out.exists():
        work = [(settings, folder, manifest, k, processes) for k in range(processes)]
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            lines = [line for lines in pool.imap_unordered(_judge_share, work) for line in lines]
        out.write_text("".join(json.dumps(line) + "\n" for line in sorted(lines, key=lambda line: str(line["image"]))))
    return [json.loads(line) for line in out.read_text().splitlines()]


def _judge_share(work: tuple[Settings, Path, Path, int, int]) -> list[Line]:
    """Judge every `count`th picture of the set with an engine of one thread."""
    settings, folder, manifest, first, count = work
    cv2.setNumThreads(1)
    engine = settings.engine.model_copy(update={"threads": 1, "kill_ms": KILL_MS})
    labelled = LabelledSet(settings.model_copy(update={"engine": engine}), load_recipe(settings.recipe), folder)
    labelled.labels = dict(list(labelled.labels.items())[first::count])
    return [line_of(seen) for seen in labelled.seen(manifest)]


def line_of(seen: Seen) -> Line:
    """Return what the table needs of one part."""
    region = seen.verdict.regions[0] if seen.verdict.regions else None
    return {
        "image": seen.image, "truth": seen.truth.name, "said": seen.said.name, "reason": seen.verdict.reason.name,
        "modes": seen.modes, "positions": seen.positions, "pin_count": seen.pin_count,
        "count": region.pins_counted if region else None, "margin": seen.margin,
        "pins": [(round(pin.margin, 3), pin.is_bad) for pin in seen.pins],
        "said_positions": [pin.pin_id for pin in region.pins if pin.evaluation is Evaluation.NOT_OK] if region else [],
        "said_modes": [pin.defect_mode for pin in region.pins if pin.evaluation is Evaluation.NOT_OK] if region else [],
    }  # fmt: skip


def table_of(lines: Sequence[Line]) -> Line:
    """Return the shares of one product and model. No decision counts as wrong."""
    good = [line for line in lines if line["truth"] == "OK"]
    bad = [line for line in lines if line["truth"] == "NOT_OK"]
    found = [line for line in bad if line["said"] == "NOT_OK"]
    return {
        "judgement right": share(sum(line["truth"] == line["said"] for line in lines), len(lines)),
        "escapes": share(sum(line["said"] == "OK" for line in bad), len(bad)),
        "false rejects": share(sum(line["said"] != "OK" for line in good), len(good)),
        "no decision": share(sum(line["said"] not in ("OK", "NOT_OK") for line in lines), len(lines)),
        "count right": share(sum(line["count"] == line["pin_count"] for line in lines), len(lines)),
        "position right": share(sum(line["said_positions"] == list(line["positions"]) for line in found), len(found)),
        "mode right": share(
            sum(line["said_modes"] == list(line["modes"]) for line in found
                if line["said_positions"] == list(line["positions"])),
            sum(line["said_positions"] == list(line["positions"]) for line in found),
        ),
    }  # fmt: skip


def read_arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", type=int, default=400, help="of each product")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--model", action="append", required=True, metavar="NAME=MANIFEST")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    arguments = read_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    settings = load_settings(ROOT / "config.yaml")
    result: Line = {}
    for model in arguments.model:
        name, manifest = model.split("=", 1)
        every: list[Line] = []
        for product in products.UNSEEN:
            recipe = taught_recipe(product, arguments.out)
            folder = drawn_set(product, arguments.out, arguments.parts, arguments.seed, arguments.processes)
            path = Path(manifest.replace("{product}", product.name)).absolute()
            out = arguments.out / f"{folder.name}-{name}.jsonl"
            here = settings.model_copy(update={"recipe": recipe})
            lines = judged(here, folder, path, out, arguments.processes)
            result.setdefault(name, {})[product.name] = table_of(lines)
            every += lines
            print(name, product.name, json.dumps(result[name][product.name]["judgement right"]), flush=True)
        result[name]["all"] = table_of(every)
        (arguments.out / "products.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
