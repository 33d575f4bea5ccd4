"""Trains a LoRA on a labelled set of one product: `python models/train_set.py --recipe YAML --set DIR --out DIR`.

Starts from an adapter (pins-any) and goes on training it on the set's pins, mixed with drawn ones. One CUDA GPU, half a
minute. Writes the adapter to DIR/adapter in 16 bit, to be exported with models/export_gguf.py. Needs the `train` extra.
"""

import argparse
import json
import multiprocessing
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import network
import peft
import pin_tiles
import set_training
import torch
from tokenizers import Tokenizer
from train_any import save_adapter
from transformers import LlavaForConditionalGeneration

DRAWN_BATCHES = 8


def train_on(tiles: pin_tiles.PinTiles, base: Path, start: Path, plan: set_training.Plan, device: str) -> network.Asker:
    """Return the network with the adapter trained further."""
    plain = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(plain, start, is_trainable=True)
    for parameter in model.parameters():
        parameter.data = parameter.data.float()
    asker = network.Asker(model, Tokenizer.from_file(str(base / "tokenizer.json"))).to(device)
    asker.pin_head.requires_grad_(False)
    asker.patch_head.requires_grad_(False)
    drawn = set_training.drawn_pins(DRAWN_BATCHES, plan.batch, device, plan.seed) if plan.drawn_every else []
    held = set_training.Tiles(tiles, device, plan.seed)
    steps = set_training.train(asker, asker.forms["pins"], set_training.composite, held, drawn, plan)
    print(f"{steps} steps on {len(held)} pins, {len(held.bad)} of them defective", flush=True)
    return asker


def main() -> None:
    """Train and save."""
    root = Path(__file__).parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=root / "pins-tiny/base")
    parser.add_argument("--start", type=Path, default=root / "pins-any/adapter", help="adapter to go on from")
    parser.add_argument("--recipe", type=Path, required=True)
    parser.add_argument("--set", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--batch", type=int, default=384)
    parser.add_argument("--seed", type=int, default=43)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    tiles = pin_tiles.cut_set(arguments.recipe, arguments.set, arguments.processes)
    plan = set_training.Plan(arguments.seed, arguments.seconds, arguments.batch, 5e-4, drawn_every=3)
    asker = train_on(tiles, arguments.base, arguments.start, plan, arguments.device)
    margin, undecided, _ = set_training.answers(
        asker, asker.forms["pins"], set_training.composite, set_training.Tiles(tiles, arguments.device, 0)
    )
    print("on the set itself:", json.dumps(set_training.part_table(tiles, margin, undecided)), flush=True)
    save_adapter(asker.model, arguments.base.name, arguments.out / "adapter")


if __name__ == "__main__":
    main()
