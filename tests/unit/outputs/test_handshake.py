"""The handshake: every (state, event) is in its table, and each rule of plc.md holds."""

import itertools
from typing import Any

import msgspec
import pytest

from station.challenge import Standing
from station.outputs import handshake
from station.outputs.handshake import (
    beaten,
    condition_is,
    judged,
    mismatched,
    picture_came,
    safe,
    view,
    window_closed,
    written,
)
from station.outputs.handshake_state import BUFFERS, Handshake
from station.outputs.handshake_tables import (
    ACQUISITION,
    TABLES,
    Acquisition,
    Act,
    Command,
    Event,
    PlcLink,
    Results,
    UserData,
)
from station.outputs.plc_control import Control
from station.outputs.plc_orders import CommandCode, CommandGiven, Order, Refusal, TriggerTaken
from station.outputs.plc_state import Condition, FaultCode, OfflineReason
from station.outputs.plc_words import decode, encode
from station.records import Evaluation, TriggerRef, Verdict
from tests.verdicts import make_verdict

READY = Control(trigger_enable=True, buffer_results_enable=True, plc_heartbeat=1)


def test_every_pair_of_state_and_event_is_in_the_table() -> None:
    for table, states in zip(TABLES, (Acquisition, Results, UserData, Command, PlcLink), strict=True):
        events = {event for _, event in table}
        assert set(table) == set(itertools.product(states, events))
        assert {step.then for step in table.values()} <= set(states)


def test_every_event_belongs_to_exactly_one_machine() -> None:
    events = [event for table in TABLES for event in {event for _, event in table}]
    assert sorted(events, key=lambda event: event.name) == sorted(Event, key=lambda event: event.name)


def test_only_a_ready_station_takes_a_trigger() -> None:
    taking = [cell for cell, step in ACQUISITION.items() if step.act is Act.TAKE]
    assert taking == [(Acquisition.READY, Event.TRIGGER_RISE)]


class Plc:
    """A handshake that is talked to; each call is one event."""

    def __init__(self, *, triggered: bool = True) -> None:
        self.now = Handshake(triggered=triggered, recipes={"aa": 7, "bb": 8}, recipe_loaded=7)
        self.orders: list[Order] = []
        self.beat()
        self.write(plc_heartbeat=1)

    def write(self, **changes: Any) -> None:
        control = msgspec.structs.replace(self.now.control, **changes)
        self.now, orders = written(self.now, control, 0)
        self.orders += orders

    def beat(self, *, ready: bool = True, now_ns: int = 0) -> None:
        self.now = beaten(self.now, ready=ready, now_ns=now_ns)

    def enable(self) -> None:
        self.write(trigger_enable=True, buffer_results_enable=True)

    def trigger(self, trigger_id: int) -> TriggerRef:
        """Make the whole dance of one trigger; its picture window is over afterwards."""
        self.write(trigger=True, trigger_id=trigger_id)
        order = self.orders[-1]
        assert isinstance(order, TriggerTaken)
        self.write(trigger=False)
        self.now = window_closed(self.now, order.trigger.acquisition_id)
        return order.trigger

    def judge(self, trigger: TriggerRef | None, evaluation: Evaluation = Evaluation.OK, seq: int = 1) -> Verdict:
        verdict = make_verdict(seq, evaluation, trigger=trigger)
        self.now = judged(self.now, verdict)
        return verdict

    @property
    def shown(self) -> dict[str, int]:
        return decode(encode(view(self.now)))

    def bits(self, *names: str) -> tuple[int, ...]:
        shown = self.shown
        return tuple(shown[name] for name in names)


@pytest.fixture
def plc() -> Plc:
    plc = Plc()
    plc.enable()
    return plc


def test_a_whole_inspection(plc: Plc) -> None:
    assert plc.bits("Online", "TriggerReady", "TriggerAck") == (1, 1, 0)
    plc.write(serial="SN-1", set_user_data=True)
    assert plc.bits("UserDataAck") == (1,)
    plc.write(set_user_data=False)
    assert plc.bits("UserDataAck") == (0,)
    plc.write(trigger=True, trigger_id=17, inspect_window=900)
    assert plc.bits("TriggerReady", "TriggerAck", "AcquisitionId", "ImageReceived") == (0, 1, 1, 0)
    trigger = TriggerRef(trigger_id=17, acquisition_id=1, serial="SN-1")
    assert plc.orders == [TriggerTaken(trigger=trigger, taken_ns=0, window_ms=900)]
    plc.write(trigger=False)
    assert plc.bits("TriggerReady", "TriggerAck") == (0, 0)
    plc.now = picture_came(plc.now, 1)
    assert plc.bits("ImageReceived", "TriggerReady") == (1, 0)
    plc.now = window_closed(plc.now, 1)
    assert plc.bits("TriggerReady") == (1,)
    plc.judge(trigger, seq=70)
    names = ("ResultsValid", "OK", "NG", "TriggerId", "InspectionId", "InspectionCompleted", "FreeResultBuffers")
    assert plc.bits(*names) == (1, 1, 0, 17, 70, 1, 7)
    plc.write(results_ack=True)
    assert plc.bits(*names) == (0, 0, 0, 0, 70, 1, 8)
    plc.write(results_ack=False)
    assert plc.bits("ResultsValid") == (0,)


def test_results_are_held_and_come_in_order(plc: Plc) -> None:
    triggers = [plc.trigger(n) for n in (1, 2, 3)]
    for n, trigger in enumerate(triggers, start=1):
        plc.judge(trigger, seq=n)
    seen = []
    for _ in triggers:
        seen.append(plc.bits("TriggerId", "InspectionId", "InspectionCompleted"))
        plc.write(results_ack=True)
        plc.write(results_ack=False)
    assert seen == [(1, 1, 1), (2, 2, 0), (3, 3, 1)]
    assert plc.bits("ResultsValid", "FreeResultBuffers") == (0, 8)


def test_no_trigger_is_taken_when_its_result_might_find_no_buffer(plc: Plc) -> None:
    for n in range(1, BUFFERS + 1):
        plc.judge(plc.trigger(n), seq=n)
    assert plc.bits("TriggerReady", "FreeResultBuffers", "ResultsBufferOverrun") == (0, 0, 0)
    plc.write(results_ack=True)
    assert plc.bits("TriggerReady", "FreeResultBuffers") == (1, 1)


def test_free_running_results_beyond_the_buffer_are_lost_and_it_is_said() -> None:
    plc = Plc(triggered=False)
    plc.write(buffer_results_enable=True)
    for n in range(1, BUFFERS + 2):
        plc.judge(None, seq=n)
    assert plc.bits("ResultsBufferOverrun", "FaultCode", "InspectionId") == (1, FaultCode.RESULT_BUFFER_OVERRUN, 1)
    plc.write(clear_fault=True)
    assert plc.bits("ResultsBufferOverrun", "FaultCode") == (0, 0)
    plc.write(buffer_clear=True)
    assert plc.bits("ResultsValid", "FreeResultBuffers", "CountOK") == (0, 8, BUFFERS + 1)


def test_free_running_without_buffer_shows_each_result_at_once_and_takes_no_trigger() -> None:
    plc = Plc(triggered=False)
    plc.write(trigger_enable=True)
    plc.judge(None, seq=1)
    plc.judge(None, Evaluation.NOT_OK, seq=2)
    assert plc.bits("InspectionId", "NG", "InspectionCompleted", "TriggerReady") == (2, 1, 0, 0)
    plc.write(trigger=True, trigger_id=1)
    assert plc.bits("MissedTrigger", "TriggerAck", "Warning", "WarningCode") == (1, 0, 1, 1)
    assert not plc.orders


@pytest.mark.parametrize("trigger_id", [0, 5, 6])
def test_a_trigger_id_that_is_open_or_the_last_or_zero_is_refused(plc: Plc, trigger_id: int) -> None:
    plc.trigger(5)
    plc.trigger(6)
    plc.write(trigger=True, trigger_id=trigger_id)
    assert plc.bits("MissedTrigger", "TriggerAck", "AcquisitionId") == (1, 0, 2)


def test_a_second_trigger_in_the_picture_window_is_missed(plc: Plc) -> None:
    plc.write(trigger=True, trigger_id=1)
    plc.write(trigger=False)
    plc.write(trigger=True, trigger_id=2)
    assert plc.bits("MissedTrigger", "AcquisitionId") == (1, 1)
    plc.write(clear_fault=True)
    assert plc.bits("MissedTrigger") == (0,)


def test_a_verdict_for_a_trigger_that_was_given_up_is_never_shown(plc: Plc) -> None:
    trigger = plc.trigger(1)
    plc.write(trigger_enable=False)
    plc.write(trigger_enable=True)
    plc.judge(trigger)
    assert plc.bits("ResultsValid", "OK", "CountOK") == (0, 0, 1)


def test_a_window_that_was_given_up_still_keeps_the_next_trigger_out(plc: Plc) -> None:
    plc.write(trigger=True, trigger_id=1)
    plc.write(trigger=False, trigger_enable=False)
    plc.write(trigger_enable=True)
    assert plc.bits("TriggerReady") == (0,)
    plc.now = window_closed(plc.now, 1)
    assert plc.bits("TriggerReady") == (1,)


def test_a_second_verdict_for_a_trigger_is_not_shown(plc: Plc) -> None:
    trigger = plc.trigger(1)
    plc.judge(trigger, Evaluation.NOT_OK, seq=1)
    plc.judge(trigger, Evaluation.OK, seq=2)
    plc.write(results_ack=True)
    plc.write(results_ack=False)
    assert plc.bits("ResultsValid") == (0,)


def test_going_offline_withdraws_every_ok_for_good(plc: Plc) -> None:
    first, second, third = (plc.trigger(n) for n in (1, 2, 3))
    plc.judge(first, seq=1)
    plc.judge(second, Evaluation.NOT_OK, seq=2)
    plc.judge(third, seq=3)
    plc.beat(ready=False)
    assert plc.bits("Online", "OK", "NG", "TriggerId", "OfflineReason") == (0, 0, 1, 2, OfflineReason.MODEL_LOADING)
    plc.beat()
    plc.write(results_ack=True)
    plc.write(results_ack=False)
    assert plc.bits("Online", "ResultsValid", "FreeResultBuffers") == (1, 0, 8)


def test_a_plc_whose_heartbeat_stops_gets_no_trigger(plc: Plc) -> None:
    plc.beat(now_ns=handshake.PLC_LOST_AFTER_NS + 1)
    assert plc.bits("PlcHeartbeatLost", "Online", "TriggerReady") == (1, 0, 0)
    assert plc.shown["OfflineReason"] == OfflineReason.PLC_HEARTBEAT_LOST
    plc.write(plc_heartbeat=2)
    assert plc.bits("PlcHeartbeatLost", "TriggerReady", "PlcHeartbeatEcho") == (0, 1, 2)


def test_triggered_without_a_plc_is_offline() -> None:
    start = beaten(Handshake(triggered=True), ready=True, now_ns=0)
    assert view(start).offline_reason is OfflineReason.PLC_HEARTBEAT_LOST


def test_a_mismatch_stops_triggers_until_the_plc_clears_it(plc: Plc) -> None:
    plc.now = mismatched(plc.now)
    assert plc.bits("Fault", "FaultCode", "TriggerReady") == (1, FaultCode.IMAGE_TRIGGER_MISMATCH, 0)
    plc.write(clear_fault=True)
    assert plc.bits("Fault", "TriggerReady") == (0, 1)


def test_the_safe_state_forgets_triggers_and_results_and_the_next_beat_ends_it(plc: Plc) -> None:
    trigger = plc.trigger(1)
    plc.judge(trigger)
    plc.now = safe(plc.now, FaultCode.WORKER_STUCK)
    assert plc.bits("Online", "ResultsValid", "OK", "TriggerReady", "FaultCode") == (0, 0, 0, 0, 11)
    plc.beat()
    assert plc.bits("Online", "ResultsValid", "OK", "TriggerReady", "FaultCode") == (1, 0, 0, 1, 0)


@pytest.mark.parametrize(
    ("code", "argument", "done"),
    [
        (CommandCode.PREPARE_RECIPE, 7, True),
        (CommandCode.PREPARE_RECIPE, 9, False),
        (CommandCode.HALT, 0, True),
        (CommandCode.RESET, 0, True),
        (CommandCode.ABORT, 0, True),
        (CommandCode.ACKNOWLEDGE_ERROR, 0, True),
        (CommandCode.UNPREPARE_RECIPE, 0, True),
        (0, 0, False),
        (10, 0, False),
        (65535, 0, False),
    ],
)
def test_commands_end_done_or_failed_and_then_idle(code: int, argument: int, done: bool) -> None:
    plc = Plc()
    plc.write(command_code=code, command_argument=argument, execute_command=True)
    assert plc.bits("CommandExecuting", "CommandCompleted", "CommandFailed") == (0, int(done), int(not done))
    plc.write(execute_command=False)
    assert plc.bits("CommandExecuting", "CommandCompleted", "CommandFailed") == (0, 0, 0)


def ordered(plc: Plc, code: CommandCode, argument: int = 0) -> None:
    plc.write(execute_command=False)
    plc.write(command_code=code, command_argument=argument, execute_command=True)


def test_while_the_recipe_is_changed_no_trigger_is_taken_and_no_pass_shown() -> None:
    plc = Plc(triggered=False)
    plc.now = judged(plc.now, make_verdict(1))
    assert plc.bits("OK", "RecipeLoaded") == (1, 7)
    ordered(plc, CommandCode.PREPARE_RECIPE, 8)
    assert plc.orders == [CommandGiven(code=CommandCode.PREPARE_RECIPE, argument=8)]
    changing = ("Online", "OK", "OfflineReason", "RecipeLoaded", "CommandExecuting")
    assert plc.bits(*changing) == (0, 0, OfflineReason.NO_RECIPE, 0, 1)
    plc.now = handshake.recipe_is(plc.now, 8)
    plc.beat()
    assert plc.bits(*changing) == (0, 0, OfflineReason.NO_RECIPE, 0, 1)
    plc.now = handshake.command_done(plc.now)
    assert plc.bits("Online", "OK", "RecipeLoaded", "CommandCompleted") == (1, 0, 8, 1)


def test_after_a_change_that_failed_there_is_no_recipe_until_one_succeeds() -> None:
    plc = Plc()
    ordered(plc, CommandCode.PREPARE_RECIPE, 8)
    plc.now = handshake.recipe_is(plc.now, 8)
    plc.now = handshake.command_done(plc.now, Refusal.CHANGE_FAILED)
    assert plc.bits("CommandFailed", "OfflineReason", "RecipeLoaded") == (1, OfflineReason.NO_RECIPE, 0)
    ordered(plc, CommandCode.PREPARE_RECIPE, 7)  # the worker has 8 already: it must be asked
    assert plc.bits("CommandExecuting", "Online") == (1, 0)
    assert len(plc.orders) == 2


def test_the_recipe_is_not_changed_under_a_part(plc: Plc) -> None:
    plc.trigger(1)
    ordered(plc, CommandCode.PREPARE_RECIPE, 8)
    assert plc.bits("CommandFailed", "Online", "RecipeLoaded") == (1, 1, 7)
    ordered(plc, CommandCode.PREPARE_RECIPE, 7)
    assert plc.bits("CommandCompleted", "RecipeLoaded") == (1, 7)


def test_without_a_recipe_the_station_is_offline_until_one_is_prepared() -> None:
    plc = Plc()
    ordered(plc, CommandCode.UNPREPARE_RECIPE)
    plc.beat()
    assert plc.bits("Online", "OfflineReason", "RecipeLoaded") == (0, OfflineReason.NO_RECIPE, 0)
    ordered(plc, CommandCode.RESET)
    assert plc.bits("OfflineReason") == (OfflineReason.NO_RECIPE,)
    ordered(plc, CommandCode.PREPARE_RECIPE, 7)
    assert plc.bits("Online", "RecipeLoaded") == (1, 7)


def test_a_result_names_the_recipe_that_it_was_judged_with() -> None:
    plc = Plc(triggered=False)
    for sha256, number in (("bb", 8), ("aa", 7), ("cc", 0)):
        plc.now = judged(plc.now, msgspec.structs.replace(make_verdict(1), recipe_sha256=sha256))
        assert plc.bits("RecipeUsed") == (number,)


@pytest.mark.parametrize("code", [CommandCode.PROMOTE_MODEL, CommandCode.ROLLBACK_MODEL])
def test_while_the_model_is_changed_the_station_is_offline_and_so_it_stays_until_the_restart(code: CommandCode) -> None:
    plc = Plc(triggered=False)
    plc.now = judged(plc.now, make_verdict(1))
    ordered(plc, code)
    assert plc.orders == [CommandGiven(code=code, argument=0)]
    changing = ("Online", "OK", "OfflineReason", "CommandExecuting", "CommandCompleted")
    assert plc.bits(*changing) == (0, 0, OfflineReason.MODEL_LOADING, 1, 0)
    plc.now = handshake.command_done(plc.now)
    plc.beat()
    assert plc.bits(*changing) == (0, 0, OfflineReason.MODEL_LOADING, 0, 1)


def test_a_change_of_the_model_that_is_refused_says_why_and_the_station_goes_on(plc: Plc) -> None:
    ordered(plc, CommandCode.PROMOTE_MODEL)
    plc.now = handshake.command_done(plc.now, Refusal.NO_BETTER_MODEL)
    failed = ("Online", "CommandFailed", "Warning", "WarningCode")
    assert plc.bits(*failed) == (1, 1, 1, Refusal.NO_BETTER_MODEL)
    plc.write(execute_command=False)
    assert plc.bits(*failed) == (1, 0, 0, 0)


def test_the_model_is_not_changed_under_a_part(plc: Plc) -> None:
    plc.trigger(1)
    ordered(plc, CommandCode.ROLLBACK_MODEL)
    assert plc.bits("CommandFailed", "WarningCode", "Online") == (1, Refusal.PART_UNDER_WAY, 1)
    assert len(plc.orders) == 1  # the trigger


def test_a_change_of_the_model_that_the_plc_held_over_a_restart_is_not_made_again() -> None:
    plc = Plc.__new__(Plc)
    plc.now, plc.orders = Handshake(triggered=False), []
    plc.beat()
    plc.write(command_code=CommandCode.ROLLBACK_MODEL, execute_command=True, plc_heartbeat=7)
    assert plc.bits("CommandFailed", "WarningCode") == (1, Refusal.EXECUTE_HELD)
    assert not plc.orders
    ordered(plc, CommandCode.ROLLBACK_MODEL)
    assert len(plc.orders) == 1


@pytest.mark.parametrize(
    ("code", "argument", "refusal"),
    [(77, 0, Refusal.UNKNOWN_COMMAND), (CommandCode.PREPARE_RECIPE, 99, Refusal.UNKNOWN_RECIPE)],
)
def test_a_command_that_is_refused_at_once_says_why(code: int, argument: int, refusal: Refusal) -> None:
    plc = Plc(triggered=False)
    plc.write(command_code=code, command_argument=argument, execute_command=True)
    assert plc.bits("CommandFailed", "WarningCode") == (1, refusal)
    plc.write(execute_command=False)
    assert plc.bits("CommandFailed", "WarningCode") == (0, 1)  # unpaired, as ever while free running


def test_the_golden_check_is_the_workers_command(plc: Plc) -> None:
    plc.write(command_code=CommandCode.RUN_GOLDEN_CHECK, execute_command=True)
    assert plc.bits("CommandExecuting") == (1,)
    assert isinstance(plc.orders[-1], CommandGiven)
    plc.now = handshake.command_done(plc.now, Refusal.CHANGE_FAILED)
    assert plc.bits("CommandExecuting", "CommandFailed") == (0, 1)


def test_halt_is_offline_until_reset(plc: Plc) -> None:
    plc.write(command_code=CommandCode.HALT, execute_command=True)
    plc.write(execute_command=False)
    assert plc.bits("Online", "OfflineReason") == (0, OfflineReason.SET_OFFLINE_BY_PLC)
    plc.write(command_code=CommandCode.RESET, execute_command=True)
    assert plc.bits("Online") == (1,)


def test_set_offline_holds_while_it_is_set(plc: Plc) -> None:
    plc.write(set_offline=True)
    assert plc.bits("Online", "TriggerReady") == (0, 0)
    plc.write(set_offline=False)
    assert plc.bits("Online", "TriggerReady") == (1, 1)


def test_an_operator_keeps_the_station_off_whatever_the_plc_says(plc: Plc) -> None:
    plc.judge(plc.trigger(1))
    plc.now = condition_is(plc.now, Condition(is_set_offline=True))
    plc.beat(ready=False)
    plc.write(set_offline=True)
    shown = ("Online", "OfflineReason", "OK", "TriggerReady", "Fault")
    assert plc.bits(*shown) == (0, OfflineReason.SET_OFFLINE_BY_OPERATOR, 0, 0, 0)
    plc.write(set_offline=False, command_code=CommandCode.RESET, execute_command=True)
    assert plc.bits(*shown) == (0, OfflineReason.SET_OFFLINE_BY_OPERATOR, 0, 0, 0)
    plc.now = condition_is(plc.now, Condition())
    plc.beat()
    assert plc.bits("Online", "ResultsValid") == (1, 0)


def test_without_the_hot_folder_the_station_is_offline_with_a_fault_of_its_own(plc: Plc) -> None:
    plc.now = condition_is(plc.now, Condition(is_folder_unreachable=True))
    plc.beat(ready=False)
    shown = ("Online", "OfflineReason", "FaultCode", "TriggerReady")
    assert plc.bits(*shown) == (0, OfflineReason.STOPPED_OR_FAULT, FaultCode.FOLDER_UNREACHABLE, 0)
    plc.write(clear_fault=True)
    assert plc.bits("FaultCode") == (FaultCode.FOLDER_UNREACHABLE,)
    plc.now = condition_is(plc.now, Condition())
    plc.beat()
    assert plc.bits(*shown) == (1, 0, 0, 1)


ENGINE = FaultCode.GPU_LOST_OR_NO_MEMORY


@pytest.mark.parametrize(
    ("condition", "is_mismatched", "standing", "fault"),
    [
        (Condition(engine_fault=ENGINE), False, Standing.PASSED, ENGINE),
        (Condition(engine_fault=ENGINE), False, Standing.FAILED, FaultCode.CHALLENGE_FAILED),
        (Condition(engine_fault=ENGINE), True, Standing.FAILED, FaultCode.IMAGE_TRIGGER_MISMATCH),
        (Condition(is_folder_unreachable=True), True, Standing.FAILED, FaultCode.FOLDER_UNREACHABLE),
        (Condition(is_folder_unreachable=True, is_disk_full=True), True, Standing.FAILED, FaultCode.DISK_FULL),
    ],
)
def test_of_several_faults_the_worst_is_shown(
    plc: Plc, condition: Condition, is_mismatched: bool, standing: Standing, fault: FaultCode
) -> None:
    plc.now = handshake.challenged(condition_is(plc.now, condition), standing)
    if is_mismatched:
        plc.now = mismatched(plc.now)
    assert plc.bits("Fault", "FaultCode") == (1, fault)
