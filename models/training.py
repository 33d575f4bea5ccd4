"""The training loop that train_base and train_lora share: batches, schedule, checkpoints, log, accuracy on the GPU."""

import dataclasses
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import camera
import defects
import network
import numpy as np
import sampling
import scenes
import tokenizer
import torch
import torch.nn.functional as F

TASKS = ("pins", "report 1", "pins", "report 2")
"""What the steps do in turn: one composite per pin, a region alone, a region beside its golden picture."""


LOG_EVERY = 51
"""Not a multiple of the tasks, so that each comes into the log."""


@dataclass(frozen=True)
class Plan:
    """One training. Everything that makes it reproducible."""

    seed: int
    steps: int
    """0: as many as `minutes` allow on this machine; the log tells the number, which reproduces the training."""
    minutes: float
    learning_rate: float
    batch_pins: int
    batch_report: int
    design: scenes.Design | None
    variation: sampling.Variation
    out: Path
    compile: bool
    tasks: tuple[str, ...] = TASKS
    warm_up: int = 300
    """Steps in which the rate grows."""


class Batches(torch.utils.data.IterableDataset[dict[str, np.ndarray]]):
    """Scenes for each step; worker w of W makes steps w, w + W, ..."""

    def __init__(self, plan: Plan, first: int) -> None:
        self.plan, self.first = plan, first

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        info = torch.utils.data.get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        for step in range(self.first + worker, self.plan.steps or 10**9, workers):
            rng, plan = sampling.step_rng(self.plan.seed, step), self.plan
            # product training sees other products too, as what must come out undecidable or judged on its own golden
            if plan.tasks[step % len(plan.tasks)] == "pins":
                yield sampling.draw_pins(rng, plan.batch_pins // 2, plan.design, plan.variation)
            else:
                size = sampling.REGION_PX
                yield sampling.draw_regions(rng, plan.batch_report // 2, plan.design, plan.variation, size)


class Trainer:
    """Holds network, camera and optimizer on one CUDA GPU."""

    def __init__(self, plan: Plan, asker: network.Asker, device: str, golden: camera.Golden | None = None) -> None:
        self.plan, self.device = plan, device
        self.asker = asker.to(device)
        self.camera = camera.Camera(device, plan.seed, plan.compile)
        self.golden = golden
        self.parameters = [p for p in asker.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=plan.learning_rate, betas=(0.9, 0.95), weight_decay=0.02, fused=device == "cuda"
        )
        self.step = 0
        self.steps = plan.steps
        self.average = [p.detach().clone() for p in self.parameters]
        self.forward = torch.compile(asker.forward, dynamic=False) if plan.compile else asker.forward
        prompts = {name: torch.tensor([form.prompt], device=device) for name, form in asker.forms.items()}
        self.prompts = prompts

    def ask(self, task: str, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return logits, answer ids, loss weights and patches of one batch."""
        name = task.split(maxsplit=1)[0]
        # the camera's grey values are whole numbers: bf16 would lose them
        with torch.no_grad(), torch.autocast(self.device, enabled=False):
            if name == "pins":
                pictures = [self.camera.pins(batch, self.golden)]
            else:
                pictures = self.camera.regions(batch, int(task[-1]), self.golden)
            answer, weight = self.asker.forms[name].answers(batch)
        logits, patches = self.forward(pictures, self.prompts[name], answer)
        return logits, answer, weight, patches

    def train_step(self, task: str, batch: dict[str, torch.Tensor], rate: float) -> float:
        """Do one step; return the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        form = self.asker.forms[task.split(maxsplit=1)[0]]
        with torch.autocast(self.device, torch.bfloat16):
            logits, answer, weight, patches = self.ask(task, batch)
            loss = network.loss_of(form, logits, answer, weight, batch)
            if task == "pins":
                label = torch.where(batch["judgement"] == 2, 6, batch["mode"])
                loss = loss + 0.2 * F.cross_entropy(self.asker.pin_head(patches.mean(1)).float(), label)
            else:
                label = camera.patch_modes(batch, sampling.REGION_PX)
                weights = torch.tensor([0.3, 2, 2, 2, 2, 2, 0.1], device=self.device)
                loss = loss + 0.5 * F.cross_entropy(
                    self.asker.patch_head(patches).float().flatten(0, 1), label.flatten(), weight=weights
                )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        decay = min(0.999, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)
        return float(loss.detach()) if self.step % LOG_EVERY == 0 else math.nan

    def rate(self, step: int) -> float:
        """Warm-up, then a cosine to 1 %."""
        warm = min(1.0, (step + 1) / self.plan.warm_up)
        return (
            self.plan.learning_rate
            * warm
            * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / (self.steps or 10**9))))
        )

    def run(self, workers: int, evaluate_every: int) -> None:
        """Train to the last step; checkpoint and log on the way; leave the averaged weights in the network."""
        log = (self.plan.out / "train-log.jsonl").open("a")
        loader = torch.utils.data.DataLoader(
            Batches(self.plan, self.step), batch_size=None, num_workers=workers, pin_memory=self.device == "cuda",
            prefetch_factor=4 if workers else None,
        )  # fmt: skip
        start = time.monotonic()
        for raw in loader:
            if self.steps and self.step >= self.steps:
                break
            self._fix_steps(start)
            task = self.plan.tasks[self.step % len(self.plan.tasks)]
            loss = self.train_step(task, camera.to_device(raw, self.device), self.rate(self.step))
            self.step += 1
            if not math.isnan(loss):
                line = {
                    "step": self.step,
                    "task": task,
                    "loss": round(loss, 4),
                    "s": round(time.monotonic() - start, 1),
                }
                if self.step % evaluate_every < LOG_EVERY and self.step > LOG_EVERY:
                    line |= self.measure_pins(8192)
                    self.checkpoint()
                print(f"{self.step}/{self.steps or '?'} {json.dumps(line)}", flush=True)
                log.write(json.dumps(line) + "\n")
                log.flush()
        log.close()
        self.use_average()

    def _fix_steps(self, start: float) -> None:
        """After the first 200 steps (compiling included) say how many fit into the plan's minutes."""
        if self.step == 80:
            self._began = self._now()
        if self.step == 200 and not self.steps:
            now = self._now()
            left = 60 * self.plan.minutes - (now - start)
            self.steps = 200 + max(0, int(left * 120 / (now - self._began)))
            print(f"{self.steps} steps in all, {(now - self._began) / 0.120:.1f} ms a step", flush=True)

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.monotonic()

    def use_average(self) -> None:
        """Put the running average of the weights into the network."""
        with torch.no_grad():
            for parameter, average in zip(self.parameters, self.average, strict=True):
                parameter.copy_(average)

    def checkpoint(self) -> None:
        """Write everything needed to go on, under a temporary name first."""
        state = {"step": self.step, "optimizer": self.optimizer.state_dict(), "average": self.average}
        state["parameters"] = [p.detach() for p in self.parameters]
        path = self.plan.out / "checkpoint.pt"
        torch.save(state, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)

    def resume(self) -> None:
        """Go on from the checkpoint in the plan's folder, if there is one."""
        path = self.plan.out / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, map_location=self.device)
            self.step, self.average = state["step"], state["average"]
            self.optimizer.load_state_dict(state["optimizer"])
            with torch.no_grad():
                for parameter, value in zip(self.parameters, state["parameters"], strict=True):
                    parameter.copy_(value)

    @torch.no_grad()
    def measure_pins(self, count: int) -> dict[str, float]:
        """Return error rates per pin on `count` fresh tiles (seed apart from training), at margin 0."""
        margin, judgement, mode, said = self.answers("pins", count)
        bad, good, undecidable = judgement == 1, judgement == 0, judgement == 2
        values = {
            "escape": ((margin < 0) & bad).sum() / bad.sum(),
            "false_reject": ((margin >= 0) & good).sum() / good.sum(),
            "mode": (said[bad] == mode[bad]).float().mean(),
            "undecidable_passed": ((margin < 0) & undecidable).sum() / undecidable.sum().clip(min=1),
        }
        return {key: round(float(value), 5) for key, value in values.items()}

    @torch.no_grad()
    def answers(self, task: str, count: int) -> tuple[torch.Tensor, ...]:
        """Return margin, judgement, mode and said mode over `count` fresh samples of `task`.

        The margin of an answer whose best judgement is "undecidable" is +inf: it is not passed.
        """
        plan, form, out = self.plan, self.asker.forms[task.split(maxsplit=1)[0]], []
        size = plan.batch_pins if task == "pins" else plan.batch_report
        clear = dataclasses.replace(plan.variation, limit_share=0.0)  # about the limit, errors are no fault
        self.asker.eval()
        for k in range(max(1, count // size)):
            rng = sampling.step_rng(plan.seed + 1_000_003, k)
            if task == "pins":
                raw = sampling.draw_pins(rng, size // 2, plan.design, clear)
            else:
                raw = sampling.draw_regions(rng, size // 2, plan.design, clear, sampling.REGION_PX)
            batch = camera.to_device(raw, self.device)
            with torch.autocast(self.device, torch.bfloat16):
                logits, answer, _, _ = self.ask(task, batch)
            logits = logits.float()
            margin = network.margin_of(form, logits)
            best = logits[:, form.judgement_at()][:, form.judgements].argmax(1)
            margin = torch.where(best == 2, torch.full_like(margin, torch.inf), margin)
            said = logits[:, form.mode_at()][:, form.modes].argmax(1)
            right = (logits.argmax(2) == answer) | (answer == tokenizer.PAD)
            out.append((margin, batch["judgement"], batch["mode"], said, best, right))
        self.asker.train()
        return tuple(torch.cat(column) for column in zip(*out, strict=True))[: 4 if task == "pins" else 6]

    def table(self, count: int) -> dict[str, object]:
        """Return the accuracy table on the GPU: per pin by mode, and the report asked both ways."""
        margin, judgement, mode, _ = self.answers("pins", count)
        rows: dict[str, object] = {"pins": self.measure_pins(count)}
        for number, name in enumerate(defects.MODES[1:], 1):
            here = (mode == number) & (judgement == 1)
            rows[f"escape {name}"] = round(float(((margin < 0) & here).sum() / here.sum().clip(min=1)), 5)
        good = torch.sort(margin[judgement == 0])[0]
        limit = good[int(len(good) * 0.9998)]
        bad = judgement == 1
        rows["margin that 0.02 % of good pins exceed"] = round(float(limit), 3)
        rows["escape at that margin"] = round(float(((margin < limit) & bad).sum() / bad.sum()), 5)
        for task in ("report 1", "report 2"):
            margin, judgement, mode, said, best, right = self.answers(task, count // 16)
            form, bad = self.asker.forms["report"], judgement == 1
            rows[task] = {
                "count": round(float(right[:, len(form.parts[0])].float().mean()), 5),
                "judgement": round(float((best == judgement).float().mean()), 5),
                "mode": round(float((said[bad] == mode[bad]).float().mean()), 5),
                "position": round(float(right[bad][:, -3:].all(1).float().mean()), 5),
                "escape": round(float(((margin < 0) & bad).sum() / bad.sum()), 5),
                "false_reject": round(float(((margin >= 0) & (judgement == 0)).sum() / (judgement == 0).sum()), 5),
            }
        return rows
