"""Trains a LoRA on a product's own pins (`SitePins`), asked by pins. A CUDA GPU, or a CPU for a small set.

Out: the adapter in 16 bit, as models/export_gguf.py takes it, and `train-log.jsonl`. Half of the defects are the set's
own where it has any, the others edits of its good pins (site_edits.py). Every third step is drawn pins of any product,
so that what the start knows is kept. `steps` is the loop of the ablation, too.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import camera
import lora
import network
import sampling
import torch
from site_edits import Batch, SiteBatches
from tokenizers import Tokenizer
from transformers import LlavaForConditionalGeneration

RANK = 16
LOG_EVERY = 25
DRAWN_EVERY, DRAWN_BATCHES = 3, 8
"""Every so many steps one of so many batches of drawn pins."""


@dataclass(frozen=True)
class Plan:
    """One training."""

    seconds: float
    """The rate falls to nothing over them, or over the steps."""
    batch: int
    learning_rate: float
    seed: int
    device: str
    steps: int = 0
    """0: as many as fit into the seconds, which is more on a faster machine."""

    def share(self, step: int, seconds: float) -> float:
        """Return how much of the training is over, 0..1."""
        return step / self.steps if self.steps else seconds / self.seconds


def train(plan: Plan, own: SiteBatches, base: Path, start: Path | None, out: Path) -> int:
    """Train for the plan's seconds, save the adapter and return the number of steps.

    `own`: batches of the product's own pins. `start`: adapter to go on from; None: a new one.
    """
    torch.manual_seed(plan.seed)
    torch.set_float32_matmul_precision("high")
    plain = LlavaForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    model = lora.added(plain, RANK) if start is None else lora.loaded(plain, start)
    asker = asker_of(model, base, plan.device)
    drawn = _drawn(plan)

    def query(step: int) -> tuple[Sequence[torch.Tensor], Batch]:
        turn, rest = divmod(step, DRAWN_EVERY)
        picture, labels = drawn[turn % DRAWN_BATCHES] if rest == DRAWN_EVERY - 1 else own.draw(plan.batch)
        return [picture.float()], labels

    out.mkdir(parents=True, exist_ok=True)
    with (out / "train-log.jsonl").open("w") as log:
        done = steps(asker, asker.forms["pins"], query, plan, log)
    lora.save(asker.model, base.name, out / "adapter")
    return done


def asker_of(model: torch.nn.Module, base: Path, device: str) -> network.Asker:
    """Return the network on the device; its helper heads are for drawn pictures, of which every patch is known."""
    asker = network.Asker(model, Tokenizer.from_file(str(base / "tokenizer.json"))).to(device)
    asker.pin_head.requires_grad_(False)
    asker.patch_head.requires_grad_(False)
    return asker


def _drawn(plan: Plan) -> list[tuple[torch.Tensor, Batch]]:
    """Return batches of drawn pins of any product: composites and labels."""
    shot, out = camera.Camera(plan.device, plan.seed, fast=False), []
    for number in range(DRAWN_BATCHES):
        raw = sampling.draw_pins(sampling.step_rng(plan.seed, number), plan.batch // 2, None, sampling.BASE)
        batch = camera.to_device(raw, plan.device)
        out.append((shot.pins(batch).to(torch.uint8), {key: batch[key] for key in ("judgement", "mode")}))
    return out


def steps(
    asker: network.Asker, form: network.AnswerForm,
    query: Callable[[int], tuple[Sequence[torch.Tensor], Batch]], plan: Plan, log: TextIO | None = None,
) -> int:  # fmt: skip
    """Train what requires a gradient until the plan's steps or seconds are over; return the number of steps.

    `query` returns the pictures of a step's questions and their labels.
    """
    parameters = [p for p in asker.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.02, fused=plan.device == "cuda"
    )
    prompt = torch.tensor([form.prompt], device=plan.device)
    asker.train()
    start, step = time.monotonic(), 0
    while (share := plan.share(step, time.monotonic() - start)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = plan.learning_rate * min(1.0, (step + 1) / 30) * max(0.02, 1 - share)
        pictures, labels = query(step)
        answer, weight = form.answers(labels)
        with torch.autocast(plan.device, torch.bfloat16, enabled=plan.device == "cuda"):
            logits, _ = asker(pictures, prompt, answer)
            loss = network.loss_of(form, logits, answer, weight, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if plan.device == "cuda" and step % 4 == 0:
            torch.cuda.synchronize()  # else the clock runs ahead of the work
        if log and step % LOG_EVERY == 0:
            line = {"step": step, "s": round(time.monotonic() - start, 1), **_right(form, logits, labels)}
            print(json.dumps(line | {"loss": round(float(loss.detach()), 4)}), file=log, flush=True)
            print(json.dumps(line), flush=True)
        step += 1
    return step


@torch.no_grad()
def _right(form: network.AnswerForm, logits: torch.Tensor, labels: Batch) -> dict[str, float]:
    """Return the shares of judgements that are right in a training batch."""
    said = logits[:, form.judgement_at()][:, form.judgements].argmax(1)
    names = enumerate(("passed", "defective", "undecidable"))
    right = (said == labels["judgement"]).float()
    return {name: round(float(right[labels["judgement"] == kind].mean()), 3) for kind, name in names}
