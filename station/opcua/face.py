"""The face of the station on OPC UA: keeps `Vision`, shows it in the nodes, tells it as events, answers methods.

Everything that happens comes through one inbox and is taken in one after the other, in the server's loop: what the
worker says, verdicts, and what clients call. So nodes, events and answers are in the order in which things happened.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from asyncua import ua

from station import orders, verdict_json
from station.complaints import Complaints
from station.errors import OutputError
from station.opcua import vision
from station.opcua.events import Events
from station.opcua.nodes import StationNodes
from station.opcua.results import Identity, Result, job_id, result_of
from station.opcua.state_machine import Cause, State
from station.opcua.structures import Structures, content_of
from station.opcua.vision import OpenJob, Outcome
from station.opcua.worker_line import Heard, Silence, WorkerLine
from station.outputs.plc_state import is_pass
from station.records import Verdict

ANSWER_WITHIN_S = 2.0
CHANGE_WITHIN_S = 5.0
"""So long a client waits for another recipe, which may take longer, and for the worker to run continuously."""
STARTS_WITHIN_S = 60.0
"""A worker that loads its model for so long at the start is not in error yet."""
SILENT = "The worker does not answer. Does it run? station status"
NOT_READY = "The worker is not ready: the model is loaded, or something is wrong. station status"
OTHER_RECIPE = "The worker has another recipe than this server. Restart both."

logger = logging.getLogger(__name__)


class Refused(Exception):  # noqa: N818 - an answer, not an error
    """The worker does not do it; the text says why."""


class Face:
    """One station's face. All methods in the server's loop, but `deliver`, which any thread may call."""

    def __init__(
        self,
        *,
        nodes: StationNodes,
        events: Events,
        structures: Structures,
        line: WorkerLine,
        free_running: bool,
        recipes: Sequence[Identity],
        config_sha256: str,
    ) -> None:
        """`recipes` are all that are known here; the first is taken to be in force until the worker says."""
        self._nodes = nodes
        self._events = events
        self._structures = structures
        self._line = line
        self._config_sha256 = config_sha256
        self.recipes = recipes
        self.recipe = recipes[0]
        """The one in force."""
        self._vision = vision.begun(free_running=free_running)
        self._epoch = 0
        self._was_ready = False
        self._begun_s = time.monotonic()
        self._requests = itertools.count(1)
        self._answers: dict[int, asyncio.Future[str]] = {}
        self._continuous: asyncio.Future[None] | None = None
        """While StartContinuous waits for the worker."""
        self._turn = asyncio.Lock()
        self.complaints = Complaints(logger)

    @property
    def state(self) -> State:
        """Where the machine is."""
        return self._vision.state

    @property
    def trouble(self) -> str:
        """Why the station cannot inspect; empty: it can."""
        return self._vision.trouble

    def may(self, cause: Cause) -> bool:
        """Return True when a client may call this method now."""
        return vision.may(self._vision, cause)

    async def begin(self) -> None:
        """Show the state at the start."""
        await self._nodes.show_state(self._vision.state)

    async def hear(self, heard: Heard | Verdict) -> None:
        """Take in what came from the worker. Raises OutputError if it has another configuration."""
        match heard:
            case Verdict():
                await self._take(lambda now: vision.judged(now, heard))
            case Silence():
                await self._take(lambda now: vision.heard(now, SILENT))
            case orders.WorkerStatus():
                await self._status(heard)
            case orders.PictureCame():
                await self._take(lambda now: vision.exposed(now, heard.epoch, heard.acquisition_id))
            case orders.Mismatch():
                await self._take(vision.mismatched)
            case orders.JobTaken():
                await self._job_taken(heard)
            case orders.JobRefused():
                self._answer(heard.request, lambda future: future.set_exception(Refused(heard.why)))
            case orders.RecipeDone():
                await self._recipe_done(heard)

    async def call(self, cause: Cause) -> bool:
        """Make the step of a method; return False, and change nothing, if the state does not allow it."""
        if not self.may(cause):
            return False
        await self._take(lambda now: vision.called(now, cause))
        return True

    async def start_job(self, serial: str, measurement: str) -> str:
        """Start a single job; return its id. Raises Refused, TimeoutError if the worker does not answer."""
        return await self._asked(lambda request: self._line.start_job(request, serial, measurement), ANSWER_WITHIN_S)

    async def prepare(self, recipe: Identity) -> bool:
        """Make the recipe the one in force; return False if the change goes on, the event tells its end.

        Raises Refused if it is not changed.
        """
        if recipe == self.recipe:
            return await self.call(Cause.PREPARE_RECIPE)
        if self._vision.free_running:
            raise Refused("free running, the recipe is changed by the PLC")
        await self.call(Cause.UNPREPARE_RECIPE)  # from Ready: no job may start with the recipe of before
        try:
            await self._asked(lambda request: self._line.prepare_recipe(request, recipe.sha256), CHANGE_WITHIN_S)
        except TimeoutError:
            return False
        return True

    async def _worker_runs_continuously(self) -> None:
        """Wait until the worker takes pictures without a start; else it is told to go on as before."""
        self._continuous = asyncio.get_running_loop().create_future()
        self._line.run_continuously(True)
        try:
            await asyncio.wait_for(self._continuous, CHANGE_WITHIN_S)
        except TimeoutError:
            self._continuous = None
            self._tell_line()
            raise

    def _tell_line(self) -> None:
        """Say whether every picture is to be a job."""
        is_running = self._vision.state is State.CONTINUOUS_EXECUTION and not self._vision.free_running
        self._line.run_continuously(is_running or self._continuous is not None)

    async def _asked(self, send: Callable[[int], None], limit_s: float) -> str:
        """Send an order and return its answer. Raises Refused, TimeoutError."""
        request = next(self._requests)
        self._answers[request] = asyncio.get_running_loop().create_future()
        send(request)
        try:
            return await asyncio.wait_for(self._answers[request], limit_s)
        finally:
            del self._answers[request]

    async def start_continuous(self) -> str:
        """Make every picture a job from now on; return the id of the whole. Raises TimeoutError without an answer."""
        name = f"continuous-{self._epoch}-{next(self._requests)}"
        if not self._vision.free_running:
            await self._worker_runs_continuously()
        await self._take(lambda now: vision.continuous_started(now, name))
        self._continuous = None
        self._tell_line()
        return name

    async def _status(self, status: orders.WorkerStatus) -> None:
        if status.config_sha256 != self._config_sha256:
            raise OutputError("The worker has another config.yaml than this server.", "Restart the OPC UA server.")
        self._epoch = status.epoch
        if status.is_continuous and self._continuous is not None and not self._continuous.done():
            self._continuous.set_result(None)
        self.recipe = next((one for one in self.recipes if one.sha256 == status.recipe_sha256), self.recipe)
        self._was_ready |= status.is_ready
        is_starting = not self._was_ready and time.monotonic() - self._begun_s < STARTS_WITHIN_S
        if not (is_starting or status.is_changing):
            await self._take(lambda now: vision.heard(now, self._fault(status), status.epoch))

    async def _recipe_done(self, done: orders.RecipeDone) -> None:
        if done.succeeded:
            await self.call(Cause.PREPARE_RECIPE)
            self._answer(done.request, lambda future: future.set_result(""))
        else:
            why = "it is not among `recipes`, parts are under way, or capture has not followed"
            self._answer(done.request, lambda future: future.set_exception(Refused(why)))

    async def _job_taken(self, taken: orders.JobTaken) -> None:
        if taken.request not in self._answers:
            return  # who asked has given up; the verdict will be in the journal
        name = job_id(taken.epoch, taken.acquisition_id)
        job = OpenJob(job_id=name, epoch=taken.epoch, acquisition_id=taken.acquisition_id)
        await self._take(lambda now: vision.job_started(now, job))
        self._answer(taken.request, lambda future: future.set_result(name))

    def _answer(self, request: int, give: Callable[[asyncio.Future[str]], None]) -> None:
        future = self._answers.get(request)
        if future is not None and not future.done():
            give(future)

    def _fault(self, status: orders.WorkerStatus) -> str:
        if status.recipe_sha256 != self.recipe.sha256:
            return OTHER_RECIPE
        return "" if status.is_ready else NOT_READY

    async def _take(self, change: Callable[[vision.Vision], Outcome]) -> None:
        """Make one change, show it and tell it, before the next."""
        async with self._turn:
            before = self._vision
            outcome = change(before)
            self._vision = outcome.vision
            self._tell_line()
            for told in outcome.told:
                await self._show(told)

    async def _show(self, told: vision.Told) -> None:
        match told:
            case vision.ResultReady(verdict):
                await self._show_result(verdict)
            case vision.StateChanged():
                await self._show_step(told)
            case vision.ErrorRaised(text):
                logger.warning("OPC UA state Error: %s", text)
                await self._nodes.hide_result()
        if not isinstance(told, vision.ResultReady):
            await self._events.send(told)

    async def _show_step(self, told: vision.StateChanged) -> None:
        await self._nodes.show_state(told.step.then)
        if told.step.outer:
            await self._nodes.show_transition(told.step.outer, is_automatic=False)
        if told.step.automatic:
            await self._nodes.show_transition(told.step.automatic, is_automatic=True)

    async def _show_result(self, verdict: Verdict) -> None:
        result, body = result_of(verdict), verdict_json.encode(verdict)
        fields = self._structures.fields(result, content_of(result, body))
        added = {
            "ResultEvaluation": result.evaluation,
            "ResultEvaluationCode": result.reason,
            "ResultEvaluationDetails": ua.LocalizedText(result.detail),
        }
        whole = self._structures.result(result, content_of(result, body))
        await self._nodes.show_result(whole, plain_of(verdict, result, body), result.created)
        await self._events.send_result({**fields, **added}, is_pass=is_pass(verdict))


def plain_of(verdict: Verdict, result: Result, body: bytes) -> dict[str, Any]:
    """Return the values of LatestVerdict by name."""
    return {
        "Epoch": verdict.epoch,
        "JobId": result.job_id,
        "ResultId": result.result_id,
        "PartId": result.part_id,
        "MeasId": result.measurement,
        "TriggerId": verdict.trigger.trigger_id if verdict.trigger else 0,
        "ResultEvaluation": result.evaluation,
        "ResultState": result.result_state,
        "Reason": result.reason,
        "Detail": result.detail,
        "IsSimulated": result.is_simulated,
        "Recipe": result.recipe.id,
        "CreationTime": result.created,
        "Verdict": body.decode(),
        "Sequence": verdict.seq,
    }
