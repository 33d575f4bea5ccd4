"""The pins-tiny network: Pixtral's architecture, small, with a forward pass made for training in large batches.

`PixtralVisionModel` packs a batch into one sequence under a block mask, which is slow; here every picture of a batch
has the same size, so the tower runs as (batch, patches, width) with one rope table. The result is the same.
"""

from collections.abc import Sequence
from pathlib import Path

import tokenizer as tokens
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import nn
from transformers import LlavaConfig, LlavaForConditionalGeneration, MistralConfig, PixtralVisionConfig

from station import report

PATCH = 16
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Pixtral's own image normalisation."""


def build() -> LlavaForConditionalGeneration:
    """Return the untrained network, 10.6 M parameters."""
    vision = PixtralVisionConfig(
        hidden_size=256, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=4, head_dim=64,
        image_size=1024, patch_size=PATCH, hidden_act="silu", rope_theta=10000.0,
    )  # fmt: skip
    text = MistralConfig(
        vocab_size=tokens.VOCABULARY_SIZE, hidden_size=256, intermediate_size=768, num_hidden_layers=5,
        num_attention_heads=4, num_key_value_heads=2, head_dim=64, max_position_embeddings=4096, sliding_window=None,
        rope_theta=10000.0, rms_norm_eps=1e-5, bos_token_id=tokens.BOS, eos_token_id=tokens.EOS,
        pad_token_id=tokens.PAD, tie_word_embeddings=False,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=tokens.IMG, projector_hidden_act="gelu",
        vision_feature_layer=-1, vision_feature_select_strategy="full", multimodal_projector_bias=True,
        tie_word_embeddings=False,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config)


class Asker(nn.Module):
    """The network with what training adds: answer tables, losses, and helper heads that export throws away."""

    def __init__(self, model: nn.Module, vocabulary: Tokenizer) -> None:
        super().__init__()
        self.model = model
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        # plain attributes: the modules are registered through `model`, a LoRA replaces their children in place
        object.__setattr__(self, "tower", inner.model.vision_tower)
        object.__setattr__(self, "projector", inner.model.multi_modal_projector)
        object.__setattr__(self, "language", inner.model.language_model)
        object.__setattr__(self, "head", inner.lm_head)
        self.pin_head = nn.Linear(256, 7)
        self.patch_head = nn.Linear(256, 7)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        self.forms = {
            "pins": AnswerForm(vocabulary, report.PIN_INSTRUCTION, with_region=False),
            "report": AnswerForm(vocabulary, report.REPORT_INSTRUCTION, with_region=True),
        }

    def see(self, grey: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return image tokens (n, rows * (columns + 1) - 1, width) with the row breaks, and the tower's patches.

        `grey` (n, h, w) or colour (n, 3, h, w), 0..255.
        """
        n, h, w = grey.shape[0], grey.shape[-2] // PATCH, grey.shape[-1] // PATCH
        pixels = ((grey if grey.ndim == 4 else grey[:, None]) / 255 - self.mean) / self.std
        y, x = torch.meshgrid(torch.arange(h, device=grey.device), torch.arange(w, device=grey.device), indexing="ij")
        position = torch.stack([y.flatten(), x.flatten()], -1)
        patches = self.tower.ln_pre(self.tower.patch_conv(pixels).flatten(2).transpose(1, 2))
        rope = self.tower.patch_positional_embedding(patches, position)
        for layer in self.tower.transformer.layers:
            out = layer(patches, attention_mask=None, position_embeddings=rope)
            patches = out[0] if isinstance(out, tuple) else out
        seen = self.projector(patches).view(n, h, w, -1)
        rows_end = self.word(tokens.IMG_BREAK).expand(n, h, 1, -1)
        return torch.cat([seen, rows_end], 2).flatten(1, 2)[:, :-1], patches

    def word(self, token: int) -> torch.Tensor:
        """Return one token's embedding, (1, 1, width)."""
        return self.language.embed_tokens(torch.tensor([[token]], device=self.mean.device))

    def forward(
        self, pictures: Sequence[torch.Tensor], prompt: torch.Tensor, answer: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (n, answer length, vocabulary) for each answer token, and the last picture's patches."""
        n = answer.shape[0]
        embed = self.language.embed_tokens
        sequence = [embed(prompt).expand(n, -1, -1)]
        patches = torch.empty(0)
        for grey in pictures:
            seen, patches = self.see(grey)
            sequence += [seen, self.word(tokens.IMG_END).expand(n, 1, -1)]
        sequence += [self.word(tokens.INST_END).expand(n, 1, -1), embed(answer[:, :-1])]
        hidden = self.language(inputs_embeds=torch.cat(sequence, 1), use_cache=False).last_hidden_state
        return self.head(hidden[:, -answer.shape[1] :]), patches


class AnswerForm:
    """Token ids of all answers of one way of asking, to be put together on the GPU from labels."""

    def __init__(self, vocabulary: Tokenizer, instruction: str, with_region: bool) -> None:
        def ids(text: str) -> list[int]:
            return list(vocabulary.encode(text, add_special_tokens=False).ids)

        def single(text: str) -> int:
            (token,) = ids(f"->{text}")[1:]
            return token

        self.with_region = with_region
        self.prompt = [tokens.BOS, tokens.INST, *ids(instruction)]
        self.judgements = [single(word) for word in report.JUDGEMENTS]
        self.modes = [single(mode) for mode in (report.NONE, *tokens.MODES)]
        self.counts = [single(str(n)) for n in range(100)]
        self.rows = [single(letter) for letter in "ABCDEF"]
        judgement, mode, position = ids("- your judgement->"), ids("\n- defect mode->"), ids("\n- defect position->")
        count = ids(f"- image type->{report.IMAGE_TYPE}\n- quantity of pins->")
        self.parts = [count, ids(" pins\n- your judgement->"), mode, position] if with_region else [judgement, mode]

    def answers(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return token ids (n, length) and loss weights of that shape."""
        n, device = len(batch["judgement"]), batch["judgement"].device

        def fixed(ids: list[int]) -> torch.Tensor:
            return torch.tensor(ids, device=device).expand(n, -1)

        def chosen(table: list[int], index: torch.Tensor) -> torch.Tensor:
            return torch.tensor(table, device=device)[index][:, None]

        judgement, mode = chosen(self.judgements, batch["judgement"]), chosen(self.modes, batch["mode"])
        if not self.with_region:
            pieces = [fixed(self.parts[0]), judgement, fixed(self.parts[1]), mode, fixed([tokens.EOS])]
            weights = [0.02, 1.0, 0.02, 0.5, 0.02]
        else:
            pieces = [fixed(self.parts[0]), chosen(self.counts, batch["count"]), fixed(self.parts[1]), judgement]
            pieces += [fixed(self.parts[2]), mode, fixed(self.parts[3]), self._position(batch["position"])]
            weights = [0.02, 0.5, 0.02, 1.0, 0.02, 0.5, 0.02, 0.4]
        weight = torch.cat([torch.full((p.shape[1],), w, device=device) for p, w in zip(pieces, weights, strict=True)])
        answer = torch.cat(pieces, 1)
        return answer, weight.expand(n, -1) * (answer != tokens.PAD)

    def _position(self, position: torch.Tensor) -> torch.Tensor:
        """Return (n, 3): row, column, end; or none, end, padding."""
        columns = torch.tensor(self.counts[1:13], device=position.device)
        rows = torch.tensor(self.rows, device=position.device)
        end = torch.full_like(position, tokens.EOS)
        place = position.clip(min=0)
        named = torch.stack([rows[place // 12], columns[place % 12], end], 1)
        none = torch.stack([torch.full_like(position, self.modes[0]), end, torch.full_like(position, tokens.PAD)], 1)
        return torch.where((position >= 0)[:, None], named, none)

    def judgement_at(self) -> int:
        """Return the index of the judgement in an answer."""
        return len(self.parts[0]) + (len(self.parts[1]) + 1 if self.with_region else 0)

    def mode_at(self) -> int:
        """Return the index of the mode in an answer."""
        return self.judgement_at() + 1 + len(self.parts[2 if self.with_region else 1])


def loss_of(
    form: AnswerForm, logits: torch.Tensor, answer: torch.Tensor, weight: torch.Tensor,
    batch: dict[str, torch.Tensor],
) -> torch.Tensor:  # fmt: skip
    """Return the answer's weighted cross entropy plus the twins' margin loss: softplus(2 - (m_bad - m_good))."""
    logits = logits.float()
    entropy = F.cross_entropy(logits.flatten(0, 1), answer.flatten(), reduction="none").view_as(weight)
    margin = margin_of(form, logits)
    half = len(margin) // 2
    pair = (batch["judgement"][:half] == 1) & (batch["judgement"][half:] == 0)
    apart = F.softplus(2 - (margin[:half] - margin[half:])) * pair
    return (entropy * weight).sum(1).mean() + 0.1 * apart.sum() / pair.sum().clip(min=1)


def margin_of(form: AnswerForm, logits: torch.Tensor) -> torch.Tensor:
    """Return logit(defective) - logit(passed), (n,)."""
    at = logits[:, form.judgement_at()]
    return at[:, form.judgements[1]] - at[:, form.judgements[0]]


def save(model: LlavaForConditionalGeneration, vocabulary: Tokenizer, folder: Path) -> None:
    """Write a Hugging Face folder: 16-bit weights in shards under 15 MiB, config, tokenizer, preprocessor."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder, max_shard_size="14MB")
    tokens.save(vocabulary, folder)
    (folder / "preprocessor_config.json").write_text(PREPROCESSOR)


PREPROCESSOR = """{
 "image_processor_type": "PixtralImageProcessor",
 "do_convert_rgb": true,
 "do_normalize": true,
 "do_rescale": true,
 "do_resize": true,
 "image_mean": [0.48145466, 0.4578275, 0.40821073],
 "image_std": [0.26862954, 0.26130258, 0.27577711],
 "patch_size": {"height": 16, "width": 16},
 "rescale_factor": 0.00392156862745098,
 "resample": 3,
 "size": {"longest_edge": 1024}
}
"""
