"""Errors are counted as the labels know them, curves have known areas, and the page shows all without a request."""

import math
import re
from typing import Any

import msgspec
import pytest

from calibration import curves, evaluation, evaluation_html, svg
from calibration.seen import MARGIN_LIMIT, Seen, margin_of, p_of, parts_of, seen_of
from calibration.splitting import group_of, half_of
from station.labels import Label
from station.records import Evaluation
from tests.verdicts import IMAGE, make_region, make_verdict

OK, NOT_OK, NOT_DECIDABLE = Evaluation.OK, Evaluation.NOT_OK, Evaluation.NOT_DECIDABLE


def seen(label: Label, said: Evaluation, *ng: str, baseline: float = 1.0) -> Seen:
    changes: dict[str, Any] = {"regions": (make_region(ng=ng),)} if ng else {}
    image = msgspec.structs.replace(IMAGE, name=label.image)
    return seen_of([label], make_verdict(evaluation=said, image=image, **changes), baseline)


GOOD = seen(Label("good.png", OK, "P1", None, 8), OK)
FOUND = seen(Label("found.png", NOT_OK, "P2", None, 8, ("bent",), ("A2",)), NOT_OK, "A2", baseline=9.0)
ESCAPE = seen(Label("escape.png", NOT_OK, "P3", None, 7, ("missing",), ("B1",)), OK, baseline=8.0)
FALSE_REJECT = seen(Label("false.png", OK, "P4", None, 8), NOT_OK, "A1")
UNSURE = seen(Label("unsure.png", NOT_OK, "P5"), NOT_DECIDABLE)
ALL = (GOOD, FOUND, ESCAPE, FALSE_REJECT, UNSURE)


def test_errors_are_told_apart() -> None:
    report = evaluation.model_report(ALL)
    rates = {name: (share.k, share.n) for name, share in report.rates.items()}
    assert rates == {
        "judgement right": (2, 5),
        "escapes": (1, 3),
        "false rejects": (1, 2),
        "no decision, good": (0, 2),
        "no decision, bad": (1, 3),
        "count right": (3, 4),
        "mode right": (1, 1),
        "position right": (1, 1),
    }
    assert report.confusion == {"OK": {"OK": 1, "NOT_OK": 1}, "NOT_OK": {"NOT_OK": 1, "OK": 1, "NOT_DECIDABLE": 1}}
    assert {mode: share.k for mode, share in report.escapes_by_mode.items()} == {"bent": 0, "missing": 1}
    assert report.count_errors == {"0": 3, "+1": 1}


def test_errors_of_pins_need_labels_that_name_the_pin() -> None:
    places = {one.place: one for one in evaluation.model_report(ALL).places}
    assert (places["pins/B1"].missed.k, places["pins/B1"].missed.n) == (1, 1)
    assert (places["pins/A1"].false_alarms.k, places["pins/A1"].false_alarms.n) == (1, 4)
    assert all(pin.is_bad is None for pin in UNSURE.pins)


def test_the_worst_come_first() -> None:
    worst = [one.image for one in evaluation.worst_first(ALL)]
    assert worst[:3] == ["escape.png", "false.png", "unsure.png"]


def test_limits_of_a_share_are_exact() -> None:
    share = evaluation.share(0, 299)
    assert share.upper95 == pytest.approx(0.01, abs=4e-5)
    assert share.lower95 == 0.0


def test_two_models_are_compared_where_they_differ() -> None:
    better = (GOOD, FOUND, FOUND)
    first = [msgspec.structs.replace(one, image=str(k)) for k, one in enumerate((GOOD, FOUND, ESCAPE))]
    said = evaluation.compared(first, better, ("a", "b"))
    assert (said.only_first_right, said.only_second_right, said.p_value) == (0, 1, 1.0)


def test_the_baseline_judges_each_half_with_the_limit_of_the_other() -> None:
    pictures = [
        seen(Label(f"{k}.png", OK if k % 2 else NOT_OK, f"P{k}"), OK, baseline=1.0 if k % 2 else 9.0) for k in range(40)
    ]
    report = evaluation.baseline_report(pictures)
    assert report is not None
    assert report.rates["judgement right"].k == 40
    assert evaluation.baseline_report(pictures[:1]) is None


def test_margins_are_log_odds() -> None:
    assert margin_of(0.5) == 0.0
    assert margin_of(0.0) == -MARGIN_LIMIT
    assert margin_of(1.0) == MARGIN_LIMIT
    for margin in (-30.0, -1.0, 0.3, 20.0):
        assert margin_of(p_of(margin)) == pytest.approx(margin)


def test_a_part_counts_once_with_its_worst_picture() -> None:
    bad = [seen(Label(f"{k}.png", NOT_OK, "P1"), said) for k, said in enumerate((NOT_OK, OK))]
    (part,) = parts_of(bad)
    assert part.is_bad
    assert part.score == min(one.margin or 0.0 for one in bad)


def test_the_area_under_roc_is_the_chance_to_rank_right() -> None:
    scores, bad = [1.0, 2.0, 2.0, 3.0, 4.0], [False, True, False, False, True]
    pairs = [(b, g) for b, is_bad in zip(scores, bad, strict=True) if is_bad
             for g, is_good in zip(scores, bad, strict=True) if not is_good]  # fmt: skip
    chance = sum((b > g) + 0.5 * (b == g) for b, g in pairs) / len(pairs)
    assert curves.area(curves.roc(scores, bad)) == pytest.approx(chance)
    assert math.isnan(curves.area(curves.roc([1.0], [True])))


def test_reliability_bins_hold_every_pin_once() -> None:
    margins, bad = [-9.0, -3.0, -3.5, 0.5, 9.0], [False, False, True, True, True]
    bins = curves.reliability(margins, bad)
    assert sum(one.count for one in bins) == 5
    assert bins[1].observed == 0.5


def test_splits_stay_the_same_and_have_their_share() -> None:
    groups = [group_of(f"part-{k}") for k in range(2000)]
    assert groups == [group_of(f"part-{k}") for k in range(2000)]
    assert 320 < groups.count("tune") < 480
    assert 700 < groups.count("verify") < 900
    assert 900 < sum(half_of(f"part-{k}") for k in range(2000)) < 1100


def test_ticks_are_round_numbers() -> None:
    assert svg.ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert svg.ticks(-9.1, 12.6) == [-5.0, 0.0, 5.0, 10.0]


def test_the_page_holds_everything_in_itself() -> None:
    model = evaluation.model_report(ALL)
    report = evaluation.SetReport(
        "set <1>", "recipe", "ab" * 32, "2026-01-01T00:00:00+00:00", 5, 5, 0.3, 0.5, (model,), None, ()
    )
    page = evaluation_html.page(report, {f"{model.model.sha256}/escape.png": b"jpeg"})
    assert "set &lt;1&gt;" in page
    assert page.count("<svg") == 4
    assert "data:image/jpeg;base64," in page
    assert not re.search(r"https?:|<script|<link|@import", page)
