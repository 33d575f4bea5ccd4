"""Makes a small Pixtral with transformers and PEFT, trains nothing, and writes what it answers with unmerged adapters.

    python make_reference.py OUT

Runs under another Python, with PyTorch and the transformers version that is to be compared. Result: OUT/base, and for
each recipe OUT/<recipe>/adapter and OUT/<recipe>/answers.npz.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import numpy as np
import peft
import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration, MistralConfig, PixtralVisionConfig

from tests.export import tiny_pixtral

_ALL = r".*(language_model|vision_tower).*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
RECIPES = {
    "all": {"target_modules": _ALL},
    "language only": {"target_modules": _ALL.replace("|vision_tower", "")},
    "vision only": {"target_modules": _ALL.replace("language_model|", "")},
    "mlp only": {"target_modules": r".*(language_model|vision_tower).*\.(gate_proj|up_proj|down_proj)"},
    "projector": {"target_modules": rf"({_ALL}|.*multi_modal_projector\.linear_[12])"},
    "rslora": {"target_modules": _ALL, "use_rslora": True},
    "rank_pattern": {"target_modules": _ALL, "rank_pattern": {"gate_proj": 8}},
    "alpha_pattern": {"target_modules": _ALL, "alpha_pattern": {r"layers\.\d+\.self_attn\.q_proj": 32}},
    "modules_to_save": {"target_modules": _ALL, "modules_to_save": ["multi_modal_projector", "lm_head"]},
    "dora": {"target_modules": _ALL, "use_dora": True},
}


def make_model() -> LlavaForConditionalGeneration:
    """Return a model of the sizes of tiny_pixtral, with weights large enough to matter."""
    config = tiny_pixtral.config()
    text, vision = config["text_config"], config["vision_config"]
    for part in (text, vision):
        part.pop("model_type")
    made = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=PixtralVisionConfig(**vision),
            text_config=MistralConfig(**text, pad_token_id=11, tie_word_embeddings=False),
            image_token_index=10, vision_feature_layer=-1, vision_feature_select_strategy="full",
            projector_hidden_act="gelu", tie_word_embeddings=False,
        )
    )  # fmt: skip
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            noise = torch.randn(parameter.shape, generator=rng)
            parameter.copy_(noise * 0.06 if parameter.dim() > 1 else 1 + noise * 0.1)
    return made.float().eval()


def questions() -> dict[str, np.ndarray]:
    """Return a picture of 64 x 48, tokens without it and tokens around it."""
    rng = np.random.default_rng(3)
    picture = rng.integers(0, 256, (48, 64, 3), np.uint8)
    words = rng.integers(14, tiny_pixtral.WORDS, 24)
    rows = ([10] * 4 + [12]) * 3
    rows[-1] = 13
    return {"picture": picture, "text": np.array([1, *words]), "seen": np.array([1, *words[:4], *rows, *words[4:10]])}


@torch.no_grad()
def answers(model: torch.nn.Module, asked: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return logits of both token lists and the projector's output."""
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    pixels = ((torch.tensor(asked["picture"]) / 255 - mean) / std).permute(2, 0, 1)[None]
    seen = []
    projector = next(module for name, module in model.named_modules() if name.endswith("multi_modal_projector"))
    hook = projector.register_forward_hook(lambda *parts: seen.append(parts[2]))
    ids = torch.tensor(asked["seen"])[None]
    logits = model(input_ids=ids, pixel_values=pixels, image_sizes=torch.tensor([[48, 64]])).logits
    hook.remove()
    text = model(input_ids=torch.tensor(asked["text"])[None]).logits
    return {
        "text_logits": text[0].numpy(), "seen_logits": logits[0].numpy(),
        "embeddings": seen[-1].reshape(-1, seen[-1].shape[-1]).numpy(),
    }  # fmt: skip


def main() -> None:
    """Write the base and every recipe."""
    out = Path(sys.argv[1])
    make_model().save_pretrained(out / "base")
    asked = questions()
    np.savez(out / "base.npz", **asked, **answers(make_model(), asked))
    for name, options in RECIPES.items():
        torch.manual_seed(2)
        model = peft.get_peft_model(make_model(), peft.LoraConfig(r=4, lora_alpha=8, **options))
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "lora_B" in key:
                    parameter.normal_(std=0.05)
                elif "magnitude" in key:
                    parameter.mul_(torch.empty_like(parameter).uniform_(0.9, 1.1))
                elif "modules_to_save" in key:
                    parameter.add_(torch.randn_like(parameter) * 0.01)
        model.eval()
        model.save_pretrained(out / name / "adapter")
        np.savez(out / name / "answers.npz", **asked, **answers(model, asked))
    written = json.loads((out / "base" / "config.json").read_text())
    print(written["transformers_version"])


if __name__ == "__main__":
    main()
