"""Trains a LoRA on a product's own pins (`SitePins`), asked by pins. A CUDA GPU, or a CPU for a small set.

Out: the adapter in 16 bit, as models/export_gguf.py takes it, and `train-log.jsonl`. Half of the steps' defects are the
set's own where it has any, the others edits of its good pins (site_edits.py).
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import network
import peft
import torch
from site_edits import SiteBatches
from site_pins import SitePins
from tokenizers import Tokenizer
from transformers import LlavaForConditionalGeneration

LOG_EVERY = 25


@dataclass(frozen=True)
class Plan:
    """One training."""

    base: Path
    start: Path | None
    """Adapter to go on from; None: a new one."""
    out: Path
    targets: str
    """Pattern of the modules that are trained."""
    modes: tuple[int, ...]
    """Modes that are made by editing, indices into render.MODES."""
    seconds: float
    batch: int
    learning_rate: float
    rank: int
    seed: int
    device: str


def train(plan: Plan, pins: SitePins) -> int:
    """Train for the plan's seconds, save the adapter and return the number of steps."""
    torch.manual_seed(plan.seed)
    torch.set_float32_matmul_precision("high")
    asker = _asker(plan)
    batches = SiteBatches(pins, plan.modes, plan.device, plan.seed)
    plan.out.mkdir(parents=True, exist_ok=True)
    with (plan.out / "train-log.jsonl").open("w") as log:
        steps = _steps(plan, asker, batches, log)
    save_adapter(asker.model, plan.base.name, plan.out / "adapter")
    return steps


def _asker(plan: Plan) -> network.Asker:
    plain = LlavaForConditionalGeneration.from_pretrained(plan.base, dtype=torch.float32)
    if plan.start is None:
        config = peft.LoraConfig(
            r=plan.rank, lora_alpha=plan.rank, target_modules=plan.targets, bias="none", task_type="CAUSAL_LM"
        )
        model = peft.get_peft_model(plain, config)
    else:
        model = peft.PeftModel.from_pretrained(plain, plan.start, is_trainable=True).float()
    asker = network.Asker(model, Tokenizer.from_file(str(plan.base / "tokenizer.json"))).to(plan.device)
    # The helper heads are for drawn pictures, of which every patch is known.
    asker.pin_head.requires_grad_(False)
    asker.patch_head.requires_grad_(False)
    return asker


def _steps(plan: Plan, asker: network.Asker, batches: SiteBatches, log: object) -> int:
    parameters = [p for p in asker.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.02, fused=plan.device == "cuda"
    )
    form = asker.forms["pins"]
    prompt = torch.tensor([form.prompt], device=plan.device)
    asker.train()
    start, step = time.monotonic(), 0
    while (share := (time.monotonic() - start) / plan.seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * min(1.0, (step + 1) / 30) * max(0.02, 1 - share)
        picture, labels = batches.draw(plan.batch)
        answer, weight = form.answers(labels)
        with torch.autocast(plan.device, torch.bfloat16, enabled=plan.device == "cuda"):
            logits, _ = asker([picture], prompt, answer)
            loss = network.loss_of(form, logits, answer, weight, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % LOG_EVERY == 0:
            line = {"step": step, "s": round(time.monotonic() - start, 1), **_right(form, logits, labels)}
            print(json.dumps(line | {"loss": round(float(loss.detach()), 4)}), file=log, flush=True)
            print(json.dumps(line), flush=True)
        step += 1
    return step


@torch.no_grad()
def _right(form: network.AnswerForm, logits: torch.Tensor, labels: dict[str, torch.Tensor]) -> dict[str, float]:
    """Return the shares of judgements that are right in a training batch."""
    said = logits[:, form.judgement_at()][:, form.judgements].argmax(1)
    names = enumerate(("passed", "defective", "undecidable"))
    right = (said == labels["judgement"]).float()
    return {name: round(float(right[labels["judgement"] == kind].mean()), 3) for kind, name in names}


def save_adapter(model: torch.nn.Module, base_name: str, folder: Path) -> None:
    """Write the adapter in 16 bit; a folder of the training machine means nothing elsewhere."""
    model.peft_config["default"].base_model_name_or_path = base_name
    state = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state)
