"""What the face tells, as events of the companion model. Clients subscribe at the Server object or at VisionSystem."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from asyncua import Server, ua
from asyncua.common.event_objects import BaseEvent

from station.opcua import companion, vision
from station.opcua.nodes import AUTOMATIC_NAMES, OUTER_NAMES, SYSTEM, StationNodes
from station.opcua.results import Identity
from station.opcua.state_machine import State, Transition
from station.opcua.structures import Structures
from station.opcua.types import Types

QUIET, RESULT, REJECT, ERROR = 100, 200, 500, 800
"""Severities, 1 to 1000."""
OK = 1

Fields = Mapping[str, Any]

_PLAIN = {
    bool: ua.VariantType.Boolean,
    int: ua.VariantType.Int32,
    datetime: ua.VariantType.DateTime,
    ua.NodeId: ua.VariantType.NodeId,
    ua.LocalizedText: ua.VariantType.LocalizedText,
}


class Events:
    """Sends events; `recipe` gives the one in force."""

    def __init__(
        self,
        server: Server,
        types: Types,
        nodes: StationNodes,
        structures: Structures,
        station: str,
        recipe: Callable[[], Identity],
    ) -> None:
        self._server = server
        self._types = types
        self._nodes = nodes
        self._structures = structures
        self._station = station
        self._recipe = recipe

    async def send_result(self, fields: Fields, *, is_pass: bool) -> None:
        """Send ResultReady with the fields of a result and what OPC 40001-101 adds to them."""
        evaluation, code, _ = (variant.Value for variant in fields["ResultContent"])
        message = f"Result {fields['ResultId'].Id}: evaluation {evaluation}, code {code}"
        await self._send("ResultReadyEventType", message, RESULT if is_pass else REJECT, fields)

    async def send(self, told: vision.Told) -> None:
        """Send what is no result."""
        match told:
            case vision.StateChanged():
                for name, fields in self._transitions(told):
                    await self._send("StateChangedEventType", name, QUIET, fields)
            case vision.RecipePrepared():
                await self._send("RecipePreparedEventType", self._recipe().id, QUIET, self._recipe_fields())
            case vision.JobStarted(job_id):
                await self._send("JobStartedEventType", f"Job {job_id} started", QUIET, self._job(job_id))
            case vision.AcquisitionDone(job_id):
                await self._send("AcquisitionDoneEventType", f"Picture of job {job_id}", QUIET, self._job(job_id))
            case vision.Ready(job_id):
                await self._send("ReadyEventType", f"Ready after job {job_id}", QUIET, self._job(job_id))
            case vision.ErrorRaised(text):
                await self._send("ErrorEventType", text, ERROR, {})
            case vision.ErrorResolved():
                await self._send("ErrorResolvedEventType", "The station can inspect again", QUIET, {})

    def _job(self, job_id: str) -> Fields:
        return {"JobId": self._structures.named("JobIdDataType", job_id)}

    def _recipe_fields(self) -> Fields:
        return {
            "ExternalId": self._structures.identity("RecipeIdExternalDataType", Identity(id=self._recipe().id)),
            "InternalId": self._structures.identity("RecipeIdInternalDataType", self._recipe()),
        }

    def _transitions(self, told: vision.StateChanged) -> Iterator[tuple[str, Fields]]:
        """Yield name and fields of the step of each machine that moved."""
        step = told.step
        if step.outer:
            yield self._transition(step.outer, _outer(told.before), _outer(step.then), companion.OUTER_STATES)
        if step.automatic:
            before = AUTOMATIC_NAMES.get(told.before, _outer(told.before))
            states = companion.OUTER_STATES | companion.AUTOMATIC_STATES
            yield self._transition(step.automatic, before, AUTOMATIC_NAMES[step.then], states)

    def _transition(
        self, transition: Transition, before: str, then: str, states: Mapping[str, tuple[int, int]]
    ) -> tuple[str, Fields]:
        name, number = companion.TRANSITIONS[transition]
        return name, {
            "Transition": ua.LocalizedText(name),
            "Transition/Id": self._types.node(number),
            "FromState": ua.LocalizedText(before),
            "FromState/Id": self._types.node(states[before][0]),
            "ToState": ua.LocalizedText(then),
            "ToState/Id": self._types.node(states[then][0]),
        }

    async def _send(self, kind: str, message: str, severity: int, fields: Fields) -> None:
        source = self._nodes.id_of(SYSTEM)
        event: Any = BaseEvent(source, message, severity)
        event.EventType = self._types.id_of(kind)
        event.EventId = uuid.uuid4().bytes
        event.SourceName = self._station
        event.Time = event.ReceiveTime = datetime.now(UTC)
        for name, value in fields.items():
            event.add_property(name, value, _variant_type(value))
        # asyncua does not pass events on along HasNotifier.
        for emitting in (source, ua.NodeId(ua.ObjectIds.Server)):
            event.emitting_node = emitting
            await self._server.iserver.subscription_service.trigger_event(event)


def _outer(state: State) -> str:
    return "Operational" if state.is_operational else OUTER_NAMES[state]


def _variant_type(value: Any) -> ua.VariantType:
    if isinstance(value, list):
        return ua.VariantType.Variant
    return _PLAIN.get(type(value), ua.VariantType.ExtensionObject)
