"""T10: do the GGUF pair and PyTorch give the same verdict on each pin? `python models/compare_pins.py --out FILE`.

Both see the same composites, cut by the station's own path: llama.cpp through the station's engine, PyTorch in 32 bit
with the unmerged adapter. In all 27 pins of each part; half of the parts are defective. Needs the `train` extra.
"""

import argparse
import json
import math
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import measure
import network
import numpy as np
import peft
import torch
from tokenizers import Tokenizer
from transformers import LlavaForConditionalGeneration

from station.capture.crop import golden_crops
from station.capture.gate import CaptureLimits
from station.capture.prepare import Preparer
from station.engine.base import Answer, Query
from station.engine.llama import LlamaEngine
from station.inspection import Inspection
from station.recipe_file import load_recipe

ROOT = Path(__file__).parent.parent


def asker_of(base: Path, adapter: Path, device: str) -> network.Asker:
    """Return the base with its unmerged adapter, 32 bit."""
    plain = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(plain, adapter)
    return network.Asker(model, Tokenizer.from_file(str(base / "tokenizer.json"))).to(device).eval()


@torch.no_grad()
def torch_says(asker: network.Asker, queries: tuple[Query, ...], modes: list[int]) -> list[tuple[float, int]]:
    """Return margin and best mode of each pin; `modes` are the first's answers, put before the question of the mode."""
    form = asker.forms["pins"]
    pixels = [np.frombuffer(q.pictures[0].pixels_rgb, np.uint8).reshape(64, 192, 3) for q in queries]
    device = asker.mean.device
    pictures = torch.from_numpy(np.stack(pixels)).to(device).permute(0, 3, 1, 2).float()
    labels = {"judgement": torch.tensor(modes, device=device), "mode": torch.zeros(len(modes), device=device).long()}
    logits, _ = asker([pictures], torch.tensor([form.prompt], device=device), form.answers(labels)[0])
    margin = network.margin_of(form, logits)
    mode = logits[:, form.mode_at()][:, form.modes].argmax(1)
    return list(zip(margin.tolist(), mode.tolist(), strict=True))


def llama_says(answer: Answer) -> tuple[float, int, int]:
    """Return margin, judgement and best mode of one pin."""
    passed, defective, _ = answer.choices[0].probabilities
    margin = math.log(max(defective, 1e-45)) - math.log(max(passed, 1e-45))
    judgement = int(np.argmax(answer.choices[0].probabilities))
    return margin, judgement, int(np.argmax(answer.choices[1].probabilities))


def compare(parts: int, manifest: Path, asker: network.Asker) -> dict[str, float]:
    """Return how many pins agree and how far the margins are apart."""
    recipe = load_recipe(ROOT / "calibration/recipes/pins-27/recipe.yaml")
    preparer = Preparer(recipe, CaptureLimits(2**26, 10**8))
    inspection = Inspection(measure.asking(recipe, "pins"), golden_crops(recipe))
    engine = LlamaEngine(manifest, threads=1, gpu_layers=0)
    engine.prepare(inspection.question)
    pins = same = same_mode = 0
    apart: list[float] = []
    for number in range(parts):
        job = measure.drawn_job(77, number, preparer)
        queries = inspection.queries(job)
        ours = [llama_says(answer) for answer in engine.ask(queries)]
        theirs = torch_says(asker, queries, [judgement for _, judgement, _ in ours])
        pins += len(queries)
        for (margin, judgement, mode), (other, other_mode) in zip(ours, theirs, strict=True):
            same += judgement == 2 or (margin >= 0) == (other >= 0)
            same_mode += mode == other_mode
            apart.append(abs(margin - other))
    return {
        "pins": pins, "same verdict": same, "same mode": same_mode,
        "difference of the margin, 99 of 100 at most": round(float(np.quantile(apart, 0.99)), 4),
        "largest": round(max(apart), 4),
    }  # fmt: skip


def main() -> None:
    """Compare and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=ROOT / "models/pins-tiny/base")
    parser.add_argument("--adapter", type=Path, default=ROOT / "models/pins-tiny/adapter")
    parser.add_argument("--manifest", type=Path, default=ROOT / "models/pins-tiny/manifest.json")
    parser.add_argument("--parts", type=int, default=120)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    result = compare(arguments.parts, arguments.manifest, asker_of(arguments.base, arguments.adapter, arguments.device))
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
