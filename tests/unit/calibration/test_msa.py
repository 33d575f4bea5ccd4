"""A study is graded by what was measured and by what it proves, and says what would be needed."""

import re

import msgspec
import numpy as np
import pytest

from calibration import msa_html
from calibration.agreement import Reading
from calibration.msa import LIMITS, Facts, Grade, Study, analysed, cells, grade_of
from station.records import Evaluation

OK, NOT_OK = Evaluation.OK, Evaluation.NOT_OK
FACTS = Facts("study", "pins", "ab" * 32, "model", "cd" * 32, False, "2026-01-01T00:00:00+00:00", -2.0, 2.0)


def readings(parts: int, *, stations: int = 1, scatter: float = 0.5, without: tuple[str, ...] = ()) -> list[Reading]:
    """Return a study of good parts about -8 and bad ones about 8; of parts in `without` one margin is missing."""
    rng = np.random.default_rng(1)
    found = []
    for number in range(parts):
        bad, part = bool(number % 2), f"P{number}"
        for place in range(stations):
            for set_up in "abc":
                for again in "123":
                    margin = (8 if bad else -8) + rng.normal(0, scatter)
                    asked = part not in without or again != "3"
                    name = f"{part}-{place}{set_up}{again}"
                    found.append(
                        Reading(
                            name,
                            part,
                            bad,
                            f"S{place}",
                            set_up,
                            again,
                            NOT_OK if bad else OK,
                            margin if asked else None,
                        )
                    )
    return found


def grades(study: Study) -> dict[str, tuple[Grade, Grade | None]]:
    return {one.figure: (one.grade, one.grade_at_limit) for one in study.criteria}


def test_a_flawless_study_of_the_usual_size_does_not_prove_the_miss_rate() -> None:
    study = analysed(FACTS, readings(50), [])
    assert grades(study)["miss rate"] == (Grade.ACCEPTABLE, Grade.NOT_ACCEPTABLE)
    assert grades(study)["effectiveness"] == (Grade.ACCEPTABLE, Grade.ACCEPTABLE)
    assert study.is_acceptable
    assert "proving 2% takes 149 bad parts, 0 of them with one" in " ".join(study.too_small)
    assert not any("usual" in text for text in study.too_small)


def test_what_a_small_study_lacks_is_said() -> None:
    few = [one for one in readings(8) if one.set_up == "a" and one.recapture != "3"][:-2]
    text = " ".join(analysed(FACTS, few, []).too_small)
    for words in ("7 parts; 50 are usual", "1 set-ups; 3 are usual", "2 recaptures; 3 are usual"):
        assert words in text
    one_sided = [one for one in readings(20) if not one.is_bad or one.part == "P1"]
    assert "1 of 11 parts are bad; at least a quarter" in " ".join(analysed(FACTS, one_sided, []).too_small)


def test_distances_are_counted_in_sigmas_of_the_gauge() -> None:
    study = analysed(FACTS, readings(40), [])
    good = study.distances["good"]
    assert good.sigma == pytest.approx(0.5, rel=0.15)
    assert good.sigmas == pytest.approx((-2.0 - good.mean) / good.sigma)
    assert good.sigmas is not None
    assert good.nearest_sigmas is not None
    assert good.nearest_sigmas < good.sigmas
    assert study.distances["bad"].sigmas == pytest.approx(
        (study.distances["bad"].mean + 2) / study.distances["bad"].sigma
    )


def test_a_part_without_every_margin_is_left_out_by_name() -> None:
    study = analysed(FACTS, readings(10, without=("P3",)), [])
    assert study.left_out == ("P3",)
    assert study.gauge is not None
    assert study.gauge.parts == 9
    assert cells(readings(2))[0]["P1"] == [
        [[one.margin for one in readings(2) if one.part == "P1" and one.set_up == set_up] for set_up in "abc"]
    ]


def test_recaptures_beyond_the_usual_of_the_study_are_not_taken() -> None:
    more = [msgspec.structs.replace(one, recapture="4") for one in readings(1)[:1]]
    study = analysed(FACTS, [*readings(10), *more], [])
    assert study.gauge is not None
    assert (study.gauge.parts, study.gauge.recaptures) == (10, 3)


def test_the_same_picture_must_be_decided_alike() -> None:
    one = readings(1)[0]
    alike, other = (one, one), (one, msgspec.structs.replace(one, said=NOT_OK))
    same = "same picture, other decision"
    assert grades(analysed(FACTS, readings(50), [alike]))[same] == (Grade.ACCEPTABLE, None)
    study = analysed(FACTS, readings(50), [alike, other])
    assert grades(study)[same] == (Grade.NOT_ACCEPTABLE, None)
    assert not study.is_acceptable


def test_stations_are_a_level_of_their_own() -> None:
    study = analysed(FACTS, readings(10, stations=2), [])
    assert study.gauge is not None
    assert (study.gauge.stations, study.gauge.set_ups) == (2, 3)
    assert [one.name for one in study.decisions] == [
        *(f"S{place}, {set_up}" for place in "01" for set_up in "abc"),
        "all",
    ]
    assert "kappa, other station" in grades(study)


def test_no_gauge_study_without_recaptures() -> None:
    study = analysed(FACTS, [one for one in readings(10) if one.recapture == "1"], [])
    assert study.gauge is None
    assert "No gauge study" in msa_html.page(study)


@pytest.mark.parametrize("figure", LIMITS)
def test_grades_go_from_acceptable_to_not(figure: str) -> None:
    acceptable, marginal = LIMITS[figure]
    step = 0.1 * (acceptable - marginal)
    assert grade_of(figure, acceptable) is Grade.ACCEPTABLE
    if step:
        assert grade_of(figure, acceptable - step) is grade_of(figure, marginal) is Grade.MARGINAL
    assert grade_of(figure, marginal - (step or -0.01)) is Grade.NOT_ACCEPTABLE


def test_the_page_holds_everything_without_a_request_and_names_are_escaped() -> None:
    hard = [
        Reading(one.image, "<b>", True, one.station, one.set_up, one.recapture, OK, -8.0)
        for one in readings(1)
    ]  # fmt: skip
    page = msa_html.page(analysed(FACTS, [*readings(6), *hard], []))
    assert page.count("<svg") == 2
    assert "&lt;b&gt;, bad: a: OK OK OK" in page
    assert "<b>, bad" not in page
    assert not re.search(r"(src|href)=|<script|url\(", page)
