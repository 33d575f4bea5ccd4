"""The PLC triggers, the camera answers, the verdict comes back: real worker, real Modbus, a PLC that scans."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from station import disk
from station.challenge_file import last_run
from station.engine.scripted import SCRIPT_VARIABLE, Script
from station.guards import Wanted
from station.journal_reader import JournalReader
from station.outputs.plc_control import Control
from station.outputs.plc_orders import CommandCode
from station.outputs.plc_rules import Acted, Part
from station.outputs.plc_state import FaultCode, OfflineReason
from station.outputs.plc_words import encode_control, part_serial
from station.plc_simulator import Misbehaviour, PlcSimulator
from station.records import Evaluation, Reason
from tests.triggered_station import TriggeredStation, scan_until
from tests.waiting import wait_until

CYCLES = int(os.environ.get("STATION_PLC_CYCLES", "2"))
PART = Part(serial="SN-0001")


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TriggeredStation]:
    monkeypatch.setenv(SCRIPT_VARIABLE, str(tmp_path / "script.json"))
    (tmp_path / "script.json").write_bytes(msgspec.json.encode(Script()))
    station = TriggeredStation(tmp_path)
    with station.running():
        yield station


def decide(plc: PlcSimulator, part: Part = PART) -> Acted:
    acted = plc.inspect(part, limit_s=15)
    assert acted, f"no decision: {plc.program.step.name} {plc.shown()}"
    return acted


def test_a_part_with_its_picture_passes_with_its_serial(station: TriggeredStation) -> None:
    with station.plc() as plc:
        acted = decide(plc)
        assert (acted.trigger_id, acted.accepted, acted.why) == (1, True, "")
        assert acted.took_ms > 0
        assert plc.words
        assert part_serial(plc.words) == "SN-0001"
    (verdict,) = station.shown.verdicts
    assert verdict.part_id == "SN-0001"
    assert verdict.trigger
    assert (verdict.trigger.trigger_id, verdict.trigger.acquisition_id) == (1, 1)


def test_part_after_part(station: TriggeredStation) -> None:
    with station.plc() as plc:
        acts = [decide(plc) for _ in range(5)]
    assert [(act.trigger_id, act.accepted) for act in acts] == [(n, True) for n in range(1, 6)]


def test_no_picture_is_a_reject_with_fault_23_and_a_row_in_the_journal(station: TriggeredStation) -> None:
    with station.plc() as plc:
        plc._fire = lambda _part: None
        acted = decide(plc)
        assert (acted.accepted, plc.shown()["FaultCode"]) == (False, FaultCode.IMAGE_TRIGGER_MISMATCH)
    (verdict,) = station.shown.verdicts
    assert (verdict.reason, verdict.part_id, verdict.image.name) == (
        Reason.PICTURE_MISSING,
        "SN-0001",
        "(no picture)",
    )


def test_two_pictures_are_a_reject_and_neither_is_the_parts(station: TriggeredStation) -> None:
    with station.plc() as plc:
        plc._fire = lambda part: _two_pictures(station, part)
        assert not decide(plc).accepted
    wait_until(lambda: len(station.shown.verdicts) == 3)
    assert {verdict.reason for verdict in station.shown.verdicts} == {Reason.TOO_MANY_PICTURES}
    assert [verdict.trigger is None for verdict in station.shown.verdicts].count(True) == 2


def _two_pictures(station: TriggeredStation, part: int) -> None:
    for name in "ab":
        station.picture(f"{part}-{name}")


def test_an_old_picture_is_never_used_for_the_new_part(station: TriggeredStation) -> None:
    old_ns = time.monotonic_ns()
    with station.plc() as plc:
        plc._fire = lambda part: station.picture(f"old-{part}", captured_ns=old_ns)
        assert not decide(plc).accepted
    reasons = [verdict.reason for verdict in wait_until(lambda: station.shown.verdicts[1:] and station.shown.verdicts)]
    assert sorted(reasons) == [Reason.PICTURE_MISSING, Reason.PICTURE_UNPAIRED]


def test_a_frozen_camera_is_a_reject(station: TriggeredStation) -> None:
    with station.plc() as plc:
        plc._fire = lambda part: station.picture(f"same-{part}", sha256="ab" * 32)
        assert decide(plc).accepted
        assert not decide(plc).accepted
    assert Reason.PICTURE_REPEATED in {verdict.reason for verdict in station.shown.verdicts}


def test_a_bad_part_is_rejected_by_its_own_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SCRIPT_VARIABLE, str(tmp_path / "script.json"))
    (tmp_path / "script.json").write_bytes(msgspec.json.encode(Script(answers={"bad": ("defective", "bent")})))
    station = TriggeredStation(tmp_path)
    with station.running(), station.plc() as plc:
        plc._fire = lambda _part: station.picture("bad")
        acted = decide(plc)
        assert (acted.trigger_id, acted.accepted, acted.why) == (1, False, "NG is 1")
    assert station.shown.verdicts[0].evaluation is Evaluation.NOT_OK


def test_a_late_engine_never_answers_for_the_next_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SCRIPT_VARIABLE, str(tmp_path / "script.json"))
    (tmp_path / "script.json").write_bytes(msgspec.json.encode(Script(delay_ms=400)))
    station = TriggeredStation(tmp_path, deadline_ms=250)
    with station.running(), station.plc(window_ms=1_000) as plc:
        for _ in range(3):
            assert not decide(plc).accepted
    assert {verdict.reason for verdict in station.shown.verdicts} == {Reason.DEADLINE_PASSED}


@pytest.mark.parametrize("misbehaviour", [kind for kind in Misbehaviour if kind is not Misbehaviour.NONE])
def test_a_plc_that_misbehaves_gets_every_part_decided_once(
    station: TriggeredStation, misbehaviour: Misbehaviour
) -> None:
    with station.plc(window_ms=1_500, misbehaviour=misbehaviour) as plc:
        for _ in range(CYCLES):
            decide(plc)
        ids = [act.trigger_id for act in plc.acts]
    assert len(ids) == len(set(ids))
    shown = {v.trigger.trigger_id: v.evaluation for v in station.shown.verdicts if v.trigger}
    assert all(shown[act.trigger_id] is Evaluation.OK for act in plc.acts if act.accepted)


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (Script(lose_gpu_on_ask=(1,)), FaultCode.GPU_LOST_OR_NO_MEMORY),
        (Script(crash_on_ask=(1,)), FaultCode.ENGINE_FAILED),
    ],
)
def test_an_engine_that_is_lost_is_a_fault_until_one_has_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: Script, fault: FaultCode
) -> None:
    monkeypatch.setenv(SCRIPT_VARIABLE, str(tmp_path / "script.json"))
    (tmp_path / "script.json").write_bytes(msgspec.json.encode(script))
    station = TriggeredStation(tmp_path)
    with station.running(), station.plc() as plc:
        assert not decide(plc).accepted
        scan_until(plc, "FaultCode", fault)
        (tmp_path / "script.json").write_bytes(msgspec.json.encode(Script()))
        wait_until(lambda: decide(plc, Part(serial="next")).accepted, 20)
        scan_until(plc, "FaultCode", FaultCode.NONE)


def test_a_model_that_does_not_load_is_fault_31(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SCRIPT_VARIABLE, str(tmp_path / "script.json"))
    (tmp_path / "script.json").write_bytes(msgspec.json.encode(Script(load_error="another hash")))
    station = TriggeredStation(tmp_path)
    with station.running(until=lambda worker: bool(worker._engine.last_failure)), station.plc() as plc:
        scan_until(plc, "FaultCode", FaultCode.NO_MODEL)
        assert plc.shown()["OfflineReason"] == OfflineReason.MODEL_LOADING


def command_golden_check(plc: PlcSimulator, ends: str) -> None:
    order = Control(command_code=CommandCode.RUN_GOLDEN_CHECK, execute_command=True, plc_heartbeat=9)
    plc._client.write_registers(0, encode_control(order))
    plc._write = lambda _control: None  # type: ignore[assignment,method-assign]
    scan_until(plc, ends)


def test_the_golden_check_is_a_challenge_and_leaves_no_row(tmp_path: Path) -> None:
    station = TriggeredStation(tmp_path, probe=Wanted.OK)
    with station.running(), station.plc() as plc:
        scan_until(plc, "TriggerReady")
        assert plc.shown()["GoldenCheckPassed"]
        command_golden_check(plc, "CommandCompleted")
    assert JournalReader(tmp_path / "journal.sqlite").last(10) == []
    assert station.shown.verdicts == []
    last = last_run(tmp_path / "challenges.jsonl")
    assert last
    assert (last.cause, last.is_passed) == ("plc", True)


def test_a_model_that_passes_what_it_must_not_is_offline_with_its_own_fault(tmp_path: Path) -> None:
    station = TriggeredStation(tmp_path, probe=Wanted.NOT_RELEASED)
    with station.running(), station.plc() as plc:
        scan_until(plc, "Fault")
        shown = plc.shown()
        assert (shown["Online"], shown["TriggerReady"], shown["GoldenCheckPassed"]) == (0, 0, 0)
        assert (shown["FaultCode"], shown["OfflineReason"]) == (
            FaultCode.CHALLENGE_FAILED,
            OfflineReason.STOPPED_OR_FAULT,
        )
        plc._client.write_registers(0, encode_control(Control(clear_fault=True, plc_heartbeat=8)))
        command_golden_check(plc, "CommandFailed")
        assert plc.shown()["FaultCode"] == FaultCode.CHALLENGE_FAILED, "only a passed challenge ends it"
    assert not station.shown.ready


def test_a_station_whose_coupler_is_not_armed_is_never_online(tmp_path: Path) -> None:
    armed: list[bool] = []
    station = TriggeredStation(tmp_path)
    with station.running(lambda: bool(armed)), station.plc() as plc:
        for _ in range(20):
            plc.scan(None)
            time.sleep(0.02)
        assert (plc.shown()["Online"], station.shown.ready) == (0, False)
        armed.append(True)
        scan_until(plc, "TriggerReady")


def test_the_plc_sees_how_much_waits_and_that_the_disk_is_getting_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SCRIPT_VARIABLE, str(tmp_path / "script.json"))
    (tmp_path / "script.json").write_bytes(msgspec.json.encode(Script(delay_ms=1_000)))
    monkeypatch.setattr(disk, "LOW", 1.1)
    station = TriggeredStation(tmp_path)
    with station.running(), station.plc() as plc:
        scan_until(plc, "StorageLow")
        assert plc.shown()["QueueDepth"] == 0
        scan_until(plc, "QueueDepth", 1, part=PART)
        monkeypatch.setattr(disk, "LOW", 0.0)
        scan_until(plc, "StorageLow", 0)
        monkeypatch.setattr(disk, "RESERVE", 1.1)
        scan_until(plc, "FaultCode", FaultCode.DISK_FULL)
        assert (plc.shown()["Online"], plc.shown()["OfflineReason"]) == (0, OfflineReason.STOPPED_OR_FAULT)
        monkeypatch.setattr(disk, "RESERVE", 0.0)
        scan_until(plc, "Online")
        assert plc.shown()["FaultCode"] != FaultCode.DISK_FULL
