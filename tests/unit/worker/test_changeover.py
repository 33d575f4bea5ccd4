"""Which recipe is in force, and which pictures it may judge; on a real file, with a clock of numbers."""

import time
from pathlib import Path

import msgspec
import pytest

from station.errors import JournalError
from station.records import Job
from station.worker.changeover import CHANGE_LIMIT_S, Changeover, InForce, Product, Turn
from tests.worker_parts import FakeInspection, make_job, make_recipe


def product(sha256: str) -> Product:
    recipe = make_recipe().model_copy(update={"sha256": sha256})
    return Product(recipe, FakeInspection(), None)


ONE, TWO = product("11" * 32), product("22" * 32)


def idle(changeover: Changeover, now_ns: int) -> Turn:
    return changeover.turn(now_ns, is_idle=True, capture_sha256="11" * 32)


def made(tmp_path: Path, start: Product = ONE) -> Changeover:
    changeover = Changeover({1: ONE, 2: TWO}, start, tmp_path / "in-force.json")
    changeover.open()
    return changeover


def taken(captured_ns: int | None = None, captured_utc: str = "2026-01-01T00:00:00.000+00:00") -> Job:
    return msgspec.structs.replace(make_job("a"), captured_ns=captured_ns, captured_utc=captured_utc)


def test_a_station_whose_recipe_was_never_changed_judges_every_picture_and_keeps_no_file(tmp_path: Path) -> None:
    changeover = made(tmp_path)
    assert idle(changeover, 0) is Turn.NOTHING
    assert not changeover.is_of_before(taken())
    assert not changeover.is_of_before(taken(captured_ns=1))
    assert list(tmp_path.iterdir()) == []


def test_a_change_waits_for_the_parts_then_for_engine_and_capture(tmp_path: Path) -> None:
    changeover = made(tmp_path)
    changeover.begin(2, 0)
    assert changeover.turn(1, is_idle=False, capture_sha256="11" * 32) is Turn.NOTHING
    assert changeover.in_use is ONE
    assert idle(changeover, 2) is Turn.USE
    assert (changeover.in_use, changeover.number()) == (TWO, 2)
    assert idle(changeover, 3) is Turn.NOTHING
    assert changeover.turn(4, is_idle=False, capture_sha256="22" * 32) is Turn.NOTHING
    assert changeover.turn(5, is_idle=True, capture_sha256="22" * 32) is Turn.DONE
    assert changeover.turn(6, is_idle=True, capture_sha256="22" * 32) is Turn.NOTHING


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_change_that_is_not_through_in_time_fails_once(tmp_path: Path, is_idle: bool) -> None:
    changeover = made(tmp_path)
    changeover.begin(2, 0)
    over_ns = CHANGE_LIMIT_S * 1_000_000_000
    assert [changeover.turn(now, is_idle=is_idle, capture_sha256="") for now in (0, over_ns - 1)][-1] is Turn.NOTHING
    assert changeover.turn(over_ns, is_idle=is_idle, capture_sha256="") is Turn.FAILED
    assert changeover.turn(over_ns + 1, is_idle=is_idle, capture_sha256="") is Turn.NOTHING


def test_pictures_of_before_the_change_are_known_by_their_time(tmp_path: Path) -> None:
    changeover, before_ns = made(tmp_path), time.monotonic_ns()
    changeover.begin(2, 0)
    idle(changeover, 0)
    assert changeover.is_of_before(taken(before_ns))
    assert not changeover.is_of_before(taken(time.monotonic_ns()))
    assert changeover.is_of_before(taken(captured_utc="2026-01-01T00:00:00.000+00:00"))
    assert not changeover.is_of_before(taken(captured_utc="2099-01-01T00:00:00.000+00:00"))


def test_a_restart_with_the_first_recipe_judges_no_picture_of_the_second(tmp_path: Path) -> None:
    changeover = made(tmp_path)
    changeover.begin(2, 0)
    idle(changeover, 0)
    between = msgspec.json.decode((tmp_path / "in-force.json").read_bytes(), type=InForce).since_utc
    time.sleep(0.002)
    again = made(tmp_path)
    assert again.in_use is ONE
    assert again.is_of_before(taken(captured_utc=between))
    assert again.is_of_before(taken(captured_ns=time.monotonic_ns() - 10_000_000_000))
    third = made(tmp_path)  # what the second start found out holds at the third
    assert third.is_of_before(taken(captured_utc=between))
    assert not third.is_of_before(taken(captured_utc="2099-01-01T00:00:00.000+00:00"))


def test_a_file_that_cannot_be_read_lets_no_picture_of_before_be_judged(tmp_path: Path) -> None:
    (tmp_path / "in-force.json").write_text("{")
    assert made(tmp_path).is_of_before(taken())


def test_a_change_that_cannot_be_kept_ends_the_worker(tmp_path: Path) -> None:
    changeover = made(tmp_path)
    (tmp_path / ".in-force.json.partial").mkdir()
    changeover.begin(2, 0)
    with pytest.raises(JournalError, match="in-force"):
        idle(changeover, 0)
    assert changeover.in_use is ONE
