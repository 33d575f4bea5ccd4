"""One sequence's way through the answer form, token by token. Pure: knows logits, not llama.cpp.

At a choice point only tokens that continue an allowed answer may follow (a grammar), and the most probable of them is
taken. The probability of an answer is the product over its tokens under the whole vocabulary. An answer that leaves
the taken path keeps the probability it had there: an upper bound, so what was not taken is never made too small.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from station.engine.base import Choice, Slot
from station.errors import EngineError

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SlotTokens:
    """A slot in the model's tokens."""

    slot: Slot
    before: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]
    """Tokens of each allowed answer; none is the beginning of another."""


class Cursor:
    """Walks one answer. Feed it the logits after the tokens it gave; `tokens` holds what comes next, () at the end."""

    def __init__(self, form: Sequence[SlotTokens]) -> None:
        self.form = form
        self.choices: list[Choice] = []
        self.tokens: tuple[int, ...] = form[0].before
        self._start()

    def _start(self) -> None:
        self.walked = 0
        self.open = list(range(len(self._slot().choices)))
        self.probability = [1.0] * len(self.open)

    def _slot(self) -> SlotTokens:
        return self.form[len(self.choices)]

    def take(self, logits: Logits) -> None:
        """Choose the next token from `logits` (vocabulary,). Raises EngineError when they are not finite."""
        if not np.isfinite(logits).all():
            raise EngineError(
                "The model answered with numbers that are not finite.",
                "Check the model file (station check), its quantization and the GPU's memory.",
            )
        shifted = logits.astype(np.float64) - float(logits.max())
        share = np.exp(shifted) / np.exp(shifted).sum()
        slot = self._slot()
        allowed = {slot.choices[index][self.walked] for index in self.open}
        for index in self.open:
            self.probability[index] *= float(share[slot.choices[index][self.walked]])
        taken = max(sorted(allowed), key=lambda token: float(share[token]))
        self.open = [index for index in self.open if slot.choices[index][self.walked] == taken]
        self.walked += 1
        self.tokens = (taken,)
        if len(slot.choices[self.open[0]]) == self.walked:
            self._finish(slot, self.open[0])

    def _finish(self, slot: SlotTokens, chosen: int) -> None:
        self.choices.append(Choice(chosen=slot.slot.choices[chosen], probabilities=tuple(self.probability)))
        if len(self.choices) == len(self.form):
            self.tokens = ()
            return
        self.tokens = (*self.tokens, *self._slot().before)
        self._start()

    def text(self) -> str:
        """Return the answer so far, in the model's own form."""
        return "".join(part.slot.before + choice.chosen for part, choice in zip(self.form, self.choices, strict=False))
