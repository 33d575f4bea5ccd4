"""Every rule of the stores finds what breaks it, and nothing in stores that are sound."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from station.invariants import INVARIANTS, Facts, Judged, Picture
from station.records import Evaluation, Reason, ResultState

NOW = datetime(2026, 1, 2, tzinfo=UTC)
LIMIT = timedelta(seconds=40)
PICTURE = Picture("a.jpg", 10, "ab")


def judged(seq: int, epoch: int = 1, **changes: Any) -> Judged:
    sound = Judged(
        epoch=epoch,
        seq=seq,
        evaluation=Evaluation.OK,
        result_state=ResultState.COMPLETED,
        reason=Reason.NONE,
        all_regions_ok=True,
        image=PICTURE,
        created_utc=NOW,
    )
    return sound._replace(**changes)


UNREADABLE: dict[str, Any] = {
    "evaluation": Evaluation.UNDEFINED,
    "result_state": ResultState.FAILED,
    "reason": Reason.IMAGE_UNREADABLE,
    "all_regions_ok": False,
}


def facts(**changes: Any) -> Facts:
    """Return stores with an archived, a quarantined, a judged and an open picture, changed as given."""
    sound: dict[str, Any] = {
        "now_utc": NOW,
        "open_limit": LIMIT,
        "both_run": True,
        "verdicts": {"1": judged(1), "2": judged(2, **UNREADABLE), "3": judged(1, epoch=2)},
        "epochs": (1, 2),
        "spool": {"3": (PICTURE,), "4": (PICTURE,)},
        "archive": {"1": (PICTURE,)},
        "quarantine": {"2": (PICTURE,)},
        "captured_utc": {"3": NOW, "4": NOW},
    }
    return Facts(**(sound | changes))


def broken(found: Facts) -> set[str]:
    return {rule.name for rule in INVARIANTS if list(rule.broken(found))}


def test_sound_and_empty_stores_break_no_rule() -> None:
    assert broken(facts()) == set()
    assert broken(Facts(now_utc=NOW, open_limit=LIMIT, both_run=False, verdicts={}, epochs=())) == set()


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"archive": {}}, {"one place", "counters"}),
        ({"archive": {"1": (PICTURE,), "3": (PICTURE,)}}, {"one place"}),
        ({"archive": {"1": (PICTURE, PICTURE)}}, {"one place"}),
        ({"strays": ("spool/x",)}, {"one place"}),
        ({"archive": {"1": (PICTURE._replace(size_bytes=9),)}}, {"same picture"}),
        ({"archive": {"1": (PICTURE._replace(sha256="cd"),)}}, {"same picture"}),
        ({"archive": {"1": (PICTURE,), "2": (PICTURE,)}, "quarantine": {}}, {"right place"}),
        ({"archive": {"1": (PICTURE,), "5": (PICTURE,)}}, {"verdict first", "counters"}),
        ({"journal_problems": ("1 has 2 verdicts",)}, {"one verdict"}),
        ({"epochs": (1, 3)}, {"sequence"}),
        ({"epochs": (1,)}, {"sequence"}),
        ({"verdicts": {"1": judged(1), "2": judged(3, **UNREADABLE), "3": judged(1, epoch=2)}}, {"sequence"}),
        ({"verdicts": {"1": judged(1), "2": judged(1, **UNREADABLE), "3": judged(1, epoch=2)}}, {"sequence"}),
        ({"verdicts": {"1": judged(2), "2": judged(3, **UNREADABLE), "3": judged(1, epoch=2)}}, {"sequence"}),
        ({"now_utc": NOW + LIMIT * 2}, {"in time"}),
    ],
)
def test_each_fault_breaks_its_rule(changes: dict[str, Any], names: set[str]) -> None:
    assert broken(facts(**changes)) == names


@pytest.mark.parametrize(
    "change",
    [
        {"all_regions_ok": False},
        {"result_state": ResultState.FAILED},
        {"reason": Reason.MODEL_UNSURE},
        {"image": Picture("a.jpg", 0, "")},
    ],
)
def test_an_ok_without_proof_is_found(change: dict[str, Any]) -> None:
    verdicts = {**facts().verdicts, "1": judged(1, **change)}
    assert "proven OK" in broken(facts(verdicts=verdicts))


def test_a_picture_that_a_person_took_away_whole_is_not_lost() -> None:
    assert broken(facts(archive={}, taken_away=frozenset({"1"}))) == set()


def test_pictures_wait_without_limit_while_a_service_is_stopped_but_are_never_overtaken() -> None:
    later: dict[str, Any] = {"now_utc": NOW + LIMIT * 2, "both_run": False}
    assert broken(facts(**later)) == set()
    overtaken = {"0": (PICTURE,), "3": (PICTURE,)}
    assert broken(facts(**later, spool=overtaken, captured_utc={"0": NOW, "3": NOW})) == {"in time"}


def test_pictures_in_a_long_queue_are_not_late_while_verdicts_come() -> None:
    verdicts = {**facts().verdicts, "3": judged(1, epoch=2, created_utc=NOW + LIMIT * 9)}
    assert broken(facts(now_utc=NOW + LIMIT * 9, verdicts=verdicts)) == set()


def test_the_rules_have_names_of_their_own() -> None:
    assert len({rule.name for rule in INVARIANTS}) == len(INVARIANTS)
