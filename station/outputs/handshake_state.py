"""Everything between the PLC and the station at one moment, and what holds in it: why offline, fault, TriggerReady.

Pure: no I/O. `handshake` makes the steps from one such moment to the next.
"""

from collections.abc import Mapping

import msgspec

from station.challenge import Standing
from station.outputs.handshake_tables import Acquisition, Command, PlcLink, Results, UserData
from station.outputs.plc_control import Control
from station.outputs.plc_orders import Refusal
from station.outputs.plc_state import Condition, FaultCode, OfflineReason, PlcState
from station.records import Record, TriggerRef, Verdict

BUFFERS = 8
"""Results kept for a PLC that takes its time; one of them is the one shown."""


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
    is_changing_model: bool = False
    """Until the worker starts anew, or the change was refused."""
    refusal: Refusal | None = None
    """Why the last command failed."""
    has_rested: bool = False
    """ExecuteCommand was written as 0 since the start."""
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
    condition: Condition = Condition()


def station_fault(handshake: Handshake) -> FaultCode:
    """Return what is broken, the worst first: what keeps every picture away, then what the PLC must clear."""
    condition = handshake.condition
    if condition.is_disk_full:
        return FaultCode.DISK_FULL
    if condition.is_folder_unreachable:
        return FaultCode.FOLDER_UNREACHABLE
    if handshake.fault is not FaultCode.NONE:
        return handshake.fault
    return FaultCode.CHALLENGE_FAILED if handshake.challenge is Standing.FAILED else condition.engine_fault


def offline_reason(handshake: Handshake) -> OfflineReason:
    """Return why no part is judged now, what people ordered before what goes by itself; NONE: parts are judged."""
    condition, challenge = handshake.condition, handshake.challenge
    is_broken = condition.is_disk_full or condition.is_folder_unreachable or challenge is Standing.FAILED
    is_alone = handshake.triggered and handshake.plc_link is not PlcLink.ALIVE
    reasons = (
        (handshake.is_safe and not handshake.has_turned, OfflineReason.BOOTING),
        (handshake.is_safe, OfflineReason.STOPPED_OR_FAULT),
        (condition.is_set_offline, OfflineReason.SET_OFFLINE_BY_OPERATOR),
        (handshake.is_halted or handshake.control.set_offline, OfflineReason.SET_OFFLINE_BY_PLC),
        (not handshake.has_recipe, OfflineReason.NO_RECIPE),
        (is_broken, OfflineReason.STOPPED_OR_FAULT),
        (handshake.is_changing_model, OfflineReason.MODEL_LOADING),
        (challenge is Standing.DUE, OfflineReason.CHALLENGE_DUE),
        (not handshake.is_engine_ready, OfflineReason.MODEL_LOADING),
        (is_alone, OfflineReason.PLC_HEARTBEAT_LOST),
    )
    return next((reason for holds, reason in reasons if holds), OfflineReason.NONE)


def has_part(handshake: Handshake) -> bool:
    """Return True while a trigger has no result, or its picture window is open."""
    return bool(handshake.open_triggers) or handshake.window_of is not None


def may_trigger(handshake: Handshake) -> bool:
    """Return True when a trigger may be taken: its result will find a buffer."""
    kept = len(handshake.open_triggers) + len(handshake.waiting) + (handshake.state.result is not None)
    return (
        handshake.triggered
        and handshake.state.online
        and handshake.control.trigger_enable
        and handshake.fault is FaultCode.NONE
        and handshake.window_of is None
        and kept < BUFFERS
    )
