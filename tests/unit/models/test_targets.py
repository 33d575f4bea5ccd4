"""The figures of the targets' table, against cases whose answer is known."""

from collections import Counter
from pathlib import Path
from typing import Any

import measure_targets
import numpy as np
import pytest
import targets
from measure import claim, share


def test_kappa_is_one_for_agreement_and_zero_for_chance() -> None:
    assert targets.kappa([("OK", "OK"), ("NOT_OK", "NOT_OK")]) == 1.0
    assert targets.kappa([("OK", "OK"), ("OK", "NOT_OK"), ("NOT_OK", "OK"), ("NOT_OK", "NOT_OK")]) == 0.0


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_the_slope_finds_how_much_too_sure_margins_are(factor: float) -> None:
    rng = np.random.default_rng(1)
    margins = rng.normal(0, 2, 40_000)
    bad = rng.random(40_000) < 1 / (1 + np.exp(-factor * margins))
    found, error = targets.slope(margins, bad)
    assert found == pytest.approx(factor, rel=0.05)
    assert abs(found - factor) < 3 * error < 0.1


def test_the_bend_that_half_of_the_parts_show_lies_between_the_measured_ones() -> None:
    curve = {"0.40": share(0, 10), "0.50": share(4, 10), "0.60": share(9, 10)}
    assert targets.bend_at(curve, 0.5) == pytest.approx(0.52)


def test_swapped_pins_and_blank_crops_are_counted() -> None:
    said: dict[str, list[Any]] = {
        "blank": ["NOT_DECIDABLE"] * 299 + ["OK"], "no picture": ["NOT_DECIDABLE"] * 300,
        "swapped": [["NOT_OK", "OK"]] * 298 + [["OK", "OK"], ["NOT_OK", "NOT_OK"]],
    }  # fmt: skip
    found = targets.guards_of(said)
    assert found["blank said OK"]["k"] == 1
    assert found["defect found at its new place"]["k"] == 299
    assert found["good pin passed at its new place"]["k"] == 299


def test_each_half_is_calibrated_by_the_temperature_of_the_other() -> None:
    rng = np.random.default_rng(2)

    def line(factor: float) -> dict[str, Any]:
        margins = rng.normal(0, 3, 20)
        return {"pins": [(float(m), bool(rng.random() < 1 / (1 + np.exp(-factor * m)))) for m in margins]}

    found = targets.calibration_of([line(0.5) for _ in range(1000)])
    assert found["temperatures"] == pytest.approx([2.0, 2.0], rel=0.1)
    assert found["slope"] == pytest.approx(1.0, abs=0.1)
    assert found["pins"] == 20_000
    assert found["log loss with the temperature"] < found["log loss"]
    # the halves are parts 0, 1, 4, 5, ... and 2, 3, 6, 7, ...
    halves = targets.calibration_of([line(0.5 if number % 4 < 2 else 2.0) for number in range(1000)])
    assert halves["temperatures"] == pytest.approx([0.5, 2.0], rel=0.1)


def test_offsets_that_must_pass_are_drawn_five_times_as_often() -> None:
    total = measure_targets.BENDS * len(measure_targets.BEND_T) + measure_targets.EARLY * len(measure_targets.EARLY_T)
    drawn = Counter(measure_targets.bend_of(number) for number in range(total))
    assert drawn == {offset: 400 if offset <= 0.35 else 80 for offset in measure_targets.BEND_T}


def test_a_folder_of_another_model_or_seed_is_not_gone_on_with(tmp_path: Path) -> None:
    out, model, recipe = tmp_path / "out", tmp_path / "manifest.json", tmp_path / "recipe.yaml"
    model.write_text("{}")
    recipe.write_text("recipe: a")
    claim(out, model, recipe, 9002)
    (out / "parts.jsonl").write_text("{}")
    claim(out, model, recipe, 9002)
    with pytest.raises(SystemExit, match="another model, recipe or seed"):
        claim(out, model, recipe, 9001)
    model.write_text('{"another": 1}')
    with pytest.raises(SystemExit, match="another model, recipe or seed"):
        claim(out, model, recipe, 9002)
    (out / "of.json").unlink()
    with pytest.raises(SystemExit, match="another model, recipe or seed"):
        claim(out, model, recipe, 9002)
