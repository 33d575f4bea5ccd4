"""The handshake with the PLC: the five state machines of `handshake_tables`, and what binds them.

In: what the PLC wrote, verdicts, pictures, heartbeats, each as one event. Out: the next `Handshake`, what it shows
(`view`), and what the worker is to do (`TriggerTaken`, `CommandGiven`). Pure: no I/O; the clock is passed in.

Nothing here can make a pass: a result is shown as it was judged, for the trigger it was judged for, or not at all.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from station.challenge import Standing
from station.outputs import plc_state
from station.outputs.handshake_tables import (
    MACHINE_OF,
    TABLE_OF,
    Acquisition,
    Act,
    Command,
    Event,
    PlcLink,
    Results,
    UserData,
)
from station.outputs.plc_control import Control, fell, rose
from station.outputs.plc_orders import CommandCode, CommandGiven, Order, TriggerTaken
from station.outputs.plc_state import FaultCode, OfflineReason, PlcState, Signals
from station.records import Record, TriggerRef, Verdict

BUFFERS = 8
"""Results kept for a PLC that takes its time; one of them is the one shown."""
PLC_LOST_AFTER_NS = 3_000_000_000
"""The PLC's heartbeat must change within this time: three beats of a second."""


class Handshake(Record, frozen=True):
    """Everything between the PLC and the station at one moment."""

    triggered: bool
    """False: free running; no trigger is taken, every verdict is shown."""
    recipes: Mapping[str, int] = msgspec.field(default_factory=dict)
    """sha256 -> number of the recipes that the PLC can have."""
    recipe_loaded: int = 0
    """Number of the recipe in force."""
    has_recipe: bool = True
    """False while it is being changed, and after UnprepareRecipe."""
    is_changing: bool = False
    state: PlcState = PlcState()
    control: Control = Control()
    acquisition: Acquisition = Acquisition.CLOSED
    results: Results = Results.EMPTY
    user_data: UserData = UserData.IDLE
    command: Command = Command.IDLE
    plc_link: PlcLink = PlcLink.UNKNOWN
    plc_beat_ns: int = 0
    is_engine_ready: bool = False
    is_halted: bool = False
    is_safe: bool = True
    """The worker said so, at start and at the end: offline whatever else holds."""
    has_turned: bool = False
    """The worker's loop runs, or did."""
    challenge: Standing = Standing.NOT_ASKED
    fault: FaultCode = FaultCode.NONE
    """Stays until the PLC clears it; no trigger is taken meanwhile."""
    waiting: tuple[Verdict, ...] = ()
    """Results behind the one shown, oldest first."""
    open_triggers: tuple[TriggerRef, ...] = ()
    """Taken, without a result yet, and not given up by the PLC."""
    window_of: int | None = None
    """Acquisition id whose picture window is open, also when the PLC gave it up: no other trigger until it is over."""
    acquisition_id: int = 0
    last_trigger_id: int = 0
    image_received: bool = False
    serial: str = ""
    overrun: bool = False
    missed_trigger: bool = False
    waiting_jobs: int = 0
    """At the worker, without a verdict yet."""
    is_storage_low: bool = False
    is_disk_full: bool = False
    """The disk takes no more, or is read-only: the worker is not ready."""


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


def load_is(before: Handshake, waiting_jobs: int, *, is_storage_low: bool, is_disk_full: bool) -> Handshake:
    """Take in how much the worker has to do, and whether the disk has little room or takes no more."""
    after = msgspec.structs.replace(before, waiting_jobs=waiting_jobs, is_storage_low=is_storage_low)
    return _settled(msgspec.structs.replace(after, is_disk_full=is_disk_full))


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


def command_done(before: Handshake, *, succeeded: bool) -> Handshake:
    """Take in that the worker carried out, or refused, the command. After a failed change there is no recipe."""
    after = _step(before, Event.COMMAND_DONE if succeeded else Event.COMMAND_REFUSED)
    if before.is_changing:
        after = msgspec.structs.replace(after, has_recipe=succeeded, is_changing=False)
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
        plc_heartbeat_lost=handshake.plc_link is PlcLink.LOST,
        plc_heartbeat=handshake.control.plc_heartbeat,
        acquisition_id=handshake.acquisition_id if handshake.triggered else None,
        free_buffers=BUFFERS - kept,
        waiting_jobs=handshake.waiting_jobs,
        storage_low=handshake.is_storage_low,
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
    code, argument = before.control.command_code, before.control.command_argument
    match code:
        case CommandCode.HALT:
            after = msgspec.structs.replace(after, is_halted=True)
        case CommandCode.RESET:
            after = _fault_cleared(_results_cleared(_reset(msgspec.structs.replace(after, is_halted=False))))
        case CommandCode.ABORT:
            after = _reset(after)
        case CommandCode.ACKNOWLEDGE_ERROR:
            after = _fault_cleared(after)
        case CommandCode.UNPREPARE_RECIPE:
            after = msgspec.structs.replace(after, has_recipe=False)
        case CommandCode.PREPARE_RECIPE if argument == before.recipe_loaded != 0:
            after = msgspec.structs.replace(after, has_recipe=True)
        case CommandCode.PREPARE_RECIPE if argument in before.recipes.values() and not _has_part(before):
            after = msgspec.structs.replace(after, has_recipe=False, is_changing=True)
            return Outcome(after, (CommandGiven(code=CommandCode.PREPARE_RECIPE, argument=argument),))
        case CommandCode.RUN_GOLDEN_CHECK:
            return Outcome(after, (CommandGiven(code=CommandCode.RUN_GOLDEN_CHECK, argument=argument),))
        case _:
            return Outcome(_step(after, Event.COMMAND_REFUSED))
    return Outcome(_step(after, Event.COMMAND_DONE))


def _reset(before: Handshake) -> Handshake:
    """Give up every trigger: their verdicts will be in the journal and never at the PLC."""
    return _step(msgspec.structs.replace(before, open_triggers=(), serial=""), Event.TRIGGER_RESET)


def _results_cleared(before: Handshake) -> Handshake:
    return _step(msgspec.structs.replace(before, waiting=()), Event.RESULTS_CLEAR)


def _fault_cleared(before: Handshake) -> Handshake:
    return msgspec.structs.replace(before, fault=FaultCode.NONE, overrun=False, missed_trigger=False)


def _settled(before: Handshake) -> Handshake:
    """Bring what follows from other things up to date: online, withdrawn passes, the next result, TriggerReady."""
    reason = _offline_reason(before)
    had_pass = before.state.result is not None and plc_state.is_pass(before.state.result)
    fault = FaultCode.CHALLENGE_FAILED if before.challenge is Standing.FAILED else FaultCode.NONE
    fault = FaultCode.DISK_FULL if before.is_disk_full else before.fault or fault
    state = msgspec.structs.replace(before.state, offline_reason=reason, station_fault=fault)
    after = msgspec.structs.replace(before, state=state)
    if reason is not OfflineReason.NONE:
        left = tuple(verdict for verdict in after.waiting if not plc_state.is_pass(verdict))
        after = msgspec.structs.replace(after, waiting=left)
        if had_pass:
            after = _step(after, Event.OK_WITHDRAWN)
    if after.waiting:
        after = _step(after, Event.NEXT)
    return _step(after, Event.OPEN if _may_trigger(after) else Event.SHUT)


def _offline_reason(handshake: Handshake) -> OfflineReason:
    if handshake.is_safe:
        return OfflineReason.STOPPED_OR_FAULT if handshake.has_turned else OfflineReason.BOOTING
    if handshake.is_halted or handshake.control.set_offline:
        return OfflineReason.SET_OFFLINE_BY_PLC
    if not handshake.has_recipe:
        return OfflineReason.NO_RECIPE
    if handshake.is_disk_full or handshake.challenge is Standing.FAILED:
        return OfflineReason.STOPPED_OR_FAULT
    if handshake.challenge is Standing.DUE:
        return OfflineReason.CHALLENGE_DUE
    if not handshake.is_engine_ready:
        return OfflineReason.MODEL_LOADING
    if handshake.triggered and handshake.plc_link is not PlcLink.ALIVE:
        return OfflineReason.PLC_HEARTBEAT_LOST
    return OfflineReason.NONE


def _has_part(handshake: Handshake) -> bool:
    return bool(handshake.open_triggers) or handshake.window_of is not None


def _may_trigger(handshake: Handshake) -> bool:
    kept = len(handshake.open_triggers) + len(handshake.waiting) + (handshake.state.result is not None)
    return (
        handshake.triggered
        and handshake.state.online
        and handshake.control.trigger_enable
        and handshake.fault is FaultCode.NONE
        and handshake.window_of is None
        and kept < BUFFERS
    )
