"""The promise is kept as often as promised, limits are as the known arithmetic says, small sets are refused."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.confidence import at_most, lower
from calibration.seen import Part
from calibration.splitting import CALIBRATE, TUNE, VERIFY
from calibration.thresholds import GRID, Calibration, Promise, calibrated, fixed_sequence, groups_of, temperature

PROMISE = Promise(max_escape=0.01, max_reject=0.01, confidence=0.95)


def part(number: int, score: float | None, mode: str = "", population: str = "drawn") -> Part:
    return Part(f"part-{number}", bool(mode), (mode,) if mode else (), population, score)


def in_groups(calibrate: Sequence[Part], verify: Sequence[Part] = ()) -> dict[str, list[Part]]:
    return {TUNE: [], CALIBRATE: list(calibrate), VERIFY: list(verify)}


def parts(good: Sequence[float], bad: Sequence[float], mode: str = "bent") -> list[Part]:
    found = [part(k, score) for k, score in enumerate(good)]
    return found + [part(len(found) + k, score, mode) for k, score in enumerate(bad)]


def of(good: Sequence[float], bad: Sequence[float]) -> Calibration:
    return calibrated(in_groups(parts(good, bad)), 1.0, PROMISE)


def broken_promises(splits: int, alpha: float, n: int, seed: int) -> tuple[int, int]:
    """Draw `splits` calibrating sets from one simulated line and return how often (escape, reject) was too high.

    The line's pins fail in bursts: a part's score is the largest of pins that share the part's own luck.
    """
    rng = np.random.default_rng(seed)
    good = (rng.normal(-6, 1.5, 40_000)[:, None] + rng.normal(0, 1, (40_000, 9))).max(axis=1)
    bad = np.where(rng.random(40_000) < 0.9, rng.normal(5, 2, 40_000), rng.normal(-1, 2, 40_000))
    escapes = rejects = 0
    for _ in range(splits):
        t_lo = fixed_sequence(rng.choice(bad, n, replace=False), alpha, 0.95)
        t_hi = fixed_sequence(-rng.choice(good, n, replace=False), alpha, 0.95)
        escapes += t_lo is not None and float((bad <= t_lo).mean()) > alpha
        rejects += t_hi is not None and float((-good <= t_hi).mean()) > alpha
    return escapes, rejects


@pytest.mark.parametrize("n", [299, 400, 628])
def test_the_promised_bound_is_broken_in_no_more_than_the_promised_share(n: int) -> None:
    # 200 splits; more broken than 5 % allows would be seen: the exact lower limit would exceed it.
    for broken in broken_promises(200, 0.01, n, seed=n):
        assert lower(broken, 200) <= 0.05


def test_a_limit_without_the_test_breaks_the_promise_much_more_often() -> None:
    rng = np.random.default_rng(5)
    bad = rng.normal(4, 2, 40_000)
    naive = [float((bad < rng.choice(bad, 100).min()).mean()) > 0.01 for _ in range(200)]
    assert sum(naive) > 40


def test_299_defective_parts_are_the_least() -> None:
    bad = [10.0] * 299
    assert fixed_sequence(np.array(bad), 0.01, 0.95) == pytest.approx(9.9)
    assert fixed_sequence(np.array(bad[1:]), 0.01, 0.95) is None
    assert fixed_sequence(np.array([]), 0.01, 0.95) is None


def test_escapes_are_allowed_as_far_as_the_count_proves() -> None:
    bad = [-5.0] + [10.0] * 472
    assert fixed_sequence(np.array(bad), 0.01, 0.95) == pytest.approx(9.9)
    assert fixed_sequence(np.array(bad[:-1]), 0.01, 0.95) == pytest.approx(-5.1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-20, 20), min_size=299, max_size=400))
def test_every_limit_up_to_the_one_kept_is_proven(scores: list[float]) -> None:
    values = np.array(scores)
    kept = fixed_sequence(values, 0.01, 0.95)
    for limit in GRID[::20]:
        proven = at_most(int((values <= limit).sum()), len(values), 0.01) <= 0.05
        assert proven or kept is None or limit > kept


def test_a_small_set_gets_no_limits_and_is_told_how_much_is_missing() -> None:
    found = of([-5.0] * 300, [5.0] * 100)
    assert found.limits is None
    assert found.verified == "no limits"
    assert found.too_small[0] == (
        "defective parts: 100 to calibrate with, at least 299 are needed: about 498 more in the set."
    )


def test_promises_that_leave_room_meet_in_the_middle() -> None:
    found = of([-5.0] * 300, [5.0] * 300)
    assert found.limits is not None
    assert found.limits.t_lo == pytest.approx(0, abs=0.2)
    assert found.limits.t_hi == pytest.approx(found.limits.t_lo + 0.1)
    assert found.calibrate is not None
    assert (found.calibrate.escapes.k, found.calibrate.rejects.k) == (0, 0)


def test_parts_between_the_limits_are_not_decided() -> None:
    rng = np.random.default_rng(1)
    found = of(rng.normal(-1, 2, 2000).tolist(), rng.normal(1, 2, 2000).tolist())
    assert found.limits is not None
    assert found.limits.t_lo < found.limits.t_hi
    assert found.calibrate is not None
    assert found.calibrate.escapes.upper95 <= 0.01
    assert found.calibrate.rejects.upper95 <= 0.01
    assert found.calibrate.undecided_bad.k > 100


def test_a_mode_with_enough_parts_is_kept_by_itself() -> None:
    easy, hard = [part(k, 9.0, "missing") for k in range(3000)], [part(k, 2.0, "bent") for k in range(9000, 9299)]
    hard[0] = part(9000, -3.0, "bent")
    found = calibrated(in_groups([*easy, *hard, part(1, -5.0)]), 1.0, PROMISE)
    assert found.modes_kept == ("bent", "missing")
    limits = calibrated(in_groups([*easy, *hard, *parts([-9.0] * 300, [])]), 1.0, PROMISE).limits
    assert limits is not None
    assert limits.t_lo < -3.0


def test_a_part_that_was_not_asked_about_is_neither_escape_nor_reject() -> None:
    unasked = [*(part(k, None) for k in range(300)), *(part(300 + k, None, "bent") for k in range(300))]
    found = calibrated(in_groups(unasked), 1.0, PROMISE)
    assert found.calibrate is not None
    assert (found.calibrate.escapes.k, found.calibrate.rejects.k, found.calibrate.undecided_good.k) == (0, 0, 300)


def test_verifying_parts_prove_or_break_the_promise() -> None:
    calibrate = parts([-5.0] * 300, [5.0] * 300)
    for bad, said in (([5.0] * 299, "proven"), ([5.0] * 50, "not contradicted"), ([-5.0] * 20, "broken")):
        verify = parts([-5.0] * 299, bad)
        assert calibrated(in_groups(calibrate, verify), 1.0, PROMISE).verified == said


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_again(true_temperature: float) -> None:
    rng = np.random.default_rng(3)
    margins = rng.normal(0, 2, 20_000)
    bad = rng.random(20_000) < 1 / (1 + np.exp(-margins))
    found = temperature((true_temperature * margins).tolist(), bad.tolist())
    assert found == pytest.approx(true_temperature, rel=0.06)


def test_few_pins_leave_the_temperature_alone() -> None:
    assert temperature([1.0, -1.0], [True, False]) == 1.0


def test_groups_are_disjoint_and_hold_all_parts() -> None:
    everything = [part(k, 0.0) for k in range(500)]
    groups = groups_of(everything)
    assert sorted(one.part for group in groups.values() for one in group) == sorted(one.part for one in everything)


@pytest.mark.parametrize("n", [298, 299, 473, 1500])
def test_limits_agree_with_mapie_where_it_is_installed(n: int) -> None:
    mapie = pytest.importorskip("mapie.risk_control", reason="MAPIE is not installed: pip install -e .[oracle]")
    stats = pytest.importorskip("scipy.stats")
    bad = np.random.default_rng(n).normal(4, 2, n)
    counts = [int((bad <= limit).sum()) for limit in GRID]
    p_values = stats.binom.cdf(counts, n, 0.01)
    valid = mapie.control_fwer(p_values, 0.05, fwer_method="fixed_sequence")
    kept = fixed_sequence(bad, 0.01, 0.95)
    assert kept == (GRID[max(valid)] if len(valid) else None)
