"""What the PLC is told, before it becomes registers: a frozen state and the few ways it changes. Pure: no I/O.

Rules, in words:
* Only a completed OK verdict shown while the station is online is a pass. Every other verdict is shown as NG too.
* An OK that was withdrawn (station offline, safe state) is gone. It never comes back by going online again.
* The inspection id is the verdict's `seq`, so that the PLC's number finds the verdict in the journal.
* The heartbeat counts only when the worker's loop calls; nothing else may move it.
"""

import enum

import msgspec

from station.records import Evaluation, Reason, Record, ResultState, Verdict


class OfflineReason(enum.IntEnum):
    """Why the station is not online."""

    NONE = 0
    BOOTING = 1
    MODEL_LOADING = 2
    STOPPED_OR_FAULT = 5


class FaultCode(enum.IntEnum):
    """What is broken; of the result shown, or of the station."""

    NONE = 0
    ENGINE_FAILED = 10
    WORKER_STUCK = 11
    IMAGE_UNREADABLE = 22
    DEADLINE_PASSED = 24
    NO_MODEL = 31
    WRONG_ANSWER_FORM = 33
    RECIPE_CHANGED = 34
    OTHER = 99


_FAULTS = {
    Reason.IMAGE_UNREADABLE: FaultCode.IMAGE_UNREADABLE,
    Reason.IMAGE_WRONG_SIZE: FaultCode.IMAGE_UNREADABLE,
    Reason.WRONG_ANSWER_FORM: FaultCode.WRONG_ANSWER_FORM,
    Reason.DEADLINE_PASSED: FaultCode.DEADLINE_PASSED,
    Reason.ENGINE_FAILED: FaultCode.ENGINE_FAILED,
    Reason.NO_MODEL: FaultCode.NO_MODEL,
    Reason.RECIPE_CHANGED: FaultCode.RECIPE_CHANGED,
}


class PlcState(Record, frozen=True):
    """All that the status block shows."""

    offline_reason: OfflineReason = OfflineReason.BOOTING
    station_fault: FaultCode = FaultCode.NONE
    heartbeat: int = 0
    """Calls of the worker's loop."""
    result: Verdict | None = None
    """The result shown; None: none yet, or withdrawn."""
    inspection_id: int = 0
    """`seq` of the last result shown; 0: none yet."""
    toggle: bool = False
    """Flips with each result."""
    counts: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Results since the worker's start, by the code of their evaluation: UNDEFINED, OK, NOT_OK, NOT_DECIDABLE."""

    @property
    def online(self) -> bool:
        """True when the station judges parts."""
        return self.offline_reason is OfflineReason.NONE

    @property
    def fault(self) -> FaultCode:
        """The station's fault, else that of the result shown."""
        if self.station_fault is not FaultCode.NONE or self.result is None:
            return self.station_fault
        if self.result.result_state is ResultState.COMPLETED:
            return FaultCode.NONE
        return _FAULTS.get(self.result.reason, FaultCode.OTHER)


def is_pass(verdict: Verdict) -> bool:
    """Return True for a completed OK, the only verdict that may ever set the OK bit."""
    return verdict.evaluation is Evaluation.OK and verdict.result_state is ResultState.COMPLETED


def after_verdict(state: PlcState, verdict: Verdict) -> PlcState:
    """Return the state that shows `verdict`: next id, other toggle, counted."""
    counts = list(state.counts)
    counts[verdict.evaluation.code] += 1
    shown = msgspec.structs.replace(
        state,
        result=verdict,
        inspection_id=verdict.seq,
        toggle=not state.toggle,
        counts=tuple(counts),
    )
    return shown if state.online else _without_pass(shown)


def after_heartbeat(state: PlcState, *, ready: bool) -> PlcState:
    """Return the state one beat later; going offline withdraws an OK."""
    beaten = msgspec.structs.replace(
        state,
        heartbeat=state.heartbeat + 1,
        station_fault=FaultCode.NONE,
        offline_reason=OfflineReason.NONE if ready else OfflineReason.MODEL_LOADING,
    )
    return beaten if ready else _without_pass(beaten)


def safe(state: PlcState, fault: FaultCode = FaultCode.NONE) -> PlcState:
    """Return the state with nothing valid: offline, no result. Heartbeat, id, toggle and counts stay."""
    return msgspec.structs.replace(
        state, offline_reason=OfflineReason.STOPPED_OR_FAULT, station_fault=fault, result=None
    )


def _without_pass(state: PlcState) -> PlcState:
    if state.result is not None and is_pass(state.result):
        return msgspec.structs.replace(state, result=None)
    return state
