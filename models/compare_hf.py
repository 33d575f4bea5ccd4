"""How often Hugging Face with the unmerged adapter and the GGUF pair give the same answer.

    python models/compare_hf.py --base models/pins-tiny/base --adapter models/pins-tiny/adapter --parts 40 --out FILE

Both see the same pictures, cut by the station's own path, and answer under the same grammar. Needs the `train` extra.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import llama_cpp  # noqa: F401  (before numpy's users: two OpenMP runtimes in the other order have crashed)
import measure
import network
import numpy as np
import peft
import tokenizer as tokens
import torch
from tokenizers import Tokenizer
from transformers import LlavaForConditionalGeneration

from station.capture.crop import golden_crops
from station.capture.gate import CaptureLimits
from station.capture.prepare import Preparer
from station.engine.base import Answer, Query, Question
from station.engine.cursor import Cursor, SlotTokens, scores_of
from station.engine.llama import LlamaEngine
from station.inspection import Inspection
from station.recipe_file import load_recipe


class HuggingFace:
    """The unmerged adapter on its base, asked like an engine."""

    def __init__(self, base: Path, adapter: Path) -> None:
        self.vocabulary = Tokenizer.from_file(str(base / "tokenizer.json"))
        plain = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
        self.model = peft.PeftModel.from_pretrained(plain, adapter).eval()
        loaded = sum(bool(p.abs().sum() > 0) for n, p in self.model.named_parameters() if "lora_B" in n)
        stored = json.loads((adapter / "adapter_config.json").read_text())["r"]
        print(f"{loaded} adapter modules loaded, r {stored}", flush=True)
        self.mean, self.std = torch.tensor(network.MEAN).view(3, 1, 1), torch.tensor(network.STD).view(3, 1, 1)

    def ids(self, text: str) -> list[int]:
        """Return the tokens of `text`, special tokens included."""
        return list(self.vocabulary.encode(text, add_special_tokens=False).ids)

    def form(self, question: Question) -> list[SlotTokens]:
        """Return the answer form in tokens."""
        out = []
        for slot in question.slots:
            before = self.ids(slot.before)
            choices = tuple(tuple(self.ids(slot.before + choice)[len(before) :]) for choice in slot.choices)
            out.append(SlotTokens(slot=slot, before=tuple(before), choices=choices))
        return out

    @torch.no_grad()
    def ask(self, question: Question, query: Query) -> Answer:
        """Return the answer to one query."""
        rows, columns = question.height_px // network.PATCH, question.width_px // network.PATCH
        picture = ([tokens.IMG] * columns + [tokens.IMG_BREAK]) * rows
        picture[-1] = tokens.IMG_END
        ids = [tokens.BOS, tokens.INST, *self.ids(question.instruction), *picture * question.images, tokens.INST_END]
        pixels = [np.frombuffer(p.pixels_rgb, np.uint8).reshape(p.height_px, p.width_px, 3) for p in query.pictures]
        values = [(torch.tensor(p).permute(2, 0, 1) / 255 - self.mean) / self.std for p in pixels]
        sizes = torch.tensor([[question.height_px, question.width_px]] * question.images)
        cursor = Cursor(self.form(question))
        while cursor.tokens:
            put = torch.tensor([[*ids, *cursor.tokens]])
            inputs = {"input_ids": put, "pixel_values": torch.stack(values), "image_sizes": sizes}
            logits = self.model(**inputs).logits[0, len(ids) :].numpy()
            given = cursor.tokens
            ids += given[: cursor.take([scores_of(logits[place]) for place in cursor.wanted])]
        return Answer(query_id=query.query_id, choices=tuple(cursor.choices), text=cursor.text())


def compare(ours: tuple[Answer, ...], theirs: list[Answer]) -> dict[str, float]:
    """Return counts of same answers and the largest difference of a judgement's probability."""
    slot = 0 if len(ours[0].choices) == 2 else 1
    pairs = list(zip(ours, theirs, strict=True))
    different = [
        abs(a - b)
        for x, y in pairs
        for a, b in zip(x.choices[slot].probabilities, y.choices[slot].probabilities, strict=True)
    ]
    return {
        "asked": len(pairs),
        "same answer": sum(x.text == y.text for x, y in pairs),
        "same judgement": sum(x.choices[slot].chosen == y.choices[slot].chosen for x, y in pairs),
        "largest difference of a probability": round(max(different), 5),
    }


def main() -> None:
    """Compare on freshly drawn parts and write the result."""
    root = Path(__file__).parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=root / "models/pins-tiny/base")
    parser.add_argument("--adapter", type=Path, default=root / "models/pins-tiny/adapter")
    parser.add_argument("--manifest", type=Path, default=root / "models/pins-tiny/manifest.json")
    parser.add_argument("--parts", type=int, default=40)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    recipe = load_recipe(root / "calibration/recipes/pins-27/recipe.yaml")
    preparer, reference = Preparer(recipe, CaptureLimits(2**26, 10**8)), HuggingFace(arguments.base, arguments.adapter)
    jobs = [measure.drawn_job(77, number, preparer) for number in range(arguments.parts)]
    result = {}
    for ask in measure.ASKS:
        inspection = Inspection(measure.asking(recipe, ask), golden_crops(recipe))
        engine = LlamaEngine(arguments.manifest, threads=0, gpu_layers=0)
        engine.prepare(inspection.question)
        queries = tuple(query for job in jobs if job.crops for query in inspection.queries(job))
        ours = engine.ask(queries)
        engine.close()
        result[ask] = compare(ours, [reference.ask(inspection.question, query) for query in queries])
        print(ask, json.dumps(result[ask]), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
