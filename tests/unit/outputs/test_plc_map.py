"""The status block: the table fits 64 words, and what is encoded can never look like a pass by mistake."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from station.outputs import plc_document
from station.outputs.plc_map import STATUS, WORDS, Type
from station.outputs.plc_state import OfflineReason, PlcState, after_turn, after_verdict, is_pass, safe
from station.outputs.plc_words import decode, encode, with_time
from station.records import Evaluation, Reason, ResultState, Timing, Verdict
from tests.verdicts import make_region, make_verdict

DOCS = Path(__file__).parents[3] / "docs"
ONLINE = after_turn(PlcState(), ready=True)

verdicts = st.builds(
    make_verdict,
    seq=st.integers(1, 200_000),
    evaluation=st.sampled_from(Evaluation),
    result_state=st.sampled_from(ResultState),
    reason=st.sampled_from(Reason),
    is_simulated=st.booleans(),
)
steps = st.lists(st.one_of(verdicts, st.booleans(), st.none()), max_size=12)


def after(steps: list[Verdict | bool | None]) -> PlcState:
    """Return the state after verdicts, heartbeats (ready or not) and safe states (None)."""
    state = PlcState()
    for step in steps:
        if isinstance(step, Verdict):
            state = after_verdict(state, step)
        else:
            state = safe(state) if step is None else after_turn(state, ready=step)
    return state


def test_no_two_fields_share_a_bit_and_names_are_unique() -> None:
    places = [
        (field.register + word, bit)
        for field in STATUS
        for word in range(field.words)
        for bit in ([field.bit] if field.type is Type.BIT else range(16))
    ]
    assert len(places) == len(set(places))
    assert max(register for register, _ in places) == WORDS - 1
    assert len({field.name for field in STATUS}) == len(STATUS)


@given(steps)
def test_words_are_words_and_the_tail_matches_the_head(steps: list[Verdict | bool | None]) -> None:
    words = encode(after(steps))
    assert len(words) == WORDS
    assert all(0 <= word <= 0xFFFF for word in words)
    assert words[62] == words[8]
    assert words[63] == ~words[0] & 0xFFFF


@given(steps)
def test_ok_is_set_only_for_a_shown_pass_and_exactly_one_of_ok_and_ng_with_a_valid_result(
    steps: list[Verdict | bool | None],
) -> None:
    state = after(steps)
    shown = decode(encode(state))
    if shown["OK"]:
        assert state.result is not None
        assert is_pass(state.result)
        assert shown["Online"] == shown["ResultsValid"] == 1
    assert shown["OK"] + shown["NG"] == shown["ResultsValid"]
    assert shown["NotDecidable"] <= shown["NG"]


def test_until_the_first_verdict_only_the_station_shows() -> None:
    shown = {name: value for name, value in decode(encode(ONLINE)).items() if value}
    assert set(shown) == {"Online", "Warning", "WarningCode", "FreeResultBuffers", "StatusComplement"}


def test_all_zero_words_are_no_pass() -> None:
    shown = decode([0] * WORDS)
    assert not any(shown.values())
    assert shown["StatusComplement"] != ~0 & 0xFFFF


@pytest.mark.parametrize(
    ("evaluation", "bits"),
    [
        (Evaluation.OK, {"OK"}),
        (Evaluation.NOT_OK, {"NG"}),
        (Evaluation.NOT_DECIDABLE, {"NG", "NotDecidable"}),
        (Evaluation.UNDEFINED, {"NG", "Fault"}),
    ],
)
def test_bits_of_each_evaluation(evaluation: Evaluation, bits: set[str]) -> None:
    shown = decode(encode(after_verdict(ONLINE, make_verdict(1, evaluation))))
    assert {name for name in ("OK", "NG", "NotDecidable", "Fault") if shown[name]} == bits
    assert shown["ResultEvaluation"] == evaluation.code


def test_fields_of_a_defective_part() -> None:
    verdict = make_verdict(70_000, Evaluation.NOT_OK, regions=(make_region(ng=("A2", "B4"), unsure=("B1",)),))
    shown = decode(encode(after_verdict(ONLINE, verdict)))
    assert shown["InspectionId"] == shown["AcquisitionId"] == 70_000 & 0xFFFF
    assert (shown["PinsInspected"], shown["PinsNG"], shown["FirstNGPin"]) == (8, 2, 2)
    assert shown["NGPins"] == 0b1000_0010
    assert shown["NotDecidablePins"] == 0b0001_0000
    assert shown["ReasonCode"] == Reason.DEFECT_FOUND
    assert shown["ProcessingTime"] == 60
    assert shown["ModelHash"] == 0xDEADBEEF
    assert (shown["CountTriggers"], shown["CountNG"]) == (1, 1)


def test_the_checksum_differs_when_configuration_recipe_or_model_does() -> None:
    verdict = make_verdict(1)
    other = msgspec.structs.replace(verdict.model, sha256="00" * 32)
    changed: list[dict[str, Any]] = [{}, {"config_sha256": "00" * 32}, {"recipe_sha256": "00" * 32}, {"model": other}]
    shown = [decode(encode(after_verdict(ONLINE, msgspec.structs.replace(verdict, **c)))) for c in changed]
    assert len({one["ConfigChecksum"] for one in shown}) == 4
    assert decode(encode(after_verdict(ONLINE, verdict)))["ConfigChecksum"] == shown[0]["ConfigChecksum"]


def test_pins_count_on_through_the_regions_even_past_one_that_was_not_asked() -> None:
    silent = make_region(p_defect=None, pins_counted=None, pins=(), evaluation=Evaluation.UNDEFINED)
    verdict = make_verdict(1, Evaluation.NOT_OK, regions=(silent, make_region(ng=("A1",))))
    shown = decode(encode(after_verdict(ONLINE, verdict)))
    assert shown["FirstNGPin"] == 9
    assert shown["PinsInspected"] == 8


def test_pins_beyond_the_bitmap_still_count() -> None:
    region = make_region(ng=("B4",))
    verdict = make_verdict(1, Evaluation.NOT_OK, regions=(make_region(),) * 4 + (region,))
    shown = decode(encode(after_verdict(ONLINE, verdict)))
    assert (shown["PinsNG"], shown["FirstNGPin"], shown["NGPins"]) == (1, 40, 0)


def test_a_report_without_pins_counts_the_positions_it_names() -> None:
    region = make_region(ng=("A2", "B4"), pins=())
    shown = decode(encode(after_verdict(ONLINE, make_verdict(1, Evaluation.NOT_OK, regions=(region,)))))
    assert (shown["PinsNG"], shown["FirstNGPin"], shown["NGPins"]) == (2, 0, 0)


def test_long_processing_does_not_wrap() -> None:
    verdict = make_verdict(ms=Timing(capture=0, queue=0, inference=0, total=1e6))
    assert decode(encode(after_verdict(ONLINE, verdict)))["ProcessingTime"] == 0xFFFF


def test_32_bit_values_have_the_high_word_first() -> None:
    state = msgspec.structs.replace(ONLINE, counts=(0, 0x12345678, 0, 0))
    assert encode(state)[32:34] == [0x1234, 0x5678]


def test_reserved_fields_are_zero() -> None:
    words = encode(after_verdict(ONLINE, make_verdict(evaluation=Evaluation.NOT_OK)))
    reserved = [field for field in STATUS if not field.served]
    assert reserved
    for field in reserved:
        mask = 1 << field.bit if field.type is Type.BIT else 0xFFFF
        assert not any(word & mask for word in words[field.register : field.register + field.words]), field.name


def test_busy_while_the_model_loads() -> None:
    shown = decode(encode(after_turn(PlcState(), ready=False)))
    assert (shown["SystemBusy"], shown["Online"], shown["OfflineReason"]) == (1, 0, OfflineReason.MODEL_LOADING)


def test_the_document_equals_the_table() -> None:
    assert (DOCS / "plc-map.md").read_text() == plc_document.markdown()


def test_what_changes_with_time_alone_is_put_in_last() -> None:
    words = encode(after_verdict(ONLINE, make_verdict(1)))
    shown = decode(with_time(words, 70_000, 1_234))
    assert (shown["Heartbeat"], shown["ResultAge"]) == (70_000 - 65_536, 1_234)
    assert decode(with_time(words, 1, 99_999))["ResultAge"] == 0xFFFF
    assert {**shown, "Heartbeat": 0, "ResultAge": 0} == decode(words)
