"""Trains pins-any, the LoRA that judges pins of any product: `python models/train_any.py --base DIR --out DIR`.

Asked by pins only, on drawn products of every kind `scenes.draw_designs` knows: rows, pitch, staggering, round, square
and blade pins, plating and housing in grey and in colour, keying walls. One CUDA GPU, three minutes. Writes the adapter
to DIR/adapter in 16 bit, the log and DIR/accuracy.json. Needs the `train` extra.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import lora
import network
import sampling
import torch
import training
from tokenizers import Tokenizer
from transformers import LlavaForConditionalGeneration

RANK = 32


def train_any(plan: training.Plan, base: Path, device: str, workers: int) -> training.Trainer:
    """Train and save the adapter; return the trainer with the trained network."""
    plain = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    asker = network.Asker(lora.added(plain, RANK), Tokenizer.from_file(str(base / "tokenizer.json")))
    trainer = training.Trainer(plan, asker, device)
    trainer.run(workers, evaluate_every=10**9)
    lora.save(asker.model, base.name, plan.out / "adapter")
    return trainer


def main() -> None:
    """Train, measure, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=Path(__file__).parent / "pins-tiny/base")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=0, help="0: as many as fit into --minutes")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--batch-pins", type=int, default=512)
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    torch.set_float32_matmul_precision("high")
    plan = training.Plan(
        seed=arguments.seed, steps=arguments.steps, minutes=arguments.minutes, learning_rate=1.5e-3,
        batch_pins=arguments.batch_pins, batch_report=0, design=None, variation=sampling.BASE, out=arguments.out,
        compile=False, tasks=("pins",), warm_up=30,
    )  # fmt: skip
    trainer = train_any(plan, arguments.base, arguments.device, arguments.workers)
    table = trainer.measure_pins(65536 if arguments.device == "cuda" else 64)
    (arguments.out / "accuracy.json").write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps(table, indent=1), flush=True)


if __name__ == "__main__":
    main()
