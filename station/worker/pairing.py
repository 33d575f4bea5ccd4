"""Which picture belongs to which trigger of the PLC. Pure: the clock is passed in, CLOCK_MONOTONIC nanoseconds.

A trigger opens a picture window. Exactly one picture must be completed in it, by the time capture gives the file: none,
or two, and the part is rejected. A picture of before the trigger, of no known time, or with the bytes of one of the
last pictures (a camera that sends the same again) belongs to nobody. Windows never overlap: the next trigger is taken
when the window is over, after trouble not before two more windows have passed, so that a late picture meets nobody.
"""

import enum
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from station.records import Failure, Reason, TriggerRef

QUIET_WINDOWS = 2
REMEMBERED_PICTURES = 64
"""Pictures whose hash is kept to know one that comes again."""
CLOCK_TICK_NS = 10_000_000
"""A file system stamps files with the kernel's coarse clock, which may lag the exact one by a tick."""


class State(enum.Enum):
    """How far a trigger is."""

    OPEN = "its picture window is open"
    PAIRED = "it has its one picture"
    SPOILT = "it has none, or two"


@dataclass
class Pair:
    """A trigger and the pictures in its window."""

    trigger: TriggerRef
    begin_ns: int
    end_ns: int
    """End of the picture window."""
    due_ns: int
    """The PLC has its answer by then."""
    state: State = State.OPEN
    job_ids: list[str] = field(default_factory=list)
    trouble: Failure | None = None
    """Why the part is rejected; only when SPOILT."""


class Pairing:
    """The triggers without an answer, and what is known of the last pictures."""

    def __init__(self, window_ms: int, known: Iterable[str] = ()) -> None:
        """`known`: hashes of the pictures judged last, so that a frozen camera is found after a restart too."""
        self._window_ns = window_ms * 1_000_000
        self._pairs: list[Pair] = []
        self._hashes: deque[str] = deque(known, maxlen=REMEMBERED_PICTURES)
        self._fates: dict[str, TriggerRef | Failure] = {}
        self._reopen: list[tuple[int, TriggerRef]] = []

    def trigger(self, trigger: TriggerRef, taken_ns: int, due_ns: int) -> None:
        """Open the window of a trigger that was just taken."""
        self._pairs.append(Pair(trigger, taken_ns, taken_ns + self._window_ns, max(due_ns, taken_ns + self._window_ns)))

    def picture(self, job_id: str, sha256: str, captured_ns: int | None) -> TriggerRef | Failure:
        """Return the trigger of a picture, or why it has none; the same at each call for a job."""
        if job_id not in self._fates:
            self._fates[job_id] = self._paired(job_id, sha256, captured_ns)
            while len(self._fates) > 4 * REMEMBERED_PICTURES:
                del self._fates[next(iter(self._fates))]
        fate = self._fates[job_id]
        pair = self._pair_of(fate) if isinstance(fate, TriggerRef) else None
        if isinstance(fate, TriggerRef) and (pair is None or pair.state is State.SPOILT):
            return (pair and pair.trouble) or Failure(
                reason=Reason.PICTURE_UNPAIRED,
                detail=f"The picture came when trigger {fate.trigger_id} had its answer already.",
            )
        return fate

    def is_open(self, trigger: TriggerRef) -> bool:
        """Return True while a second picture could still come: the verdict must wait."""
        pair = self._pair_of(trigger)
        return pair is not None and pair.state is State.OPEN

    def due_ns(self, trigger: TriggerRef) -> int | None:
        """Return when the PLC must have the answer to this trigger."""
        pair = self._pair_of(trigger)
        return pair.due_ns if pair else None

    def answered(self, trigger: TriggerRef) -> None:
        """Forget a trigger whose verdict was given."""
        self._pairs = [pair for pair in self._pairs if pair.trigger != trigger]

    def next_due_ns(self) -> int | None:
        """Return when to call `closed`, `reopened` and `unanswered` next; None: no trigger is known."""
        dues = [_next_ns(pair) for pair in self._pairs]
        return min([*dues, *(due_ns for due_ns, _ in self._reopen)], default=None)

    def closed(self, now_ns: int) -> list[Pair]:
        """Return the triggers whose picture window is over now; they are PAIRED or SPOILT from here on."""
        over = [pair for pair in self._pairs if pair.state is State.OPEN and pair.end_ns <= now_ns]
        for pair in over:
            pair.trouble = self._trouble(pair)
            pair.state = State.SPOILT if pair.trouble else State.PAIRED
            quiet_ns = QUIET_WINDOWS * self._window_ns if pair.trouble else 0
            self._reopen.append((now_ns + quiet_ns, pair.trigger))
        return over

    def reopened(self, now_ns: int) -> list[TriggerRef]:
        """Return the triggers after which the next one may be taken now."""
        ready = [trigger for due_ns, trigger in self._reopen if due_ns <= now_ns]
        self._reopen = [waiting for waiting in self._reopen if waiting[0] > now_ns]
        return ready

    def unanswered(self, now_ns: int) -> list[Pair]:
        """Remove and return the triggers that must be answered now without a picture's verdict: SPOILT, or overdue."""
        over = [pair for pair in self._pairs if _is_lost(pair, now_ns)]
        for pair in over:
            self.answered(pair.trigger)
        return over

    def _paired(self, job_id: str, sha256: str, captured_ns: int | None) -> TriggerRef | Failure:
        is_repeated = sha256 in self._hashes
        self._hashes.append(sha256)
        if is_repeated:
            detail = "The picture has the same bytes as one of the last: the camera froze, or a file was sent twice."
            return Failure(reason=Reason.PICTURE_REPEATED, detail=detail)
        if captured_ns is None:
            detail = "It is not known when the picture was taken: it was found when the station started."
            return Failure(reason=Reason.PICTURE_UNPAIRED, detail=detail)
        for pair in self._pairs:
            if pair.begin_ns - CLOCK_TICK_NS <= captured_ns <= pair.end_ns and pair.state is not State.SPOILT:
                pair.job_ids.append(job_id)
                if len(pair.job_ids) > 1 and pair.state is State.PAIRED:
                    pair.state, pair.trouble = State.SPOILT, _too_many(pair)
                return pair.trigger
        detail = "No trigger of the PLC was open when the picture was taken. Look at the wiring of camera and trigger."
        return Failure(reason=Reason.PICTURE_UNPAIRED, detail=detail)

    def _pair_of(self, trigger: TriggerRef) -> Pair | None:
        return next((pair for pair in self._pairs if pair.trigger == trigger), None)

    @staticmethod
    def _trouble(pair: Pair) -> Failure | None:
        if len(pair.job_ids) > 1:
            return _too_many(pair)
        if pair.job_ids:
            return None
        detail = f"No picture was complete within the window of trigger {pair.trigger.trigger_id}. Look at the camera."
        return Failure(reason=Reason.PICTURE_MISSING, detail=detail)


def _too_many(pair: Pair) -> Failure:
    detail = (
        f"{len(pair.job_ids)} pictures were complete within the window of trigger {pair.trigger.trigger_id}."
        " Which one is the part cannot be told. Look at the wiring of camera and trigger."
    )
    return Failure(reason=Reason.TOO_MANY_PICTURES, detail=detail)


def _is_lost(pair: Pair, now_ns: int) -> bool:
    return pair.state is State.SPOILT or (pair.state is State.PAIRED and pair.due_ns <= now_ns)


def _next_ns(pair: Pair) -> int:
    return {State.OPEN: pair.end_ns, State.PAIRED: pair.due_ns, State.SPOILT: 0}[pair.state]
