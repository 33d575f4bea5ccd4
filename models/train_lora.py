"""Trains a LoRA for the shipped product: `python models/train_lora.py --base DIR --golden PNG --out DIR`.

In the form that Unsloth writes: its target pattern as one string, vision and language layers, attention and mlp, r 16,
alpha 16. The golden tiles are cut from the recipe's own golden picture. One CUDA GPU, minutes. Writes the adapter to
DIR/adapter, the log and DIR/accuracy.json. Needs the `train` extra.

On site, for a product of your own: `python models/train_lora.py --set DIR --recipe NAME --out DIR`, see train_site.py.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

if __name__ == "__main__" and {"--set", "--pins"} & set(sys.argv):
    import train_site  # on a station without PyTorch it still cuts, exports and compares

    sys.exit(train_site.main())

import camera
import lora
import network
import numpy as np
import sampling
import scenes
import torch
import training
from PIL import Image
from tokenizers import Tokenizer
from transformers import LlavaForConditionalGeneration


def golden_pixels(picture: Path, device: str) -> camera.Golden:
    """Return the tiles and the region of the shipped product's golden picture, its part in the middle."""
    grey = np.asarray(Image.open(picture).convert("L"))
    middle_x, middle_y, side = grey.shape[1] // 2, grey.shape[0] // 2, sampling.TILE_PX
    tiles = np.zeros((scenes.MAX_PINS, side, side), np.float32)
    for row in range(scenes.PINS_27.rows):
        for column in range(scenes.PINS_27.columns):
            x = middle_x + (column - (scenes.PINS_27.columns - 1) // 2) * sampling.PITCH_PX - side // 2
            y = middle_y + (row - (scenes.PINS_27.rows - 1) // 2) * sampling.PITCH_PX - side // 2
            tiles[row * scenes.MAX_COLUMNS + column] = grey[y : y + side, x : x + side]
    width, height = sampling.REGION_PX
    x, y = middle_x - width // 2, middle_y - height // 2
    region = grey[y : y + height, x : x + width].astype(np.float32)
    return camera.Golden(torch.from_numpy(tiles).to(device), torch.from_numpy(region).to(device))


def read_arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--golden", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="adapter to go on from; else a new one")
    parser.add_argument("--steps", type=int, default=0, help="0: as many as fit into --minutes")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--batch-pins", type=int, default=1024)
    parser.add_argument("--batch-report", type=int, default=192)
    parser.add_argument("--seed", type=int, default=2700)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", action="store_true", help="4 minutes of compiling, then steps a quarter faster")
    return parser.parse_args()


def main() -> None:
    """Train, measure, save."""
    arguments = read_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    torch.set_float32_matmul_precision("high")
    plan = training.Plan(
        seed=arguments.seed, steps=arguments.steps, minutes=arguments.minutes, learning_rate=1.5e-3,
        batch_pins=arguments.batch_pins, batch_report=arguments.batch_report, design=scenes.PINS_27,
        variation=sampling.PRODUCT, out=arguments.out, compile=arguments.compile,
    )  # fmt: skip
    base = LlavaForConditionalGeneration.from_pretrained(arguments.base, dtype=torch.float32)
    model = lora.loaded(base, arguments.start) if arguments.start else lora.added(base, 16)
    model.print_trainable_parameters()
    asker = network.Asker(model, Tokenizer.from_file(str(arguments.base / "tokenizer.json")))
    golden = golden_pixels(arguments.golden, arguments.device)
    trainer = training.Trainer(plan, asker, arguments.device, golden)
    trainer.resume()
    trainer.run(arguments.workers, evaluate_every=1000)
    lora.save(model, arguments.base.name, arguments.out / "adapter")
    table = trainer.table(65536 if arguments.device == "cuda" else 64)
    (arguments.out / "accuracy.json").write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps(table, indent=1), flush=True)


if __name__ == "__main__":
    main()
