"""What the OPC UA face shows and says: the state machine, the job under way, and the events that follow. Pure: no I/O.

In: what clients call, what the worker says of itself, and verdicts. Out: the next `Vision` and what is to be told, in
order. A verdict becomes a result of this face only for the job that is open, or while it runs continuously; so a result
that was given up never comes, and none comes for another job. All verdicts are in the journal anyway.

Free running, the face starts by itself and goes on by itself after a fault; triggered, only a client starts anything.
"""

from typing import NamedTuple

import msgspec

from station.opcua.state_machine import Cause, State, Step, step
from station.outputs.plc_state import FaultCode, fault_of
from station.records import Record, Verdict

MISMATCHED = "Pictures and starts of jobs do not match (fault 23). Look at the camera and its trigger, then Reset."
RESTARTED = "The worker was restarted: the open job has no result. Start it again."


class OpenJob(Record, frozen=True):
    """A single job that has no result yet."""

    job_id: str
    epoch: int
    acquisition_id: int
    is_exposed: bool = False
    """Its picture is complete."""


class StateChanged(Record, frozen=True):
    """The machine made this step."""

    before: State
    step: Step


class RecipePrepared(Record, frozen=True):
    """The loaded recipe was asked for."""


class JobStarted(Record, frozen=True):
    """A job has begun."""

    job_id: str


class AcquisitionDone(Record, frozen=True):
    """The picture of this job is complete: the part may move."""

    job_id: str


class ResultReady(Record, frozen=True):
    """This verdict is a result for the clients."""

    verdict: Verdict


class Ready(Record, frozen=True):
    """After this job the next may be started."""

    job_id: str


class ErrorRaised(Record, frozen=True):
    """The station cannot inspect; `text` says why and what to do."""

    text: str


class ErrorResolved(Record, frozen=True):
    """The station can inspect again."""


Told = StateChanged | RecipePrepared | JobStarted | AcquisitionDone | ResultReady | Ready | ErrorRaised | ErrorResolved


class Vision(Record, frozen=True):
    """Everything the face knows at one moment."""

    free_running: bool
    state: State = State.PREOPERATIONAL
    runs_by_itself: bool = False
    """Free running: it goes on to ContinuousExecution without a client."""
    fault: str = ""
    """Why the station cannot inspect now; empty: it can."""
    mismatch: str = ""
    """Pictures and triggers did not match; stays until a client resets."""
    job: OpenJob | None = None
    continuous_id: str = ""

    @property
    def trouble(self) -> str:
        """Why the state is, or will be, Error."""
        return self.fault or self.mismatch

    @property
    def gives_all(self) -> bool:
        """True while every verdict is a result, whoever or whatever started it."""
        return self.state is State.CONTINUOUS_EXECUTION or (self.runs_by_itself and self.state is not State.HALTED)


class Outcome(NamedTuple):
    """What something leads to."""

    vision: Vision
    told: tuple[Told, ...] = ()


def begun(*, free_running: bool) -> Vision:
    """Return the face at its start: nothing is known of the worker yet."""
    return Vision(free_running=free_running, runs_by_itself=free_running)


def may(vision: Vision, cause: Cause) -> bool:
    """Return True when a client may call this method now."""
    return step(vision.state, cause) is not None


def called(before: Vision, cause: Cause) -> Outcome:
    """Take in a method that stands by itself: Halt, Reset, SelectModeAutomatic, Unprepare, Stop, Abort, Prepare."""
    if not may(before, cause):
        return Outcome(before)
    after, told = _stepped(before, cause)
    if cause is Cause.PREPARE_RECIPE:
        return Outcome(after, (*told, RecipePrepared()))
    after = msgspec.structs.replace(after, job=None, continuous_id="", runs_by_itself=False)
    if cause is Cause.RESET:
        after = msgspec.structs.replace(after, mismatch="")
    is_resolved = before.state is State.ERROR and not after.trouble
    return _settled(after, (*told, ErrorResolved()) if is_resolved else told)


def job_started(before: Vision, job: OpenJob) -> Outcome:
    """Take in that the worker took the trigger of a single job."""
    if not may(before, Cause.START_SINGLE_JOB):
        return Outcome(before)
    after, told = _stepped(before, Cause.START_SINGLE_JOB)
    return Outcome(msgspec.structs.replace(after, job=job), (*told, JobStarted(job_id=job.job_id)))


def continuous_started(before: Vision, job_id: str) -> Outcome:
    """Take in that every picture is a job from now on."""
    if not may(before, Cause.START_CONTINUOUS):
        return Outcome(before)
    after, told = _stepped(before, Cause.START_CONTINUOUS)
    after = msgspec.structs.replace(after, continuous_id=job_id, runs_by_itself=before.free_running)
    return Outcome(after, (*told, JobStarted(job_id=job_id)))


def heard(before: Vision, fault: str, epoch: int = 0) -> Outcome:
    """Take in what is known of the worker: why it cannot inspect, empty: it can; and its epoch, 0: not known.

    A worker that was restarted has forgotten the open job: an error, which the next call resolves.
    """
    if before.job and epoch not in {0, before.job.epoch}:
        before, fault = msgspec.structs.replace(before, job=None), fault or RESTARTED
    return _settled(msgspec.structs.replace(before, fault=fault), ())


def mismatched(before: Vision) -> Outcome:
    """Take in that a picture and the triggers do not match: an error until a client resets."""
    return _settled(msgspec.structs.replace(before, mismatch=MISMATCHED), ())


def exposed(before: Vision, epoch: int, acquisition_id: int) -> Outcome:
    """Take in that the picture of a trigger is complete."""
    job = before.job
    if job is None or job.is_exposed or (job.epoch, job.acquisition_id) != (epoch, acquisition_id):
        return Outcome(before)
    after = msgspec.structs.replace(before, job=msgspec.structs.replace(job, is_exposed=True))
    return Outcome(after, (AcquisitionDone(job_id=job.job_id),))


def judged(before: Vision, verdict: Verdict) -> Outcome:
    """Take in a verdict; told only if it answers the open job, or while every verdict is a result."""
    job = before.job
    if job and verdict.trigger and (job.epoch, job.acquisition_id) == (verdict.epoch, verdict.trigger.acquisition_id):
        after, told = _stepped(msgspec.structs.replace(before, job=None), Cause.JOB_DONE)
        ready = (Ready(job_id=job.job_id),) if after.state is State.READY else ()
        told = (ResultReady(verdict=verdict), *told, *ready)
        if fault_of(verdict) is not FaultCode.IMAGE_TRIGGER_MISMATCH:
            return Outcome(after, told)
        return _settled(msgspec.structs.replace(after, mismatch=MISMATCHED), told)
    return Outcome(before, (ResultReady(verdict=verdict),) if before.gives_all else ())


def _stepped(before: Vision, cause: Cause) -> Outcome:
    """Make one step of the table; what it does not have changes nothing."""
    found = step(before.state, cause)
    if found is None:
        return Outcome(before)
    moved = (StateChanged(before=before.state, step=found),) if found.outer or found.automatic else ()
    return Outcome(msgspec.structs.replace(before, state=found.then), moved)


def _settled(after: Vision, told: tuple[Told, ...]) -> Outcome:
    """Bring what follows from trouble, or from running by itself, up to date."""
    if after.trouble:
        moved = _stepped(after, Cause.FAULT)
        error = (ErrorRaised(text=after.trouble),) if moved.told else ()
        return Outcome(moved.vision, (*told, *moved.told, *error))
    resolved = _stepped(after, Cause.FAULT_GONE)
    told = (*told, *resolved.told, *((ErrorResolved(),) if resolved.told else ()))
    after = resolved.vision
    while after.runs_by_itself and (started := _stepped(after, Cause.AUTO_START)).told:
        after, told = started.vision, (*told, *started.told)
    return Outcome(after, told)
