"""What the PLC is told, before it becomes registers: a frozen state and the few ways it changes. Pure: no I/O.

Rules, in words:
* Only a completed OK verdict shown while the station is online is a pass. Every other verdict is shown as NG too.
* An OK that was withdrawn (station offline, safe state) is gone. It never comes back by going online again.
* The inspection id is the verdict's `seq`, so that the PLC's number finds the verdict in the journal.
* The heartbeat goes on only while the worker's loop turns; nothing else may move it.
"""

import enum

import msgspec

from station.records import Evaluation, Reason, Record, ResultState, Verdict

BEAT_MS = 200
"""The heartbeat counts on so often."""
VOUCHED_MS = 200
"""A turn of the worker's loop lets the heartbeat go on for so long. The loop turns each 100 ms, later when the disk or
the machine is slow for a moment: the PLC need not see that."""


class OfflineReason(enum.IntEnum):
    """Why the station is not online."""

    NONE = 0
    BOOTING = 1
    MODEL_LOADING = 2
    SET_OFFLINE_BY_PLC = 3
    SET_OFFLINE_BY_OPERATOR = 4
    STOPPED_OR_FAULT = 5
    CHALLENGE_DUE = 6
    NO_RECIPE = 7
    PLC_HEARTBEAT_LOST = 8


class FaultCode(enum.IntEnum):
    """What is broken; of the result shown, or of the station."""

    NONE = 0
    ENGINE_FAILED = 10
    WORKER_STUCK = 11
    GPU_LOST_OR_NO_MEMORY = 12
    FOLDER_UNREACHABLE = 20
    DISK_FULL = 21
    IMAGE_UNREADABLE = 22
    IMAGE_TRIGGER_MISMATCH = 23
    DEADLINE_PASSED = 24
    NO_MODEL = 31
    CHALLENGE_FAILED = 32
    WRONG_ANSWER_FORM = 33
    RECIPE_CHANGED = 34
    RESULT_BUFFER_OVERRUN = 40
    OTHER = 99


_FAULTS = {
    Reason.IMAGE_UNREADABLE: FaultCode.IMAGE_UNREADABLE,
    Reason.IMAGE_WRONG_SIZE: FaultCode.IMAGE_UNREADABLE,
    Reason.WRONG_ANSWER_FORM: FaultCode.WRONG_ANSWER_FORM,
    Reason.DEADLINE_PASSED: FaultCode.DEADLINE_PASSED,
    Reason.ENGINE_FAILED: FaultCode.ENGINE_FAILED,
    Reason.NO_MODEL: FaultCode.NO_MODEL,
    Reason.RECIPE_CHANGED: FaultCode.RECIPE_CHANGED,
    Reason.PICTURE_MISSING: FaultCode.IMAGE_TRIGGER_MISMATCH,
    Reason.TOO_MANY_PICTURES: FaultCode.IMAGE_TRIGGER_MISMATCH,
    Reason.PICTURE_UNPAIRED: FaultCode.IMAGE_TRIGGER_MISMATCH,
    Reason.PICTURE_REPEATED: FaultCode.IMAGE_TRIGGER_MISMATCH,
}


class Condition(Record, frozen=True):
    """How the station is, besides its verdicts and the engine's readiness: what the worker's loop knows in a beat."""

    waiting_jobs: int = 0
    """At the worker, without a verdict yet."""
    is_storage_low: bool = False
    is_disk_full: bool = False
    """The disk takes no more, or is read-only: the worker is not ready."""
    is_folder_unreachable: bool = False
    """Capture cannot read the hot folder: no picture would be seen."""
    is_set_offline: bool = False
    """By an operator."""
    engine_fault: FaultCode = FaultCode.NONE
    """Why there is no engine, until one has answered again."""


class Signals(Record, frozen=True):
    """The bits and echoes of the handshake; all off unless `handshake` says otherwise."""

    is_paired: bool = False
    """Results belong to triggers of the PLC."""
    trigger_ready: bool = False
    trigger_ack: bool = False
    image_received: bool = False
    overrun: bool = False
    missed_trigger: bool = False
    user_data_ack: bool = False
    command_executing: bool = False
    command_completed: bool = False
    command_failed: bool = False
    refusal: int = 0
    """Why it failed; 0: it did not."""
    plc_heartbeat_lost: bool = False
    plc_heartbeat: int = 0
    acquisition_id: int | None = None
    """None: free running, the inspection id is shown."""
    free_buffers: int = 8
    waiting_jobs: int = 0
    storage_low: bool = False
    recipe_loaded: int = 0
    recipe_used: int = 0
    serial: str = ""
    challenge_due: bool = False
    challenge_passed: bool = False


class PlcState(Record, frozen=True):
    """All that the status block shows."""

    offline_reason: OfflineReason = OfflineReason.BOOTING
    station_fault: FaultCode = FaultCode.NONE
    result: Verdict | None = None
    """The result shown; None: none yet, or withdrawn."""
    inspection_id: int = 0
    """`seq` of the last result shown; 0: none yet."""
    toggle: bool = False
    """Flips with each result."""
    counts: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Results since the worker's start, by the code of their evaluation: UNDEFINED, OK, NOT_OK, NOT_DECIDABLE."""
    signals: Signals = Signals()

    @property
    def online(self) -> bool:
        """True when the station judges parts."""
        return self.offline_reason is OfflineReason.NONE

    @property
    def fault(self) -> FaultCode:
        """The station's fault, else that of the result shown."""
        if self.station_fault is not FaultCode.NONE or self.result is None:
            return self.station_fault
        return fault_of(self.result)


def fault_of(verdict: Verdict) -> FaultCode:
    """Return why this inspection did not run to its end; NONE when it did."""
    if verdict.result_state is ResultState.COMPLETED:
        return FaultCode.NONE
    return _FAULTS.get(verdict.reason, FaultCode.OTHER)


def is_pass(verdict: Verdict) -> bool:
    """Return True for a completed OK, the only verdict that may ever set the OK bit."""
    return verdict.evaluation is Evaluation.OK and verdict.result_state is ResultState.COMPLETED


def after_verdict(state: PlcState, verdict: Verdict) -> PlcState:
    """Return the state that counts and shows `verdict`."""
    return shown(counted(state, verdict), verdict)


def counted(state: PlcState, verdict: Verdict) -> PlcState:
    """Return the state with `verdict` in its counts, not shown yet."""
    counts = list(state.counts)
    counts[verdict.evaluation.code] += 1
    return msgspec.structs.replace(state, counts=tuple(counts))


def shown(state: PlcState, verdict: Verdict) -> PlcState:
    """Return the state that shows `verdict`: its id, other toggle. An OK of an offline station is not shown."""
    result = msgspec.structs.replace(state, result=verdict, inspection_id=verdict.seq, toggle=not state.toggle)
    return result if state.online else without_pass(result)


def after_turn(state: PlcState, *, ready: bool) -> PlcState:
    """Return the state after a turn of the worker's loop; going offline withdraws an OK."""
    turned = msgspec.structs.replace(state, station_fault=FaultCode.NONE)
    return with_offline_reason(turned, OfflineReason.NONE if ready else OfflineReason.MODEL_LOADING)


def heartbeat_at(started_ns: int, turned_ns: int, now_ns: int) -> int:
    """Return the heartbeat of a worker whose loop turned last at `turned_ns`; 0 until `BEAT_MS` after its start."""
    return (min(now_ns, turned_ns + VOUCHED_MS * 1_000_000) - started_ns) // (BEAT_MS * 1_000_000)


def with_offline_reason(state: PlcState, reason: OfflineReason) -> PlcState:
    """Return the state that is online (NONE) or offline for `reason`; going offline withdraws an OK."""
    state = msgspec.structs.replace(state, offline_reason=reason)
    return state if state.online else without_pass(state)


def safe(state: PlcState, fault: FaultCode = FaultCode.NONE) -> PlcState:
    """Return the state with nothing valid: offline, no result. Id, toggle and counts stay."""
    return msgspec.structs.replace(
        state, offline_reason=OfflineReason.STOPPED_OR_FAULT, station_fault=fault, result=None
    )


def without_pass(state: PlcState) -> PlcState:
    """Return the state with an OK withdrawn; a reject stays."""
    if state.result is not None and is_pass(state.result):
        return msgspec.structs.replace(state, result=None)
    return state
