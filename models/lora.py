"""A LoRA as every training here makes and keeps it: of what Unsloth's pattern names, alpha like rank, in 16 bit."""

from pathlib import Path

import peft
import torch

UNSLOTH_TARGETS = (
    r"(?:.*?(?:vision|image|visual|patch|language|text).*?(?:self_attn|attention|attn|mixer|mlp|feed_forward|ffn|dense"
    r"|mixer).*?(?:gate_proj|up_proj|down_proj|k_proj|v_proj|q_proj|o_proj))|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn"
    r"|attention|attn|mixer|mlp|feed_forward|ffn|dense|mixer)\.(?:(?:gate_proj|up_proj|down_proj|k_proj|v_proj|q_proj"
    r"|o_proj)))"
)
"""As one string: vision and language layers, attention and mlp."""


def added(base: torch.nn.Module, rank: int, targets: str = UNSLOTH_TARGETS) -> peft.PeftModel:
    """Return the base with a new LoRA, which alone is trained."""
    config = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, bias="none", task_type="CAUSAL_LM")
    return peft.get_peft_model(base, config)


def loaded(base: torch.nn.Module, start: Path) -> peft.PeftModel:
    """Return the base with the LoRA in folder `start`, which alone is trained, in 32 bit."""
    return peft.PeftModel.from_pretrained(base, start, is_trainable=True).float()


def save(model: torch.nn.Module, base_name: str, folder: Path) -> None:
    """Write the adapter in 16 bit; a folder of the training machine means nothing elsewhere."""
    model.peft_config["default"].base_model_name_or_path = base_name
    state = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    # Else peft asks the network whether the base has another vocabulary.
    model.save_pretrained(folder, state_dict=state, save_embedding_layers=False)
