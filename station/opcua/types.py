"""The types of the Machine Vision companion model in the server: from its nodeset file, or built from `companion`.

In: a server without them. Out: the same type nodes with the specification's numbers either way, and `ua.<Name>` classes
for its structures. The file is the OPC Foundation's; it is read from where the user or a package put it. A failure to
read it is a ConfigurationError: a half-read model must not be served.
"""

from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from asyncua import Node, Server, ua
from asyncua.common.manage_nodes import create_encoding
from asyncua.common.structures104 import make_structure

from station.errors import ConfigurationError
from station.opcua import companion
from station.opcua.companion import Field

RESULT_URI = "http://opcfoundation.org/UA/Machinery/Result/"
"""OPC 40001-101; of it only the enumeration of evaluations is served."""
EVALUATION_TYPE = 3002
EVALUATIONS = ("Undefined", "OK", "NotOK", "NotDecidable")


class Types:
    """Data types and types of nodes by name, after `load`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.vision = 0
        """Index of the companion model's namespace."""
        self.result = 0
        """Index of OPC 40001-101's."""

    async def load(self, folder: Path) -> bool:
        """Add all types; return True if the nodeset file in `folder` was read, False if they were built."""
        file = folder / companion.NODESET
        is_there = file.is_file()
        if is_there:
            await self._import(file)
        self.vision = await self._server.register_namespace(companion.URI)
        self.result = await self._server.register_namespace(RESULT_URI)
        await self._enumeration(self.id_of("Enumeration"), (EVALUATION_TYPE, self.result), "ResultEvaluationEnum")
        if not is_there:
            await self._build()
        await self._register()
        return is_there

    def structure(self, name: str, **fields: Any) -> Any:
        """Return a value of a structured data type of the companion model."""
        return ua.extension_objects_by_datatype[self.id_of(name)](**fields)

    def node(self, number: int) -> ua.NodeId:
        """Return the id of a node of the companion model."""
        return ua.NodeId(number, self.vision)

    def id_of(self, name: str) -> ua.NodeId:
        """Return the id of a type by its name, with or without the marks of `companion.Field`."""
        name = name.rstrip("?").removesuffix("[]")
        own: dict[str, int] = {
            **{key: number for key, (number, _) in companion.SIMPLE_TYPES.items()},
            **{key: number for key, (number, _) in companion.ENUMERATIONS.items()},
            **{key: structure.number for key, structure in companion.STRUCTURES.items()},
            **{key: kind.number for key, kind in companion.OBJECT_TYPES.items()},
            **{key: number for key, (number, _) in companion.VARIABLE_TYPES.items()},
        }
        if name in own:
            return self.node(own[name])
        return ua.NodeId(getattr(ua.ObjectIds, name))

    async def _import(self, file: Path) -> None:
        try:
            await self._server.import_xml(file)
        except (OSError, ParseError, ua.UaError, ValueError, KeyError) as error:
            raise ConfigurationError(
                [f"{file} cannot be read as the Machine Vision nodeset: {type(error).__name__}: {error}."],
                "Put the OPC Foundation's file there, or none: the types are built without it then.",
            ) from error

    async def _register(self) -> None:
        """Make the structures known to asyncua, each by a definition with all its fields.

        The file leaves out what is inherited, and asyncua would send those under the number of their abstract base.
        """
        for number, base in companion.SIMPLE_TYPES.values():
            ua.basetype_by_datatype[self.node(number)] = base
        for name, structure in companion.STRUCTURES.items():
            place, definition = self.id_of(name), self._definition(structure)
            await self._server.get_node(place).write_data_type_definition(definition)
            vars(ua).pop(name, None)
            made = make_structure(place, name, definition)[name]
            ua.register_extension_object(name, definition.DefaultEncodingId, made, place)

    async def _build(self) -> None:
        for name, (number, base) in companion.SIMPLE_TYPES.items():
            await self._data_type(self.id_of(base), number, name)
        for name, (number, words) in companion.ENUMERATIONS.items():
            await self._enumeration(self.id_of("Enumeration"), (number, self.vision), name, words)
        for name, structure in companion.STRUCTURES.items():
            await self._structure(name, structure)
        for name, (number, data_type) in companion.VARIABLE_TYPES.items():
            base_type = self._server.get_node(ua.NodeId(ua.ObjectIds.BaseDataVariableType))
            await base_type.add_variable_type(self.node(number), self._name(name), self.id_of(data_type))
        for name, kind in companion.OBJECT_TYPES.items():
            await self._object_type(name, kind)
        await self._states("VisionStateMachineType", companion.OUTER_STATES, range(500))
        await self._states("VisionAutomaticModeStateMachineType", companion.AUTOMATIC_STATES, range(500, 1000))

    def _name(self, name: str) -> ua.QualifiedName:
        return ua.QualifiedName(name, self.vision)

    async def _data_type(self, base: ua.NodeId, number: int, name: str) -> Node:
        return await self._server.get_node(base).add_data_type(self.node(number), self._name(name))

    async def _enumeration(
        self, base: ua.NodeId, place: tuple[int, int], name: str, words: tuple[str, ...] = EVALUATIONS
    ) -> None:
        node = await self._server.get_node(base).add_data_type(ua.NodeId(*place), ua.QualifiedName(name, place[1]))
        fields = [
            ua.EnumField(Value=value, DisplayName=ua.LocalizedText(word), Name=word) for value, word in enumerate(words)
        ]
        await node.write_data_type_definition(ua.EnumDefinition(Fields=fields))

    async def _structure(self, name: str, structure: companion.Structure) -> None:
        node = await self._data_type(self.id_of(structure.base), structure.number, name)
        await create_encoding(node, self.node(structure.encoding), ua.QualifiedName("Default Binary", 0))

    def _definition(self, structure: companion.Structure) -> ua.StructureDefinition:
        is_optional = any(kind.endswith("?") for _, kind in structure.fields)
        with_optional, plain = ua.StructureType.StructureWithOptionalFields, ua.StructureType.Structure
        return ua.StructureDefinition(
            DefaultEncodingId=self.node(structure.encoding),
            BaseDataType=self.id_of(structure.base),
            StructureType=with_optional if is_optional else plain,
            Fields=[self._field(field) for field in structure.fields],
        )

    def _field(self, field: Field) -> ua.StructureField:
        name, kind = field
        is_list = "[]" in kind
        return ua.StructureField(
            Name=name,
            DataType=self.id_of(kind),
            ValueRank=ua.ValueRank.OneDimension if is_list else ua.ValueRank.Scalar,
            ArrayDimensions=[0] if is_list else None,
            IsOptional=kind.endswith("?"),
        )

    async def _object_type(self, name: str, kind: companion.ObjectType) -> None:
        base = self._server.get_node(self.id_of(kind.base))
        node = await base.add_object_type(self.node(kind.number), self._name(name))
        for field, data_type in kind.properties:
            place = ua.NodeId(f"{name}.{field}", self.vision)
            variable = await node.add_property(
                place, self._name(field), None, ua.VariantType.Null, self.id_of(data_type)
            )
            await variable.set_modelling_rule(not data_type.endswith("?"))

    async def _states(self, owner: str, states: dict[str, tuple[int, int]], numbers: range) -> None:
        """Add states, and the transitions whose number is in `numbers`."""
        node = self._server.get_node(self.id_of(owner))
        for name, (place, number) in states.items():
            await self._numbered(node, place, name, ("StateType", "StateNumber", number))
        automatic = {150, 151}  # begin outside of the automatic mode, but belong to it
        for transition, (name, place) in companion.TRANSITIONS.items():
            if (500 if transition in automatic else transition) in numbers:
                await self._numbered(node, place, name, ("TransitionType", "TransitionNumber", transition.value))

    async def _numbered(self, owner: Node, place: int, name: str, what: tuple[str, str, int]) -> None:
        kind, label, number = what
        node = await add_object(owner, self.node(place), self._name(name), self.id_of(kind))
        value: Any = ua.Variant(number, ua.VariantType.UInt32)
        await node.add_property(ua.NodeId(f"{name}.{label}", self.vision), ua.QualifiedName(label, 0), value)


async def add_object(parent: Node, place: ua.NodeId, name: ua.QualifiedName, kind: ua.NodeId) -> Node:
    """Add an object without the children that its type would give it."""
    item = ua.AddNodesItem(
        ParentNodeId=parent.nodeid,
        ReferenceTypeId=ua.NodeId(ua.ObjectIds.HasComponent),
        RequestedNewNodeId=place,
        BrowseName=name,
        NodeClass=ua.NodeClass.Object,
        NodeAttributes=ua.ObjectAttributes(
            DisplayName=ua.LocalizedText(name.Name), Description=ua.LocalizedText(name.Name)
        ),
        TypeDefinition=kind,
    )
    (result,) = await parent.session.add_nodes([item])
    result.StatusCode.check()
    return Node(parent.session, result.AddedNodeId)
