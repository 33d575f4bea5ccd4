"""The linear probe of the ablation, which tells what half is to blame, and its 4-bit base.

A logistic regression on what the tower says of a picture, trained on the set's pins. If it tells defects that the
answer does not, the tower saw them and the language half lost them.
"""

import network
import numpy as np
import torch
import torch.nn.functional as F
from site_pins import SitePins
from torch import nn
from whole_parts import Show, pictures

NF4 = (
    -1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0, 0.0795803, 0.1609302, 0.2461123,
    0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0,
)  # fmt: skip
"""The values of NormalFloat4, arXiv 2305.14314 appendix E."""
BLOCK = 64


@torch.no_grad()
def quantize_to_4_bit(model: nn.Module) -> dict[str, torch.Tensor]:
    """Round the weights of tower, projector and language layers to nf4; return what they were by name."""
    levels, before = torch.tensor(NF4), {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and "lm_head" not in name:
            before[name] = module.weight.detach().clone()
            blocks = module.weight.reshape(-1, BLOCK)
            most = blocks.abs().amax(1, keepdim=True).clip(min=1e-12)
            nearest = (blocks / most)[..., None].sub(levels).abs().argmin(-1)
            module.weight.copy_((levels[nearest] * most).view_as(module.weight))
    return before


@torch.no_grad()
def restore(asker: network.Asker, before: dict[str, torch.Tensor]) -> None:
    """Put the 16-bit weights back under the trained LoRA."""
    inner = asker.model.get_base_model() if before else None
    for name, weight in before.items():
        module = inner.get_submodule(name)
        target = module.base_layer if hasattr(module, "base_layer") else module
        target.weight.copy_(weight)


@torch.no_grad()
def features(asker: network.Asker, show: Show, pins: SitePins, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the tower says of each pin's pictures (n, width), mean and largest of the patches, and who is bad."""
    asker.eval()
    rows, bad = [], []
    for composites, labels in pictures(pins, device):
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            patches = [asker.see(picture)[1].float() for picture in show(composites)]
        rows.append(torch.cat([torch.cat([p.mean(1), p.amax(1)], 1) for p in patches], 1))
        bad.append(labels["judgement"])
    return torch.cat(rows), torch.cat(bad)


def fitted(seen: torch.Tensor, bad: torch.Tensor, fresh: torch.Tensor, truth: torch.Tensor) -> float:
    """Fit a logistic regression on `seen` and return its balanced accuracy on `fresh`."""
    mean, spread = seen.mean(0), seen.std(0) + 1e-5
    x, y = (seen - mean) / spread, bad.float()
    weight = torch.zeros(x.shape[1] + 1, device=x.device, requires_grad=True)
    balance = torch.where(bad > 0, 0.5 / y.mean(), 0.5 / (1 - y).mean())
    optimizer = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(x @ weight[1:] + weight[0], y, weight=balance)
        value = value + 1e-3 * (weight[1:] ** 2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        said = ((fresh - mean) / spread) @ weight[1:] + weight[0] > 0
    return balanced(said.cpu().numpy(), (truth > 0).cpu().numpy())


def balanced(said: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean of the shares of defective and of good ones judged rightly."""
    return round(float((said[truth].mean() + (~said)[~truth].mean()) / 2), 5)
