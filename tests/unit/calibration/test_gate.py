"""A new release is better only when it is right more often and makes no kind of error more often."""

from collections.abc import Sequence

import msgspec

from calibration.evaluation import ModelReport, model_report, share
from calibration.gate import shortcomings
from calibration.seen import Seen, seen_of
from calibration.wordings import RATES
from station.labels import Label
from station.records import Evaluation
from tests.verdicts import IMAGE, make_region, make_verdict

OK, NOT_OK, NOT_DECIDABLE = Evaluation.OK, Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE
TRUTH = (OK, OK, NOT_OK, NOT_OK)


def report(*said: Evaluation, simulated: bool = False) -> ModelReport:
    seen: Sequence[Seen] = [
        seen_of(
            [Label(f"{number}.png", truth, f"P{number}")],
            make_verdict(
                evaluation=word,
                image=msgspec.structs.replace(IMAGE, name=f"{number}.png"),
                regions=(make_region(ng=("A1",) if word is NOT_OK else ()),),
                is_simulated=simulated,
            ),
            None,
        )
        for number, (truth, word) in enumerate(zip(TRUTH, said, strict=True))
    ]
    return model_report(seen)


def test_right_more_often_is_better() -> None:
    assert shortcomings(report(OK, NOT_OK, NOT_OK, OK), report(OK, OK, NOT_OK, NOT_OK)) == ()


def test_the_same_release_is_not_better_than_itself() -> None:
    same = report(OK, OK, NOT_OK, NOT_OK)
    assert shortcomings(same, same) == ("judgement right: 4 of 4, the active release 4: not better",)


def test_one_escape_more_is_not_made_good_by_being_right_more_often() -> None:
    found = shortcomings(report(NOT_OK, NOT_OK, NOT_OK, NOT_DECIDABLE), report(OK, OK, NOT_OK, OK))
    assert found == ("escapes: 1 of 2, the active release 0",)


def test_what_was_simulated_is_never_released() -> None:
    found = shortcomings(report(NOT_OK, OK, OK, OK), report(OK, OK, NOT_OK, NOT_OK, simulated=True))
    assert found == ("simulated: no model judged",)


def test_a_release_that_hangs_on_the_words_more_is_not_better() -> None:
    before, new = report(OK, NOT_OK, NOT_OK, NOT_OK), report(OK, OK, NOT_OK, NOT_OK)

    def worded(model: ModelReport, changed: int) -> ModelReport:
        return msgspec.structs.replace(model, rates=model.rates | {RATES[0]: share(changed, 24)})

    assert shortcomings(worded(before, 4), worded(new, 4)) == ()
    assert shortcomings(worded(before, 0), worded(new, 4)) == (), "4 of 24 are no proof: by chance in 5.5 of 100"
    assert shortcomings(worded(before, 0), worded(new, 5)) == (f"{RATES[0]}: 5 of 24, the active release 0",)
    assert shortcomings(before, worded(new, 24)) == (), "the active one could not be asked so"
