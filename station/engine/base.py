"""What the worker asks of an engine. Pure: records and a protocol, no I/O.

A `Question` is a text with pictures, and an answer form: fixed text with choices in between. An engine never answers
outside the form; it says how probable each choice was under the model's *whole* vocabulary, so that a model which
wanted to say something else is seen (`Choice.mass` well below 1).
"""

from typing import Protocol

from station.records import ModelRef, Record


class Slot(Record):
    """One choice point of the answer form."""

    before: str
    """Fixed text in front of the choice, e.g. "- your judgement->"."""
    choices: tuple[str, ...]
    """The allowed answers, in recipe order; at least one."""


class Question(Record):
    """The part of a question that is the same for all crops of a recipe."""

    instruction: str
    images: int
    """Pictures per query: 1, or 2 (golden first)."""
    slots: tuple[Slot, ...]
    width_px: int
    height_px: int
    """Of every picture; multiples of 16."""
    queries: int
    """Most queries asked at once; the engine makes room for them when it prepares."""


class Picture(Record):
    """RGB uint8 pixels, of the question's size."""

    width_px: int
    height_px: int
    pixels_rgb: bytes


class Query(Record):
    """One crop to be asked about."""

    query_id: str
    pictures: tuple[Picture, ...]
    """Golden pictures first, the one that is asked about last."""
    expected: tuple[str, ...] = ()
    """The answer of a good part, one choice a slot. It only saves time: the answer is the same without it."""


class Choice(Record):
    """What the model chose at one slot."""

    chosen: str
    probabilities: tuple[float, ...]
    """Of each allowed answer (all its tokens), in the slot's order, not renormalised: their sum is `mass`."""

    @property
    def mass(self) -> float:
        """Share of the model's probability that lies on the allowed answers, 0..1."""
        return sum(self.probabilities)


class Answer(Record):
    """The model's answer to one query, one choice per slot."""

    query_id: str
    choices: tuple[Choice, ...]
    text: str
    """The whole answer as the model's own form."""


class Engine(Protocol):
    """A loaded model. One instance per process, used from one thread."""

    is_simulated: bool

    def model(self) -> ModelRef:
        """Return the release that is loaded."""

    def prepare(self, question: Question) -> None:
        """Compute what is the same for all queries of `question`. Raises EngineError if it does not fit."""

    def ask(self, queries: tuple[Query, ...]) -> tuple[Answer, ...]:
        """Answer every query with the prepared question, in order. Raises EngineError."""

    def close(self) -> None:
        """Free the model."""
