"""Trains the base of pins-tiny on drawn pictures of many products: `python models/train_base.py --out DIR`.

One CUDA GPU, under 20 minutes. Resumes from DIR/checkpoint.pt, writes the Hugging Face folder DIR/base, the log
DIR/train-log.jsonl and the accuracy table DIR/accuracy.json. Needs the `train` extra.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import network
import sampling
import tokenizer
import torch
import training


def main() -> None:
    """Train, measure, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=0, help="0: as many as fit into --minutes")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--batch-pins", type=int, default=1024)
    parser.add_argument("--batch-report", type=int, default=192)
    parser.add_argument("--seed", type=int, default=27)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", action="store_true", help="4 minutes of compiling, then steps a quarter faster")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    torch.set_float32_matmul_precision("high")
    plan = training.Plan(
        seed=arguments.seed, steps=arguments.steps, minutes=arguments.minutes, learning_rate=1e-3,
        batch_pins=arguments.batch_pins, batch_report=arguments.batch_report, design=None,
        variation=sampling.BASE, out=arguments.out, compile=arguments.compile,
    )  # fmt: skip
    model, vocabulary = network.build(), tokenizer.train()
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters", flush=True)
    trainer = training.Trainer(plan, network.Asker(model, vocabulary), arguments.device)
    trainer.resume()
    trainer.run(arguments.workers, evaluate_every=1000)
    network.save(model, vocabulary, arguments.out / "base")
    model.float()
    table = trainer.table(65536 if arguments.device == "cuda" else 64)
    (arguments.out / "accuracy.json").write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps(table, indent=1), flush=True)


if __name__ == "__main__":
    main()
