"""V3, and the effect part of V4: Hugging Face with the unmerged adapter against an exported pair.

    python models/verify_reference.py --base DIR --adapter DIR --manifest FILE --pairs pairs.jsonl

Each line of pairs.jsonl: {"picture": "file.png", "prompt": "...", "answer": "..."}; pictures lie beside it, with sides
that are multiples of the patch. Prints, and ends with 1 outside the limits: mean KL and same most likely token over the
answers, lowest cosine of picture embeddings, how much the adapter changes the base's answers. On the training machine.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import llama_answers  # noqa: I001 (before PyTorch: two OpenMP runtimes clash in the other order)
import adapter as adapter_file
import checked_json
import numpy as np
import peft
import torch
import vocabulary
from checked_json import ExportError
from PIL import Image
from tokenizers import Tokenizer
from transformers import LlavaForConditionalGeneration

LIMITS = {"mean KL": 0.01, "same token": 0.99, "lowest cosine": 0.999, "KL of the adapter's effect": 1e-4}


class Reference:
    """Base and unmerged adapter in Hugging Face."""

    def __init__(self, base: Path, adapter: Path) -> None:
        plain = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
        self.model = peft.PeftModel.from_pretrained(plain, adapter).eval()
        stored = sum(change.b is not None for change in adapter_file.read(adapter).changes.values())
        loaded = sum(bool(p.abs().sum() > 0) for n, p in self.model.named_parameters() if "lora_B" in n)
        if loaded != stored:
            raise ExportError(
                "V3", f"PEFT loaded {loaded} of {stored} modules of the adapter.",
                "Use the transformers version that the adapter was trained with; others lose modules without an error.",
            )  # fmt: skip

    @torch.no_grad()
    def answer(self, ids: list[int], pixels: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Return logits of every token, and the picture's embeddings."""
        seen: list[torch.Tensor] = []
        modules = self.model.named_modules()
        projector = next(module for name, module in modules if name.endswith("multi_modal_projector"))
        hook = projector.register_forward_hook(lambda *parts: seen.append(parts[2]))
        values = torch.tensor(pixels.transpose(2, 0, 1)[None])
        logits = self.model(input_ids=torch.tensor([ids]), pixel_values=values, image_sizes=torch.tensor([size])).logits
        hook.remove()
        return logits[0].float().numpy(), seen[0].reshape(-1, seen[0].shape[-1]).float().numpy()


def compare(given: argparse.Namespace) -> dict[str, float]:
    """Return the measures over all pairs."""
    manifest = checked_json.read(given.manifest, "V3", "Give the manifest of an export.")
    files = [given.manifest.parent / manifest.table(kind).text("file") for kind in ("text", "mmproj")]
    pixels = checked_json.read(given.base / "preprocessor_config.json", "V3", "Give the base.")
    mean, std = (np.array(pixels.items(key), np.float32) for key in ("image_mean", "image_std"))
    patch = manifest.table("vision").integer("patch_px", 1, 256)
    words, reference, pair = (
        Tokenizer.from_file(str(given.base / "tokenizer.json")),
        Reference(given.base, given.adapter),
        llama_answers.Pair(*files),
    )
    kl, same, cosines, effect = [], [], [], []
    for line in given.pairs.read_text(encoding="utf-8").splitlines():
        asked = json.loads(line)
        picture = np.asarray(Image.open(given.pairs.parent / asked["picture"]).convert("RGB"))
        rows, columns = picture.shape[0] // patch, picture.shape[1] // patch
        grid = ([vocabulary.IMG] * columns + [vocabulary.IMG_BREAK]) * rows
        grid[-1] = vocabulary.IMG_END
        before = words.encode("<s>[INST]" + asked["prompt"], add_special_tokens=False).ids
        after = words.encode("[/INST]" + asked["answer"], add_special_tokens=False).ids
        ids = [*before, *grid, *after]
        theirs, seen = reference.answer(ids, (picture / np.float32(255) - mean) / std, picture.shape[:2])
        with reference.model.disable_adapter():
            plain, _ = reference.answer(ids, (picture / np.float32(255) - mean) / std, picture.shape[:2])
        eyes = pair.embeddings(picture)
        ours = pair.logits(before, eyes, [vocabulary.IMG_END, *after])
        part = slice(len(ids) - len(after), None)
        kl.append(llama_answers.mean_kl(theirs[part], ours[part]))
        same.append(float(np.mean(theirs[part].argmax(1) == ours[part].argmax(1))))
        effect.append(llama_answers.mean_kl(theirs[part], plain[part]))
        breaks = np.arange(columns, len(eyes), columns + 1)
        cosines.append(llama_answers.lowest_cosine(seen, np.delete(eyes, breaks, axis=0)))
    return dict(
        zip(LIMITS, (float(np.mean(kl)), float(np.mean(same)), min(cosines), float(np.mean(effect))), strict=True)
    )


def main() -> int:
    """Compare and say it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("base", "adapter", "manifest", "pairs"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    try:
        found = compare(parser.parse_args())
    except (ExportError, OSError) as error:
        print(f"verify: {error}", file=sys.stderr)
        return 1
    good = [found[name] < limit if name == "mean KL" else found[name] > limit for name, limit in LIMITS.items()]
    print(json.dumps({"found": found, "limits": LIMITS, "passed": all(good)}, indent=1))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
