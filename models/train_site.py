"""Trains a LoRA on site: `python models/train_lora.py --set DIR --recipe NAME --out DIR`.

Labelled set -> pins -> LoRA -> GGUF release -> comparison with the active release. Good pins are also edited into
defects that the set does not have (site_edits.py). With `--evaluate SET` the release is measured against the active one
of `--config`; one that is not better gets a gate.json that says so, exit code 1, and cannot be promoted.

A training machine without station and pictures: `--cut-only` here writes DIR/pins.npz, `--pins FILE --train-only` there
the adapter, `--pins FILE --adapter DIR` here the rest. A CUDA GPU takes minutes, a CPU ten or more.
"""

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import defects
import site_pins

if TYPE_CHECKING:
    import site_edits

ROOT = Path(__file__).parent.parent
ENOUGH_STEPS = 100
"""With 92 and more a new product was learned, with 22 good parts lay near the limit (make loop)."""
BASE, PINS_ANY = ROOT / "models/pins-tiny/base", ROOT / "models/pins-any/adapter"


def read_arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, action="append", help="labelled set to learn from; may be repeated")
    parser.add_argument("--recipe", action="append", help="its recipe: a name, or a path of recipe.yaml; one a set")
    parser.add_argument("--out", type=Path, required=True, help="pins.npz, adapter/ and release/ go there")
    parser.add_argument("--evaluate", type=Path, help="labelled set that is not learned from")
    parser.add_argument("--config", type=Path, default=ROOT / "config.yaml", help="names recipe and active release")
    parser.add_argument("--name", default="site", help="of the release")
    parser.add_argument("--pins", type=Path, help="pins.npz that was cut before")
    parser.add_argument("--adapter", type=Path, help="adapter that was trained before")
    parser.add_argument("--cut-only", action="store_true")
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--base", type=Path, default=BASE)
    parser.add_argument("--start", type=Path, help="adapter to go on from; pins-any on its own base, else a new one")
    parser.add_argument("--modes", default=",".join(defects.MODES[1:]), help="defects that are made by editing")
    parser.add_argument(
        "--surface", action="store_true", help="no pins: tiles over a board; edits lie anywhere in them"
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="of training")
    parser.add_argument("--steps", type=int, default=0, help="of training, however long they take; 0: see --minutes")
    parser.add_argument("--batch", type=int, default=0, help="0: 512 on a GPU, 48 on a CPU")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--device", default="", help="cuda or cpu; cuda where there is one")
    arguments = parser.parse_args()
    if unknown := set(arguments.modes.split(",")) - set(defects.MODES[1:]):
        parser.error(f"--modes: {', '.join(sorted(unknown))} cannot be made; known are {', '.join(defects.MODES[1:])}")
    if not (arguments.cut_only or arguments.adapter or importlib.util.find_spec("peft")):
        parser.error(
            "training needs PyTorch and PEFT: pip install -e '.[train]', or here --cut-only and train elsewhere"
        )
    return arguments


def cut(arguments: argparse.Namespace) -> site_pins.SitePins:
    """Return the pins of the sets, and keep them in a file."""
    if arguments.pins:
        return site_pins.load(arguments.pins)
    import site_cut

    from station.errors import StationError

    sets, recipes = arguments.set or [], [recipe_path(name) for name in arguments.recipe or []]
    if not sets or len(sets) != len(recipes):
        raise SystemExit("Give each --set its --recipe.")
    try:
        pins = site_cut.cut(list(zip(recipes, sets, strict=True)))
    except StationError as error:
        raise SystemExit(str(error)) from error
    if not (pins.mode == 0).any():
        raise SystemExit(
            "The sets hold no good pin to learn from: say of some good parts that they passed, collect again."
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    pins.save(arguments.out / "pins.npz")
    bad, blind = int((pins.mode > 0).sum()), int((pins.mode == site_pins.UNDECIDABLE).sum())
    print(f"{len(pins.mode)} pins, {bad} defective, {blind} undecidable: {arguments.out / 'pins.npz'}", flush=True)
    return pins


def recipe_path(name: str) -> Path:
    """Return the recipe's file, given its path or the name of its folder in calibration/recipes."""
    path = Path(name)
    return path if path.suffix == ".yaml" else ROOT / "calibration/recipes" / name / "recipe.yaml"


def train(arguments: argparse.Namespace, pins: site_pins.SitePins) -> Path:
    """Return the adapter, trained now if it was not given."""
    if arguments.adapter:
        return Path(arguments.adapter)
    import site_training
    import torch

    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    plan = site_training.Plan(
        seconds=60 * arguments.minutes, batch=arguments.batch or (512 if device == "cuda" else 48),
        learning_rate=arguments.learning_rate, seed=arguments.seed, device=device, steps=arguments.steps,
    )  # fmt: skip
    own = batches_of(arguments, pins, device)
    start = arguments.start or (PINS_ANY if arguments.base.resolve() == BASE.resolve() else None)
    steps = site_training.train(plan, own, arguments.base, start, arguments.out)
    few = f" Few steps: {ENOUGH_STEPS} are better, with --steps or more --minutes." if steps < ENOUGH_STEPS else ""
    print(f"{steps} steps: {arguments.out / 'adapter'}.{few}", flush=True)
    return Path(arguments.out / "adapter")


def batches_of(arguments: argparse.Namespace, pins: site_pins.SitePins, device: str) -> "site_edits.SiteBatches":
    """Return what makes training batches of the pins, or of a surface's tiles."""
    import site_edits
    import site_surface

    if arguments.surface:
        return site_surface.SurfaceBatches(pins, device, arguments.seed)
    modes = tuple(defects.MODES.index(mode) for mode in arguments.modes.split(","))
    return site_edits.SiteBatches(pins, modes, device, arguments.seed)


def main() -> None:
    """Cut, train, export, compare."""
    arguments = read_arguments()
    pins = cut(arguments)
    if arguments.cut_only:
        return
    adapter = train(arguments, pins)
    if arguments.train_only:
        return
    release = arguments.out / "release"
    export = ["--base", arguments.base, "--adapter", adapter, "--out", release, "--name", arguments.name]
    _run([str(ROOT / "models/export_gguf.py"), *map(str, export)])
    if arguments.evaluate:
        compared = arguments.out / "comparison"
        _run(["-m", "station", "model", "compare", str(release / "manifest.json"), str(arguments.evaluate),
              "--config", str(arguments.config), "--out", str(compared)])  # fmt: skip


def _run(words: list[str]) -> None:
    done = subprocess.run([sys.executable, *words], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
