"""The handshake with the PLC: the five state machines of `handshake_tables`, and what binds them.

In: a `Handshake` (`handshake_state`), and what the PLC wrote, verdicts, pictures, heartbeats, each as one event. Out:
the next `Handshake`, what it shows (`view`), and what the worker is to do (`TriggerTaken`, `CommandGiven`). Pure: no
I/O; the clock is passed in.

Nothing here can make a pass: a result is shown as it was judged, for the trigger it was judged for, or not at all.
"""

from typing import NamedTuple

import msgspec

from station.challenge import Standing
from station.outputs import plc_state
from station.outputs.handshake_state import (
    BUFFERS,
    Handshake,
    has_part,
    may_trigger,
    offline_reason,
    station_fault,
)
from station.outputs.handshake_tables import MACHINE_OF, TABLE_OF, Acquisition, Act, Command, Event, PlcLink, UserData
from station.outputs.plc_control import Control, fell, rose
from station.outputs.plc_orders import CommandCode, CommandGiven, Order, Refusal, TriggerTaken
from station.outputs.plc_state import Condition, FaultCode, OfflineReason, PlcState, Signals
from station.records import TriggerRef, Verdict

PLC_LOST_AFTER_NS = 3_000_000_000
"""The PLC's heartbeat must change within this time: three beats of a second."""


class Outcome(NamedTuple):
    """What an event leads to."""

    handshake: Handshake
    orders: tuple[Order, ...] = ()


def written(before: Handshake, control: Control, now_ns: int) -> Outcome:
    """Take in a write of the PLC. Each bit that changed is one event, in the order that lets one write do several."""
    old = before.control
    after = msgspec.structs.replace(before, control=control)
    orders: list[Order] = []
    if control.plc_heartbeat != old.plc_heartbeat:
        after = msgspec.structs.replace(_step(after, Event.PLC_BEAT), plc_beat_ns=now_ns)
    if rose(old, control, "clear_fault"):
        after = _fault_cleared(after)
    if fell(old, control, "trigger_enable"):
        after = _reset(after)
    if rose(old, control, "buffer_clear"):
        after = _results_cleared(after)
    if rose(old, control, "clear_exposure_complete"):
        after = msgspec.structs.replace(after, image_received=False)
    after = _edge(after, old, "results_ack", Event.ACK_RISE, Event.ACK_FALL)
    after = _edge(after, old, "set_user_data", Event.USER_DATA_RISE, Event.USER_DATA_FALL)
    after = _settled(after)
    if rose(old, control, "trigger"):
        after, taken = _triggered(after, now_ns)
        orders += taken
    elif fell(old, control, "trigger"):
        after = _step(after, Event.TRIGGER_FALL)
    if rose(old, control, "execute_command"):
        after, given = _commanded(after)
        orders += given
    elif fell(old, control, "execute_command"):
        after = _step(after, Event.EXECUTE_FALL)
    after = msgspec.structs.replace(after, has_rested=after.has_rested or not control.execute_command)
    return Outcome(_settled(after), tuple(orders))


def judged(before: Handshake, verdict: Verdict) -> Handshake:
    """Take in a verdict. Of a trigger that is not open (late, given up, another start's) it is counted, not shown."""
    after = msgspec.structs.replace(before, state=plc_state.counted(before.state, verdict))
    if before.triggered:
        if verdict.trigger not in before.open_triggers:
            return after
        rest = tuple(trigger for trigger in before.open_triggers if trigger != verdict.trigger)
        after = msgspec.structs.replace(after, open_triggers=rest)
        if plc_state.fault_of(verdict) is FaultCode.IMAGE_TRIGGER_MISMATCH:
            after = mismatched(after)
    buffering = after.control.buffer_results_enable
    if plc_state.is_pass(verdict) and not after.state.online:
        return _settled(after if buffering else _withheld(after, verdict))
    return _settled(_step(after, Event.RESULT_TO_BUFFER if buffering else Event.RESULT_TO_SHOW, verdict))


def picture_came(before: Handshake, acquisition_id: int) -> Handshake:
    """Take in that the picture of this trigger is complete: the part may leave."""
    is_newest = acquisition_id == before.acquisition_id
    return msgspec.structs.replace(before, image_received=True) if is_newest else before


def window_closed(before: Handshake, acquisition_id: int) -> Handshake:
    """Take in that no more picture of this trigger is expected: the next trigger may come."""
    if before.window_of != acquisition_id:
        return before
    return _settled(_step(msgspec.structs.replace(before, window_of=None), Event.WINDOW_CLOSED))


def condition_is(before: Handshake, condition: Condition) -> Handshake:
    """Take in how the station is."""
    return _settled(msgspec.structs.replace(before, condition=condition))


def recipe_is(before: Handshake, number: int) -> Handshake:
    """Take in which recipe the worker has from now on; 0: one without a number."""
    return msgspec.structs.replace(before, recipe_loaded=number)


def mismatched(before: Handshake) -> Handshake:
    """Take in that pictures and triggers do not match: a fault, until the PLC clears it."""
    return _settled(msgspec.structs.replace(before, fault=FaultCode.IMAGE_TRIGGER_MISMATCH))


def beaten(before: Handshake, *, ready: bool, now_ns: int) -> Handshake:
    """Take in one turn of the worker's loop."""
    after = msgspec.structs.replace(before, is_engine_ready=ready, is_safe=False, has_turned=True)
    if now_ns - after.plc_beat_ns > PLC_LOST_AFTER_NS:
        after = _step(after, Event.PLC_SILENT)
    return _settled(after)


def challenged(before: Handshake, standing: Standing) -> Handshake:
    """Take in where the station stands with its challenges; a failed one is a fault that only a passed one ends."""
    return _settled(msgspec.structs.replace(before, challenge=standing))


def command_done(before: Handshake, refusal: Refusal | None = None) -> Handshake:
    """Take in that the worker carried out the command, or why not.

    After a failed change of the recipe there is none; after one of the model the station is offline until the restart.
    """
    after = _step(before, Event.COMMAND_REFUSED if refusal else Event.COMMAND_DONE)
    after = msgspec.structs.replace(after, refusal=refusal)
    if before.is_changing:
        after = msgspec.structs.replace(after, has_recipe=refusal is None, is_changing=False)
    if before.is_changing_model:
        after = msgspec.structs.replace(after, is_changing_model=refusal is None)
    return _settled(after)


def safe(before: Handshake, fault: FaultCode = FaultCode.NONE) -> Handshake:
    """Return the handshake that takes no trigger and shows no result. The next beat ends it; nothing comes back."""
    after = _reset(_results_cleared(msgspec.structs.replace(before, is_safe=True)))
    return msgspec.structs.replace(_settled(after), state=plc_state.safe(_settled(after).state, fault))


def view(handshake: Handshake) -> PlcState:
    """Return what the status block shows."""
    command = handshake.command
    result = handshake.state.result
    kept = len(handshake.waiting) + (result is not None)
    signals = Signals(
        is_paired=handshake.triggered,
        trigger_ready=handshake.acquisition is Acquisition.READY,
        trigger_ack=handshake.acquisition in {Acquisition.HELD, Acquisition.CLOSED_HELD},
        image_received=handshake.image_received,
        overrun=handshake.overrun,
        missed_trigger=handshake.missed_trigger,
        user_data_ack=handshake.user_data is UserData.LATCHED,
        command_executing=command is Command.EXECUTING,
        command_completed=command is Command.COMPLETED,
        command_failed=command is Command.FAILED,
        refusal=handshake.refusal or 0 if command is Command.FAILED else 0,
        plc_heartbeat_lost=handshake.plc_link is PlcLink.LOST,
        plc_heartbeat=handshake.control.plc_heartbeat,
        acquisition_id=handshake.acquisition_id if handshake.triggered else None,
        free_buffers=BUFFERS - kept,
        waiting_jobs=handshake.condition.waiting_jobs,
        storage_low=handshake.condition.is_storage_low,
        recipe_loaded=handshake.recipe_loaded if handshake.has_recipe else 0,
        recipe_used=handshake.recipes.get(result.recipe_sha256, 0) if result else 0,
        serial=handshake.serial,
        challenge_due=handshake.challenge is Standing.DUE,
        challenge_passed=handshake.challenge is Standing.PASSED,
    )
    return msgspec.structs.replace(handshake.state, signals=signals)


def _step(before: Handshake, event: Event, verdict: Verdict | None = None) -> Handshake:
    """Make one transition of the machine that `event` belongs to."""
    machine = MACHINE_OF[event]
    then, act = TABLE_OF[event][getattr(before, machine), event]
    return _acted(msgspec.structs.replace(before, **{machine: then}), act, verdict)


def _acted(after: Handshake, act: Act, verdict: Verdict | None) -> Handshake:
    match act:
        case Act.MISS:
            return msgspec.structs.replace(after, missed_trigger=True)
        case Act.TAKE:
            return _taken(after)
        case Act.SHOW if verdict:
            return msgspec.structs.replace(after, state=plc_state.shown(after.state, verdict))
        case Act.QUEUE if verdict:
            return _queued(after, verdict)
        case Act.HIDE:
            return msgspec.structs.replace(after, state=msgspec.structs.replace(after.state, result=None))
        case Act.SHOW_NEXT:
            first, *rest = after.waiting
            return msgspec.structs.replace(after, waiting=tuple(rest), state=plc_state.shown(after.state, first))
        case Act.LATCH:
            return msgspec.structs.replace(after, serial=after.control.serial)
        case _:
            return after


def _edge(after: Handshake, old: Control, bit: str, rise: Event, fall: Event) -> Handshake:
    if rose(old, after.control, bit):
        return _step(after, rise)
    return _step(after, fall) if fell(old, after.control, bit) else after


def _triggered(before: Handshake, now_ns: int) -> Outcome:
    trigger_id = before.control.trigger_id
    held = {trigger.trigger_id for trigger in before.open_triggers}
    usable = trigger_id not in held | {0, before.last_trigger_id}
    after = _step(before, Event.TRIGGER_RISE if usable else Event.TRIGGER_REFUSED)
    if after.acquisition_id == before.acquisition_id:
        return Outcome(after)
    taken = TriggerTaken(trigger=after.open_triggers[-1], taken_ns=now_ns, window_ms=before.control.inspect_window)
    return Outcome(after, (taken,))


def _taken(before: Handshake) -> Handshake:
    number = before.acquisition_id + 1
    trigger = TriggerRef(trigger_id=before.control.trigger_id, acquisition_id=number, serial=before.serial)
    return msgspec.structs.replace(
        before,
        acquisition_id=number,
        last_trigger_id=trigger.trigger_id,
        open_triggers=(*before.open_triggers, trigger),
        window_of=number,
        image_received=False,
        serial="",
    )


def _withheld(before: Handshake, verdict: Verdict) -> Handshake:
    """Let the PLC see by id and toggle that there was a result, and nothing else of it."""
    after = _step(before, Event.RESULTS_CLEAR)
    return msgspec.structs.replace(after, state=plc_state.shown(after.state, verdict))


def _queued(before: Handshake, verdict: Verdict) -> Handshake:
    if len(before.waiting) + 1 < BUFFERS:
        return msgspec.structs.replace(before, waiting=(*before.waiting, verdict))
    return msgspec.structs.replace(before, overrun=True, fault=FaultCode.RESULT_BUFFER_OVERRUN)


def _commanded(before: Handshake) -> Outcome:
    """Begin the command; carry out at once what concerns the handshake alone."""
    after = _step(before, Event.EXECUTE_RISE)
    if before.command is Command.EXECUTING:
        return Outcome(after)
    if refusal := _refusal(before):
        return Outcome(msgspec.structs.replace(_step(after, Event.COMMAND_REFUSED), refusal=refusal))
    code, argument = before.control.command_code, before.control.command_argument
    match code:
        case CommandCode.PREPARE_RECIPE if argument != before.recipe_loaded:
            after = msgspec.structs.replace(after, has_recipe=False, is_changing=True)
        case CommandCode.PROMOTE_MODEL | CommandCode.ROLLBACK_MODEL:
            after = msgspec.structs.replace(after, is_changing_model=True)
        case CommandCode.RUN_GOLDEN_CHECK:
            pass
        case _:
            return Outcome(_step(_carried_out(after, code), Event.COMMAND_DONE))
    return Outcome(after, (CommandGiven(code=CommandCode(code), argument=argument),))


def _refusal(before: Handshake) -> Refusal | None:
    """Return why the command is not even begun."""
    match before.control.command_code, before.control.command_argument:
        case CommandCode.PREPARE_RECIPE, number if number == before.recipe_loaded != 0:
            return None
        case CommandCode.PREPARE_RECIPE, number if number not in before.recipes.values():
            return Refusal.UNKNOWN_RECIPE
        case CommandCode.PREPARE_RECIPE | CommandCode.PROMOTE_MODEL | CommandCode.ROLLBACK_MODEL, _ if has_part(before):
            return Refusal.PART_UNDER_WAY
        case CommandCode.PROMOTE_MODEL | CommandCode.ROLLBACK_MODEL, _ if not before.has_rested:
            # The worker may have started anew over this very command: done twice, a rollback takes itself back.
            return Refusal.EXECUTE_HELD
        case code, _:
            return None if code in set(CommandCode) else Refusal.UNKNOWN_COMMAND


def _carried_out(before: Handshake, code: int) -> Handshake:
    """Return the handshake after a command that is its own affair."""
    match code:
        case CommandCode.HALT:
            return msgspec.structs.replace(before, is_halted=True)
        case CommandCode.RESET:
            return _fault_cleared(_results_cleared(_reset(msgspec.structs.replace(before, is_halted=False))))
        case CommandCode.ABORT:
            return _reset(before)
        case CommandCode.ACKNOWLEDGE_ERROR:
            return _fault_cleared(before)
        case _:  # PREPARE_RECIPE of the one in force, UNPREPARE_RECIPE
            return msgspec.structs.replace(before, has_recipe=code == CommandCode.PREPARE_RECIPE)


def _reset(before: Handshake) -> Handshake:
    """Give up every trigger: their verdicts will be in the journal and never at the PLC."""
    return _step(msgspec.structs.replace(before, open_triggers=(), serial=""), Event.TRIGGER_RESET)


def _results_cleared(before: Handshake) -> Handshake:
    return _step(msgspec.structs.replace(before, waiting=()), Event.RESULTS_CLEAR)


def _fault_cleared(before: Handshake) -> Handshake:
    return msgspec.structs.replace(before, fault=FaultCode.NONE, overrun=False, missed_trigger=False)


def _settled(before: Handshake) -> Handshake:
    """Bring what follows from other things up to date: online, withdrawn passes, the next result, TriggerReady."""
    reason = offline_reason(before)
    had_pass = before.state.result is not None and plc_state.is_pass(before.state.result)
    state = msgspec.structs.replace(before.state, offline_reason=reason, station_fault=station_fault(before))
    after = msgspec.structs.replace(before, state=state)
    if reason is not OfflineReason.NONE:
        left = tuple(verdict for verdict in after.waiting if not plc_state.is_pass(verdict))
        after = msgspec.structs.replace(after, waiting=left)
        if had_pass:
            after = _step(after, Event.OK_WITHDRAWN)
    if after.waiting:
        after = _step(after, Event.NEXT)
    return _step(after, Event.OPEN if may_trigger(after) else Event.SHUT)
