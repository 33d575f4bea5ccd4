"""The methods that clients call: who may, what they give back, and how a refusal is said.

A method that the state does not allow answers BadInvalidState; one that the user may not call BadUserAccessDenied. What
the station refuses for a reason of its own is `Error`, the last result: a number below 0 of `Refusal`; 0 is done.
"""

import asyncio
import enum
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from asyncua import ua

from station import verdict_json
from station.complaints import Complaints
from station.errors import StationError
from station.journal_reader import JournalReader
from station.opcua.companion import RECIPE_METHODS, RESULT_METHODS, STATE_METHODS
from station.opcua.credentials import Credentials, Right
from station.opcua.face import Face, Refused
from station.opcua.guard import user_name
from station.opcua.nodes import Callback
from station.opcua.results import Identity, result_of, wanted
from station.opcua.state_machine import Cause
from station.opcua.structures import Structures, content_of, hash_in, id_in, number_in
from station.records import Verdict

MOST_RESULTS = 100
"""Of one call of GetResultListFiltered."""
MOST_QUESTIONS = 2
"""To the journal at the same time; more wait."""
DO_NOT_CARE = 2
"""Of TriStateBooleanDataType; 0 is false, 1 true."""
NO_HANDLE = 0
"""Nothing is held for a client, so there is nothing to release."""

logger = logging.getLogger(__name__)


class Refusal(enum.IntEnum):
    """Why the station does not do what the state would allow."""

    UNKNOWN_RECIPE = -1
    """Not the recipe that is loaded, or another version of it."""
    NOT_TAKEN = -2
    """The worker does not take the job; the server's log says why."""
    NO_ANSWER = -3
    """The worker did not answer in time; the job may have been started all the same."""
    UNKNOWN_RESULT = -4
    """The journal has no such result."""
    WRONG_ARGUMENT = -5
    """An argument is out of range."""
    NO_JOURNAL = -6
    """The journal cannot be read."""


Answer: TypeAlias = Any
"""A list of ua.Variant, the results in order, or one ua.StatusCode."""


def _error(number: int = 0) -> ua.Variant:
    return ua.Variant(int(number), ua.VariantType.Int32)


def _status(code: int) -> ua.StatusCode:
    return ua.StatusCode(code)


class Methods:
    """What each method does, by its name: `callbacks`."""

    def __init__(self, structures: Structures, credentials: Credentials, journal: JournalReader) -> None:
        self._structures = structures
        self._credentials = credentials
        self._journal = journal
        self._questions = asyncio.Semaphore(MOST_QUESTIONS)
        self.face: Face | None = None
        """Set before the server listens."""
        self.complaints = Complaints(logger)

    @property
    def callbacks(self) -> dict[str, Callback]:
        """Return the coroutine of every method of `companion`."""
        simple = {name: functools.partial(self._simple, Cause(name)) for name in (*STATE_METHODS, "Stop", "Abort")}
        own: dict[str, Callable[..., Awaitable[Answer]]] = {
            "StartSingleJob": self._start_single_job,
            "StartContinuous": self._start_continuous,
            "PrepareRecipe": self._prepare,
            "UnprepareRecipe": self._unprepare,
            "GetRecipeListFiltered": self._recipes,
            "GetResultById": self._result,
            "GetResultComponentsById": self._components,
            "GetResultListFiltered": self._results,
            "ReleaseRecipeHandle": self._release,
            "ReleaseResultHandle": self._release,
        }
        controls = {*simple, "StartSingleJob", "StartContinuous", "PrepareRecipe", "UnprepareRecipe"}
        return {
            name: self._guarded(name, does, needs_control=name in controls) for name, does in (simple | own).items()
        }

    def _guarded(self, name: str, does: Callable[..., Awaitable[Answer]], *, needs_control: bool) -> Callback:
        async def answer(_owner: ua.NodeId, *arguments: ua.Variant) -> Answer:
            if needs_control and self._credentials.right_of(user_name.get()) is not Right.CONTROL:
                self.complaints.say("no right", f"OPC UA: user {user_name.get()!r} may not call {name}.")
                return _status(ua.StatusCodes.BadUserAccessDenied)
            if self.face is None or len(arguments) != _ARGUMENTS[name]:
                return _status(ua.StatusCodes.BadArgumentsMissing)
            return await does(*arguments)

        return answer

    @property
    def _shown(self) -> Face:
        if self.face is None:
            raise RuntimeError("the methods are called before there is a face")
        return self.face

    async def _simple(self, cause: Cause, *_why: ua.Variant) -> Answer:
        done = await self._shown.call(cause)
        return [_error()] if done else _status(ua.StatusCodes.BadInvalidState)

    async def _prepare(self, external: ua.Variant, internal: ua.Variant) -> Answer:
        if not self._shown.may(Cause.PREPARE_RECIPE):
            return _status(ua.StatusCodes.BadInvalidState)
        found = self._named(external, internal)
        is_completed, error = False, int(Refusal.UNKNOWN_RECIPE)
        if found is not None:
            is_completed, error = await self._prepared(found)
        recipe = self._structures.identity("RecipeIdInternalDataType", found or Identity(id=""))
        return [ua.Variant(recipe), ua.Variant(is_completed), _error(error)]

    async def _prepared(self, recipe: Identity) -> tuple[bool, int]:
        try:
            return await self._shown.prepare(recipe), 0
        except Refused as why:
            self.complaints.say("refused recipe", f"OPC UA: recipe {recipe.id} was not prepared: {why}.")
            return False, Refusal.NOT_TAKEN

    async def _unprepare(self, external: ua.Variant, internal: ua.Variant) -> Answer:
        if not self._shown.may(Cause.UNPREPARE_RECIPE):
            return _status(ua.StatusCodes.BadInvalidState)
        is_ours = self._named(external, internal) == self._shown.recipe
        if is_ours:
            await self._shown.call(Cause.UNPREPARE_RECIPE)
        recipe = self._structures.identity("RecipeIdInternalDataType", self._shown.recipe)
        return [ua.Variant(recipe), _error(0 if is_ours else Refusal.UNKNOWN_RECIPE)]

    def _named(self, *ids: ua.Variant) -> Identity | None:
        """Return the recipe that every id which is given names, by name or hash; None: there is none."""
        names, hashes = {id_in(one) for one in ids} - {""}, {hash_in(one) for one in ids} - {""}
        fits = (one for one in self._shown.recipes if {one.id, one.sha256} >= names and {one.sha256} >= hashes)
        return next(fits, None) if names or hashes else None

    def _is_loaded(self, recipe: ua.Variant) -> bool:
        """Return True if no recipe is named, or the one in force."""
        return not id_in(recipe) or self._named(recipe) == self._shown.recipe

    async def _start_single_job(
        self, measurement: ua.Variant, part: ua.Variant, recipe: ua.Variant, *_rest: ua.Variant
    ) -> Answer:
        job, error = "", int(Refusal.UNKNOWN_RECIPE)
        if not self._shown.may(Cause.START_SINGLE_JOB):
            return _status(ua.StatusCodes.BadInvalidState)
        if self._is_loaded(recipe):
            job, error = await self._answered(self._shown.start_job(id_in(part), id_in(measurement)))
        return [ua.Variant(self._structures.named("JobIdDataType", job)), _error(error)]

    async def _answered(self, start: Awaitable[str]) -> tuple[str, int]:
        """Return the job that was started, or why it was not."""
        try:
            return await start, 0
        except Refused as why:
            self.complaints.say("refused job", f"OPC UA: a job was not started: {why}")
            return "", Refusal.NOT_TAKEN
        except TimeoutError:
            self.complaints.say("no answer", "OPC UA: a job was not started: the worker did not answer.")
            return "", Refusal.NO_ANSWER

    async def _start_continuous(
        self, _measurement: ua.Variant, _part: ua.Variant, recipe: ua.Variant, *_rest: ua.Variant
    ) -> Answer:
        if not self._shown.may(Cause.START_CONTINUOUS):
            return _status(ua.StatusCodes.BadInvalidState)
        job, error = "", int(Refusal.UNKNOWN_RECIPE)
        if self._is_loaded(recipe):
            job, error = await self._answered(self._shown.start_continuous())
        return [ua.Variant(self._structures.named("JobIdDataType", job)), _error(error)]

    async def _recipes(
        self, external: ua.Variant, _product: ua.Variant, prepared: ua.Variant, *_page_of: ua.Variant
    ) -> Answer:
        wanted_id, wanted_state = id_in(external), number_in(prepared)
        shown = [
            self._structures.identity("RecipeIdInternalDataType", recipe)
            for recipe in self._shown.recipes
            if wanted_id in {"", recipe.id} and wanted_state in {DO_NOT_CARE, int(recipe == self._shown.recipe)}
        ]
        return [*_page(shown, is_complete=True), _error()]

    async def _result(self, result_id: ua.Variant, _timeout: ua.Variant) -> Answer:
        verdict, error = await self._found(id_in(result_id))
        found = self._whole(verdict) if verdict else self._structures.empty("ResultDataType")
        return [_handle(), ua.Variant(found), _error(error)]

    async def _components(self, result_id: ua.Variant, _timeout: ua.Variant) -> Answer:
        verdict, error = await self._found(id_in(result_id))
        if verdict is None:
            return _status(ua.StatusCodes.BadNotFound if error == Refusal.UNKNOWN_RESULT else ua.StatusCodes.BadNoData)
        result = result_of(verdict)
        fields = self._structures.fields(result, content_of(result, verdict_json.encode(verdict)))
        parts = [self._structures.part(name, value) for name, value in list(fields.items())[2:]]
        return [ua.Variant(False), _handle(), *parts, _error(error)]

    async def _results(self, *arguments: ua.Variant) -> Answer:
        state, measurement, part, external, internal, _, configuration, _, job, most, start, _ = arguments
        try:
            fits = wanted(
                result_state=number_in(state),
                measurement=id_in(measurement),
                part_id=id_in(part),
                recipe=id_in(external) or id_in(internal),
                recipe_sha256=hash_in(internal),
                config_sha256=hash_in(configuration),
                job_id=id_in(job),
            )
        except ValueError:
            return [*_page([], is_complete=True), _error(Refusal.WRONG_ARGUMENT)]
        count = min(number_in(most) or MOST_RESULTS, MOST_RESULTS)
        found, error = await self._asked(lambda: self._journal.select(fits, number_in(start), count + 1))
        whole = [self._whole(verdict) for verdict in (found or [])[:count]]
        return [*_page(whole, is_complete=len(found or []) <= count), _error(error)]

    async def _release(self, _handle: ua.Variant) -> Answer:
        return [_error()]

    def _whole(self, verdict: Verdict) -> Any:
        result = result_of(verdict)
        return self._structures.result(result, content_of(result, verdict_json.encode(verdict)))

    async def _found(self, result_id: str) -> tuple[Verdict | None, int]:
        verdict, error = await self._asked(lambda: self._journal.of_job(result_id))
        return verdict, error or (0 if verdict else Refusal.UNKNOWN_RESULT)

    async def _asked(self, question: Callable[[], Any]) -> tuple[Any, int]:
        """Return the journal's answer, asked in a thread so that nothing else waits; None and why if it has none."""
        try:
            async with self._questions:
                return await asyncio.to_thread(question), 0
        except StationError as error:
            self.complaints.say("journal", f"OPC UA: {error}")
            return None, Refusal.NO_JOURNAL


def _handle() -> ua.Variant:
    return ua.Variant(NO_HANDLE, ua.VariantType.UInt32)


def _page(found: list[Any], *, is_complete: bool) -> list[ua.Variant]:
    """Return IsComplete, the count, a handle and the list."""
    items = ua.Variant(found, ua.VariantType.ExtensionObject, is_array=True)
    return [ua.Variant(is_complete), ua.Variant(len(found), ua.VariantType.UInt32), _handle(), items]


_ARGUMENTS = {
    name: len(method.inputs)
    for table in (STATE_METHODS, RECIPE_METHODS, RESULT_METHODS)
    for name, method in table.items()
} | {"StartSingleJob": 5, "StartContinuous": 5, "Stop": 2, "Abort": 2}
