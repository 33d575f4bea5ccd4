"""The worker's dealings with the PLC's triggers: pictures are paired, windows closed, every trigger answered in time.

Holds the pure `Pairing` and tells the `TriggerSource` what the PLC should see. Called from the worker's one thread.
"""

import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256

from station.challenge import Standing
from station.messages import Sighting
from station.outputs.base import TriggerSource
from station.outputs.plc_orders import CommandGiven, FreeRunning, Refusal, TriggerTaken
from station.outputs.plc_state import Condition
from station.recipe import Recipe
from station.records import Failure, ImageRef, Job, Reason, TriggerRef
from station.worker.pairing import Pair, Pairing

NO_PICTURE = ImageRef(name="(no picture)", sha256=sha256(b"").hexdigest(), size_bytes=0)


class Triggers:
    """All triggers of the PLC that have no answer yet, and its commands; while free running only these."""

    def __init__(
        self,
        source: TriggerSource,
        picture_window_ms: int,
        recipe: Recipe,
        *,
        is_free_running: bool = False,
        known: Iterable[str] = (),
        others: Sequence[TriggerSource] = (),
    ) -> None:
        """`source` gives the triggers; commands come from it and from `others`."""
        self._source = source
        self._sources = (source, *others)
        self._commander: TriggerSource | None = None
        self._is_free_running = is_free_running
        self._recipe = recipe
        self._pairing = Pairing(picture_window_ms, known)
        self._told: deque[str] = deque(maxlen=256)

    @property
    def event_fds(self) -> tuple[int, ...]:
        """One of them is readable when the PLC wants something."""
        return tuple(source.event_fd for source in self._sources)

    def next_due_ns(self) -> int | None:
        """Return when `turn` has something to do next, CLOCK_MONOTONIC."""
        return self._pairing.next_due_ns()

    def commands(self) -> list[CommandGiven]:
        """Take in the new triggers; return the new commands."""
        given = []
        for source, order in [(each, order) for each in self._sources for order in each.orders()]:
            match order:
                case FreeRunning():
                    self._is_free_running = order.is_on
                case TriggerTaken():
                    window_ms = min(order.window_ms or self._recipe.file.deadline_ms, self._recipe.file.deadline_ms)
                    self._pairing.trigger(order.trigger, order.taken_ns, order.taken_ns + window_ms * 1_000_000)
                case CommandGiven() if self._commander is None:
                    self._commander = source
                    given.append(order)
                case CommandGiven():
                    source.command_done(Refusal.COMMAND_OF_ANOTHER_LINE)
        return given

    def use(self, recipe: Recipe, number: int) -> None:
        """Take in which recipe is in force, and its number for the PLC."""
        self._recipe = recipe
        for source in self._sources:
            source.recipe_is(number)

    def condition_is(self, condition: Condition) -> None:
        """Tell every source how the station is."""
        for source in self._sources:
            source.condition_is(condition)

    def challenged(self, standing: Standing) -> None:
        """Tell the PLC where the station stands with its challenges."""
        for source in self._sources:
            source.challenged(standing)

    def command_done(self, refusal: Refusal | None = None) -> None:
        """Tell who gave the command how it ended; None: carried out."""
        commander, self._commander = self._commander, None
        if commander is not None:
            commander.command_done(refusal)

    def see(self, sighting: Sighting) -> None:
        """Take in that capture has a picture, before its job is made."""
        if not self._is_free_running:
            self._fate(sighting.job_id, sighting.sha256, sighting.captured_ns)

    def fate(self, job: Job) -> TriggerRef | Failure | None:
        """Return the trigger that this job's picture belongs to, or why there is none; None while free running."""
        if self._is_free_running:
            return None
        fate = self._fate(job.job_id, job.image.sha256, job.captured_ns)
        if isinstance(fate, TriggerRef) and job.failure is None:
            self._source.picture_came(fate.acquisition_id)
        return fate

    def is_open(self, trigger: TriggerRef | None) -> bool:
        """Return True while a verdict must wait, since a second picture could still come."""
        return trigger is not None and self._pairing.is_open(trigger)

    def due_ns(self, trigger: TriggerRef) -> int | None:
        """Return when the PLC must have its answer."""
        return self._pairing.due_ns(trigger)

    def answered(self, trigger: TriggerRef) -> None:
        """Forget a trigger: its verdict is at the PLC."""
        self._pairing.answered(trigger)

    def turn(self, now_ns: int) -> Iterator[tuple[Pair, Job]]:
        """Close windows; yield the triggers that no picture answers, with the job that their verdict is about."""
        self._pairing.closed(now_ns)
        for trigger in self._pairing.reopened(now_ns):
            self._source.window_closed(trigger.acquisition_id)
        for pair in self._pairing.unanswered(now_ns):
            yield pair, self._job_without_picture(pair)

    def _fate(self, job_id: str, picture_sha256: str, captured_ns: int | None) -> TriggerRef | Failure:
        fate = self._pairing.picture(job_id, picture_sha256, captured_ns)
        if isinstance(fate, Failure) and job_id not in self._told:
            self._told.append(job_id)
            self._source.mismatched()
        return fate

    def _job_without_picture(self, pair: Pair) -> Job:
        late = Failure(
            reason=Reason.DEADLINE_PASSED,
            detail=f"The picture of trigger {pair.trigger.trigger_id} did not come to the worker in time.",
        )
        now = datetime.now(UTC)
        return Job(
            job_id=f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03d}-{uuid.uuid4().hex[:8]}",
            part_id=pair.trigger.serial or None,
            image=NO_PICTURE,
            recipe=self._recipe.file.recipe,
            recipe_sha256=self._recipe.sha256,
            registration=None,
            crops=(),
            failure=pair.trouble or late,
            captured_utc=now.isoformat(timespec="milliseconds"),
            capture_ms=0.0,
        )
