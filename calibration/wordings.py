"""Other wordings of the same question: does the model's judgement hang on the words rather than on the picture.

In: a labelled set and a model. Out: for each wording how many pictures are judged otherwise than with the recipe's own
words, and how many have no judgement then, because the answer contradicts itself: that says nothing about a pin and is
no change. A wording changes nothing that is asked: sentences in lines of their own, a request in front, a remark
behind, and in the answer's form colons for arrows. At most PICTURES pictures are taken, spread over the set.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from calibration.evaluation import Share, share
from calibration.run_set import LabelledSet
from calibration.seen import Seen
from station.capture.crop import golden_crops
from station.engine.base import Answer
from station.errors import EngineError
from station.recipe import Recipe
from station.records import Evaluation, RegionReport
from station.shift_vote import VotingInspection

PICTURES = 24
ARROW, COLON = "->", ":"
"""No blank behind the colon: tokenizers run it together with the word that follows."""

Words = Callable[[str], str]
INSTRUCTIONS: Mapping[str, Words] = {
    "in lines": lambda text: text.replace(". ", ".\n"),
    "with a request": lambda text: f"Please look at the picture with care. {text}",
    "with a remark": lambda text: f"{text} Answer in the form that is given.",
}
FORM = "with colons"
WORDINGS = (*INSTRUCTIONS, FORM)
CHANGED, UNANSWERED = "changed, asked", "unanswered, asked"
RATES = tuple(f"{CHANGED} {name}" for name in WORDINGS)
"""Names of the shares that a new release must not have larger than chance explains."""


class ColonInspection(VotingInspection):
    """The same questions with another form of the answer."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe, golden_crops(recipe))
        slots = tuple(
            msgspec.structs.replace(slot, before=slot.before.replace(ARROW, COLON)) for slot in self.question.slots
        )
        self.question = msgspec.structs.replace(self.question, slots=slots)

    def regions(self, answers: Sequence[Answer], ms: float) -> tuple[RegionReport, ...]:
        """Return what the answers say, read as if they had the recipe's own form."""
        own = [msgspec.structs.replace(answer, text=answer.text.replace(COLON, ARROW)) for answer in answers]
        return super().regions(own, ms)


def changed_by_wording(labelled: LabelledSet, seen: Sequence[Seen], model: Path | None) -> dict[str, Share]:
    """Return for each wording the share of pictures judged otherwise than they were `seen` by this model.

    Of those that have a judgement both times; where some lost it, their share too.

    `labelled`: the pictures to ask about again, a part of those seen. A form that the model's tokenizer cannot take
    apart is left out. Raises EngineError.
    """
    said = {one.image: one.verdict.evaluation for one in seen}
    recipe = labelled.recipe
    golden = golden_crops(recipe)
    worded = [VotingInspection(_reworded(recipe, words), golden) for words in INSTRUCTIONS.values()]
    rates: dict[str, Share] = {}
    for name, inspection in zip(WORDINGS, [*worded, ColonInspection(recipe)], strict=True):
        try:
            rates |= _rates(name, said, list(labelled.seen(model, inspection)))
        except EngineError:
            if name != FORM:
                raise
            # Some tokenizers run the colon together with the answer: they cannot be asked so, which says nothing.
    return rates


def spread(images: Sequence[str]) -> list[str]:
    """Return at most PICTURES of the names, spread evenly."""
    step = max(1, -(-len(images) // PICTURES))
    return list(images[::step])


def _rates(name: str, said: Mapping[str, Evaluation], again: Sequence[Seen]) -> dict[str, Share]:
    judged = [one for one in again if said[one.image] is not Evaluation.UNDEFINED]
    answered = [one for one in judged if one.verdict.evaluation is not Evaluation.UNDEFINED]
    changed = sum(one.verdict.evaluation is not said[one.image] for one in answered)
    lost = len(judged) - len(answered)
    rates = {f"{CHANGED} {name}": share(changed, len(answered))}
    return rates | ({f"{UNANSWERED} {name}": share(lost, len(judged))} if lost else {})


def _reworded(recipe: Recipe, words: Words) -> Recipe:
    file = recipe.file
    ask = {
        name: part.model_copy(update={"instruction": words(part.instruction)})
        for name, part in (("pins", file.pins), ("report", file.report))
    }
    return recipe.model_copy(update={"file": file.model_copy(update=ask)})
