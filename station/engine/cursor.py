"""One sequence's way through the answer form, token by token. Pure: knows logits, not llama.cpp.

At a choice point only tokens that continue an allowed answer may follow (a grammar), and the most probable of them is
taken. The probability of an answer is the product over its tokens under the whole vocabulary. An answer that leaves
the taken path keeps the probability it had there: an upper bound, so what was not taken is never made too small.

What is known beforehand is put in without waiting: fixed text, tokens that only one answer can have, and, as long as
the model agrees with it, the answer that is expected. Where the model does not, what was put in behind is dropped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from station.engine.base import Choice, Slot
from station.errors import EngineError


@dataclass(frozen=True)
class Scores:
    """What the model thinks of the next token."""

    logits: npt.NDArray[np.float32]
    """(vocabulary,)"""
    log_total: float
    """Natural logarithm of the sum of their exponentials."""

    def share(self, token: int) -> float:
        """Return the token's probability, 0..1."""
        return math.exp(float(self.logits[token]) - self.log_total)


def scores_of(logits: npt.NDArray[np.float32]) -> Scores:
    """Return (vocabulary,) logits as scores; `log_total` is not finite where one of them is nan or infinite."""
    highest = logits.max()
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        total = np.exp(logits - highest).sum(dtype=np.float64)
    return Scores(logits, float(highest + np.log(total)))


@dataclass(frozen=True)
class SlotTokens:
    """A slot in the model's tokens."""

    slot: Slot
    before: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]
    """Tokens of each allowed answer; none is the beginning of another."""


@dataclass(frozen=True)
class _Place:
    """A choice point: `walked` tokens into slot number `slot`, with the answers that are still possible."""

    slot: int
    walked: int
    open: tuple[int, ...]


class Cursor:
    """Walks one answer. Put in `tokens`, give it the scores after each of `wanted`; no tokens are left at the end."""

    def __init__(self, form: Sequence[SlotTokens], expected: Sequence[str] = ()) -> None:
        self.form = form
        self.choices: list[Choice] = []
        self._expected = [part.slot.choices.index(said) for part, said in zip(form, expected, strict=False)]
        self._here = self._enter(0)
        self._probability = [1.0] * len(form[0].choices)
        self._put(form[0].before)

    def take(self, scores: Sequence[Scores]) -> int:
        """Go on by the scores of `wanted`; return how many of `tokens` stand. Raises EngineError if not finite."""
        for place, score in zip(self.wanted, scores, strict=True):
            taken = self._choose(score)
            if len(self.choices) == len(self.form):
                self.tokens: tuple[int, ...] = ()
                return place + 1
            if place + 1 == len(self.tokens) or self.tokens[place + 1] != taken:
                break
        before = self.form[self._here.slot].before if self._here.walked == 0 else ()
        self._put((taken, *before))
        return place + 1

    def _enter(self, slot: int) -> _Place:
        return _Place(slot, 0, tuple(range(len(self.form[slot].choices))))

    def _choose(self, score: Scores) -> int:
        """Take the likeliest allowed token."""
        if not math.isfinite(score.log_total):
            raise EngineError(
                "The model answered with numbers that are not finite.",
                "Check the model file (station check), its quantization and the GPU's memory.",
            )
        here, choices = self._here, self.form[self._here.slot].choices
        for index in here.open:
            self._probability[index] *= score.share(choices[index][here.walked])
        taken = max(sorted({choices[index][here.walked] for index in here.open}), key=lambda t: float(score.logits[t]))
        expected = self._guess(here)
        if expected is not None and taken != expected:
            self._expected = []
        after = self._after(here, taken)
        if after is None or after.slot != here.slot:
            self._finish(here, taken)
        self._here = after or here
        return taken

    def _after(self, here: _Place, token: int) -> _Place | None:
        """Return the choice point behind `token`; None at the end of the form."""
        choices = self.form[here.slot].choices
        left = tuple(index for index in here.open if choices[index][here.walked] == token)
        if len(choices[left[0]]) > here.walked + 1:
            return _Place(here.slot, here.walked + 1, left)
        return self._enter(here.slot + 1) if here.slot + 1 < len(self.form) else None

    def _finish(self, here: _Place, token: int) -> None:
        part = self.form[here.slot]
        chosen = next(index for index in here.open if part.choices[index][here.walked] == token)
        self.choices.append(Choice(chosen=part.slot.choices[chosen], probabilities=tuple(self._probability)))
        if here.slot + 1 < len(self.form):
            self._probability = [1.0] * len(self.form[here.slot + 1].choices)

    def _guess(self, here: _Place) -> int | None:
        """Return the token that must follow or is expected to."""
        choices = self.form[here.slot].choices
        if len(here.open) == 1:
            return choices[here.open[0]][here.walked]
        if here.slot < len(self._expected) and self._expected[here.slot] in here.open:
            return choices[self._expected[here.slot]][here.walked]
        return None

    def _put(self, start: tuple[int, ...]) -> None:
        """Set what is put in next: `start`, and behind it what can be guessed."""
        tokens, wanted, here = list(start), [len(start) - 1], self._here
        while (guess := self._guess(here)) is not None:
            after = self._after(here, guess)
            if after is None:
                break
            before = self.form[after.slot].before if after.walked == 0 else ()
            tokens += (guess, *before)
            wanted.append(len(tokens) - 1)
            here = after
        self.tokens, self.wanted = tuple(tokens), tuple(wanted)

    def text(self) -> str:
        """Return the answer so far, in the model's own form."""
        return "".join(part.slot.before + choice.chosen for part, choice in zip(self.form, self.choices, strict=False))
