"""The nodes of one station in the server: VisionSystem with its state machine, recipes and results, and LatestVerdict.

In: a server with its types. Out: nodes by name, and the few ways they change. All ids are texts of the station's own
namespace, as `VisionSystem.VisionStateMachine.Halt`, so that a client may keep them; the names below VisionSystem are
those of the companion model. LatestVerdict has the same result as plain variables, for clients that know no structures.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from asyncua import Node, Server, ua

from station.opcua import companion
from station.opcua.companion import Field, Method
from station.opcua.state_machine import State, Transition
from station.opcua.types import EVALUATION_TYPE, Types, add_object

SYSTEM = "VisionSystem"
MACHINE = f"{SYSTEM}.VisionStateMachine"
AUTOMATIC = f"{MACHINE}.AutomaticModeStateMachine"
RECIPES = f"{SYSTEM}.RecipeManagement"
RESULTS = f"{SYSTEM}.ResultManagement"
LATEST_RESULT = f"{RESULTS}.Results.LatestResult"
LATEST = "LatestVerdict"

PLAIN = {
    "Epoch": "UInt32",
    "JobId": "String",
    "ResultId": "String",
    "PartId": "String",
    "MeasId": "String",
    "TriggerId": "UInt32",
    "ResultEvaluation": "Int32",
    "ResultState": "Int32",
    "Reason": "Int32",
    "Detail": "String",
    "IsSimulated": "Boolean",
    "Recipe": "String",
    "CreationTime": "DateTime",
    "Verdict": "String",
    "Sequence": "UInt32",
}
"""Variables of LatestVerdict and their types, in the order in which they are written: Sequence last."""

AUTOMATIC_NAMES = {state: name for name, (_, number) in companion.AUTOMATIC_STATES.items() for state in [State(number)]}
OUTER_NAMES = {State.PREOPERATIONAL: "Preoperational", State.HALTED: "Halted", State.ERROR: "Error"}

Callback = Callable[..., Awaitable[Any]]

_NOT_ACTIVE = ua.StatusCode(ua.StatusCodes.BadStateNotActive)
_NO_TRANSITION = ua.StatusCode(ua.StatusCodes.BadWaitingForInitialData)


class StationNodes:
    """The station's nodes, after `build`."""

    def __init__(self, server: Server, types: Types, station: str) -> None:
        self._server = server
        self._types = types
        self._station = station
        self._own = 0

    def id_of(self, path: str) -> ua.NodeId:
        """Return the id of a node of the station."""
        return ua.NodeId(path, self._own)

    async def build(self, uri: str, methods: Mapping[str, Callback]) -> None:
        """Add all nodes; `methods` gives what each method does, by its name."""
        self._own = await self._server.register_namespace(uri)
        objects = self._server.nodes.objects
        system = await self._object(objects, SYSTEM, self._types.id_of("VisionSystemType"), self._station)
        machine = await self._object(system, MACHINE, self._types.id_of("VisionStateMachineType"))
        automatic = await self._object(machine, AUTOMATIC, self._types.id_of("VisionAutomaticModeStateMachineType"))
        recipes = await self._object(system, RECIPES, self._types.id_of("RecipeManagementType"))
        results = await self._object(system, RESULTS, self._types.id_of("ResultManagementType"))
        folder = await self._object(results, f"{RESULTS}.Results", self._types.id_of("ResultFolderType"))
        for owner, path in ((machine, MACHINE), (automatic, AUTOMATIC)):
            await self._machine_variables(owner, path)
        for owner, path, table in (
            (machine, MACHINE, companion.STATE_METHODS),
            (automatic, AUTOMATIC, companion.AUTOMATIC_METHODS),
            (recipes, RECIPES, companion.RECIPE_METHODS),
            (results, RESULTS, companion.RESULT_METHODS),
        ):
            for name, method in table.items():
                await self._method(owner, f"{path}.{name}", method, methods[name])
        await self._variable(folder, LATEST_RESULT, "ResultDataType", self._types.id_of("ResultType"))
        await self._latest(await self._object(objects, LATEST, ua.NodeId(ua.ObjectIds.BaseObjectType), LATEST))
        await self._notifiers(system)

    async def show_state(self, state: State) -> None:
        """Show where both machines are."""
        outer = "Operational" if state.is_operational else OUTER_NAMES[state]
        number, state_number = companion.OUTER_STATES[outer]
        await self._show_current(MACHINE, outer, number, state_number)
        if state.is_operational:
            name = AUTOMATIC_NAMES[state]
            await self._show_current(AUTOMATIC, name, companion.AUTOMATIC_STATES[name][0], state.value)
        else:
            for path in ("CurrentState", "CurrentState.Id", "CurrentState.Number"):
                await self._write(f"{AUTOMATIC}.{path}", None, _NOT_ACTIVE)

    async def show_transition(self, transition: Transition, *, is_automatic: bool) -> None:
        """Show the last step of one machine."""
        path = f"{AUTOMATIC if is_automatic else MACHINE}.LastTransition"
        name, number = companion.TRANSITIONS[transition]
        await self._write(path, ua.LocalizedText(name))
        await self._write(f"{path}.Id", self._types.node(number))
        await self._write(f"{path}.Number", ua.Variant(transition.value, ua.VariantType.UInt32))
        await self._write(f"{path}.TransitionTime", datetime.now(UTC))

    async def show_result(self, result: Any, plain: Mapping[str, Any], at: datetime) -> None:
        """Show a result, as structure and as plain variables, Sequence last."""
        await self._write(LATEST_RESULT, result, at=at)
        for name, kind in PLAIN.items():
            value = ua.Variant(plain[name], ua.VariantType[kind])
            await self._write(f"{LATEST}.{name}", value, at=at)

    async def hide_result(self) -> None:
        """Show that no result holds: the station cannot inspect."""
        bad = ua.StatusCode(ua.StatusCodes.BadOutOfService)
        for path in (LATEST_RESULT, *(f"{LATEST}.{name}" for name in reversed(PLAIN))):
            await self._write(path, None, bad)

    async def _object(self, owner: Node, path: str, kind: ua.NodeId, name: str = "") -> Node:
        """Add an object; with a name of its own it is of the station's namespace, else of the companion model's."""
        own = ua.QualifiedName(name, self._own)
        browse = own if name else ua.QualifiedName(path.rpartition(".")[2], self._types.vision)
        return await add_object(owner, self.id_of(path), browse, kind)

    async def _method(self, owner: Node, path: str, method: Method, does: Callback) -> None:
        name = ua.QualifiedName(path.rpartition(".")[2], self._types.vision)
        arguments = ([self._argument(field) for field in fields] for fields in method)
        await owner.add_method(self.id_of(path), name, does, *arguments)

    def _argument(self, field: Field) -> ua.Argument:
        name, kind = field
        rank = ua.ValueRank.OneDimension if "[]" in kind else ua.ValueRank.Scalar
        return ua.Argument(Name=name, DataType=self._types.id_of(kind), ValueRank=rank)

    async def _machine_variables(self, owner: Node, path: str) -> None:
        current, last = f"{path}.CurrentState", f"{path}.LastTransition"
        state = await self._variable(owner, current, "LocalizedText", _type("FiniteStateVariableType"), base=True)
        step = await self._variable(owner, last, "LocalizedText", _type("FiniteTransitionVariableType"), base=True)
        for variable, place, name, kind in (
            (state, current, "Id", "NodeId"),
            (state, current, "Number", "UInt32"),
            (step, last, "Id", "NodeId"),
            (step, last, "Number", "UInt32"),
            (step, last, "TransitionTime", "UtcTime"),
        ):
            await self._variable(variable, f"{place}.{name}", kind, _type("PropertyType"), base=True)

    async def _latest(self, owner: Node) -> None:
        for name, kind in PLAIN.items():
            place, browse = self.id_of(f"{LATEST}.{name}"), ua.QualifiedName(name, self._own)
            is_evaluation = name == "ResultEvaluation"
            evaluation = ua.NodeId(EVALUATION_TYPE, self._types.result)
            data_type = evaluation if is_evaluation else self._types.id_of(kind)
            await _add_variable(owner, place, browse, data_type, _type("BaseDataVariableType"))

    async def _variable(self, owner: Node, path: str, kind: str, node_type: ua.NodeId, *, base: bool = False) -> Node:
        """Add a variable without a value yet; `base`: its name is one of the base model's."""
        browse = ua.QualifiedName(path.rpartition(".")[2], 0 if base else self._types.vision)
        return await _add_variable(owner, self.id_of(path), browse, self._types.id_of(kind), node_type)

    async def _notifiers(self, system: Node) -> None:
        """Let clients subscribe to events at the VisionSystem, which is a source below the Server object."""
        await system.set_event_notifier([ua.EventNotifier.SubscribeToEvents])
        await self._server.nodes.server.add_reference(system, ua.ObjectIds.HasNotifier)
        for kind in companion.OBJECT_TYPES:
            if kind.endswith("EventType"):
                await system.add_reference(self._types.id_of(kind), ua.ObjectIds.GeneratesEvent)

    async def _show_current(self, path: str, name: str, number: int, state_number: int) -> None:
        await self._write(f"{path}.CurrentState", ua.LocalizedText(name))
        await self._write(f"{path}.CurrentState.Id", self._types.node(number))
        await self._write(f"{path}.CurrentState.Number", ua.Variant(state_number, ua.VariantType.UInt32))

    async def _write(
        self, path: str, value: Any, status: ua.StatusCode | None = None, *, at: datetime | None = None
    ) -> None:
        variant = value if isinstance(value, ua.Variant) else ua.Variant(value)
        now = datetime.now(UTC)
        shown = ua.DataValue(variant, status or ua.StatusCode(), SourceTimestamp=at or now, ServerTimestamp=now)
        (
            await self._server.iserver.aspace.write_attribute_value(self.id_of(path), ua.AttributeIds.Value, shown)
        ).check()


def _type(name: str) -> ua.NodeId:
    return ua.NodeId(getattr(ua.ObjectIds, name))


async def _add_variable(
    owner: Node, place: ua.NodeId, name: ua.QualifiedName, data_type: ua.NodeId, node_type: ua.NodeId
) -> Node:
    """Add a variable that clients may read; its first status says that there is no value yet."""
    is_property = node_type == _type("PropertyType")
    item = ua.AddNodesItem(
        ParentNodeId=owner.nodeid,
        ReferenceTypeId=_type("HasProperty" if is_property else "HasComponent"),
        RequestedNewNodeId=place,
        BrowseName=name,
        NodeClass=ua.NodeClass.Variable,
        NodeAttributes=ua.VariableAttributes(
            DisplayName=ua.LocalizedText(name.Name),
            Description=ua.LocalizedText(name.Name),
            DataType=data_type,
            ValueRank=ua.ValueRank.Scalar,
            AccessLevel=ua.AccessLevel.CurrentRead.mask,
            UserAccessLevel=ua.AccessLevel.CurrentRead.mask,
        ),
        TypeDefinition=node_type,
    )
    (result,) = await owner.session.add_nodes([item])
    result.StatusCode.check()
    none_yet = ua.DataValue(ua.Variant(None), _NO_TRANSITION)
    await Node(owner.session, result.AddedNodeId).write_attribute(ua.AttributeIds.Value, none_yet)
    return Node(owner.session, result.AddedNodeId)
