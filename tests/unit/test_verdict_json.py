"""The verdict stream's body: its keys are promised, and reading gives back what was written."""

import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from station import verdict_json
from station.errors import JournalError
from station.records import Evaluation, ImageRef, PinReport, Reason, RegionReport, Registration, Timing, Verdict
from tests.worker_parts import make_verdict

KEYS = [
    "schema", "station", "epoch", "seq", "job_id", "part_id", "image", "recipe", "evaluation", "result_state", "reason",
    "detail", "is_simulated", "registration", "regions", "model", "recipe_sha256", "config_sha256", "ms", "created_utc",
    "trigger",
]  # fmt: skip
REGION_KEYS = [
    "region_id", "evaluation", "reason", "p_defect", "pins_counted", "pins_expected", "defect_mode", "defect_position",
    "report", "ms", "pins",
]  # fmt: skip


def test_the_keys_are_those_promised() -> None:
    fields = json.loads(verdict_json.encode(make_verdict("a")))
    assert list(fields) == KEYS
    assert list(fields["regions"][0]) == REGION_KEYS
    assert set(fields["image"]) >= {"name", "sha256"}
    assert list(fields["model"]) == ["name", "sha256"]
    assert list(fields["ms"]) == ["capture", "queue", "inference", "total"]


def test_enums_are_words() -> None:
    verdict = msgspec.structs.replace(make_verdict("a", Evaluation.NOT_OK), reason=Reason.DEADLINE_PASSED)
    fields = json.loads(verdict_json.encode(verdict))
    assert (fields["evaluation"], fields["result_state"], fields["reason"]) == (
        "NOT_OK",
        "COMPLETED",
        "deadline_passed",
    )
    assert fields["regions"][0]["reason"] == "defect_found"


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_read_back(reason: Reason) -> None:
    verdict = msgspec.structs.replace(make_verdict("a"), reason=reason)
    assert verdict_json.decode(verdict_json.encode(verdict)) == verdict


_words = st.text(st.characters(exclude_categories=["Cs"]))
_numbers = st.floats(allow_nan=False, allow_infinity=False)
_counts = st.integers(0, 2**53)
_pins = st.builds(PinReport, pin_id=_words, p_defect=_numbers, defect_mode=_words)
_regions = st.builds(
    RegionReport,
    region_id=_words,
    p_defect=st.none() | _numbers,
    pins_counted=st.none() | _counts,
    pins_expected=_counts,
    report=_words,
    ms=_numbers,
    pins=st.lists(_pins, max_size=2).map(tuple),
)
_rows = st.tuples(_numbers, _numbers, _numbers)
_registrations = st.builds(
    Registration,
    matrix=st.tuples(_rows, _rows),
    residual_px=_numbers,
    score=_numbers,
    rotation_deg=_numbers,
    scale=_numbers,
    tips_moved_px=_numbers,
)
_verdicts = st.builds(
    Verdict,
    schema=st.just(1),
    epoch=_counts,
    seq=_counts,
    part_id=st.none() | _words,
    image=st.builds(ImageRef, name=_words, size_bytes=_counts),
    detail=_words,
    registration=st.none() | _registrations,
    regions=st.lists(_regions, max_size=2).map(tuple),
    ms=st.builds(Timing, capture=_numbers, queue=_numbers, inference=_numbers, total=_numbers),
    created_utc=st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
)


@given(_verdicts)
def test_every_verdict_is_read_back(verdict: Verdict) -> None:
    assert verdict_json.decode(verdict_json.encode(verdict)) == verdict


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: body[:-1],
        lambda body: body.replace(b'"none"', b'"nonsense"', 1),
        lambda body: body.replace(b'"reason":"none"', b'"reason":0', 1),
        lambda body: body.replace(b'"reason":"none"', b'"reason":"NONE"', 1),
        lambda body: body.replace(b'"regions":[', b'"regions":[5,', 1),
        lambda body: body.replace(b'"station"', b'"place"'),
        lambda body: body.replace(b"03:04:06", b"03:04:0&"),
        lambda body: body.replace(b"+00:00", b""),
        lambda _: b"[]",
        lambda _: b"\xff",
        lambda _: b"",
    ],
)
def test_what_is_not_a_verdict_is_refused(damage: object) -> None:
    assert callable(damage)
    with pytest.raises(JournalError):
        verdict_json.decode(damage(verdict_json.encode(make_verdict("a"))))
