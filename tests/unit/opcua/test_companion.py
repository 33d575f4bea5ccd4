"""The table of facts is the OPC Foundation's nodeset: every number, field, argument, base, where the file is here."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from station.opcua import companion
from station.opcua.companion import Field

FILE = Path(__file__).parents[2] / "node_opcua/node_modules/node-opcua-nodesets/nodesets" / companion.NODESET
NODES = "{http://opcfoundation.org/UA/2011/03/UANodeSet.xsd}"
TYPES = "{http://opcfoundation.org/UA/2008/02/Types.xsd}"
BASE = {"i=24": "BaseDataType", "i=22": "Structure", "i=58": "BaseObjectType", "i=61": "FolderType"} | {
    "i=2771": "FiniteStateMachineType",
    "i=2041": "BaseEventType",
    "i=2311": "TransitionEventType",
    "i=1": "Boolean",
    "i=6": "Int32",
    "i=7": "UInt32",
    "i=12": "String",
    "i=15": "ByteString",
    "i=21": "LocalizedText",
    "i=290": "Duration",
    "i=294": "UtcTime",
    "i=63": "BaseDataVariableType",
}

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="no nodeset file: npm ci --prefix tests/node_opcua")


class Nodeset:
    """The file, by number."""

    def __init__(self) -> None:
        root = ET.parse(FILE).getroot()  # noqa: S314 - a pinned package
        self.nodes = {node.get("NodeId", ""): node for node in root if node.get("NodeId")}
        self.aliases = {alias.get("Alias"): alias.text for alias in root.iter(f"{NODES}Alias")}
        self.uri = next(root.iter(f"{NODES}Uri")).text

    def name(self, number: int) -> str:
        return (self.nodes[f"ns=1;i={number}"].get("BrowseName") or "").removeprefix("1:")

    def type_name(self, node_id: str | None) -> str:
        """Return a data type's or type's name, given as id, alias or name."""
        found = self.aliases.get(node_id, node_id) or "i=24"
        return self.name(int(found.removeprefix("ns=1;i="))) if found.startswith("ns=1") else BASE.get(found, found)

    def base(self, number: int) -> str:
        node = self.nodes[f"ns=1;i={number}"]
        (base,) = (
            reference.text
            for reference in node.iter(f"{NODES}Reference")
            if reference.get("ReferenceType") == "HasSubtype" and reference.get("IsForward") == "false"
        )
        return self.type_name(base)

    def fields(self, number: int) -> list[Field]:
        found = []
        for field in self.nodes[f"ns=1;i={number}"].iter(f"{NODES}Field"):
            kind = self.type_name(field.get("DataType"))
            kind += "[]" if field.get("ValueRank") == "1" else ""
            found.append((field.get("Name") or "", kind + ("?" if field.get("IsOptional") else "")))
        return found

    def children(self, number: int) -> Iterator[ET.Element]:
        for reference in self.nodes[f"ns=1;i={number}"].iter(f"{NODES}Reference"):
            if reference.get("IsForward") != "false" and reference.text in self.nodes:
                yield self.nodes[reference.text]

    def child(self, number: int, name: str) -> ET.Element:
        return next(child for child in self.children(number) if child.get("BrowseName", "").split(":")[-1] == name)

    def number_in(self, number: int, label: str) -> int:
        """Return StateNumber or TransitionNumber."""
        value = self.child(number, label).find(f"{NODES}Value")
        assert value is not None
        return int(value[0].text or "")

    def arguments(self, method: ET.Element, which: str) -> list[Field]:
        number = int((method.get("NodeId") or "").removeprefix("ns=1;i="))
        try:
            holder = self.child(number, which)
        except StopIteration:
            return []
        return [self._argument(argument) for argument in holder.iter(f"{TYPES}Argument")]

    def _argument(self, argument: ET.Element) -> Field:
        data_type = argument.find(f"{TYPES}DataType")
        assert data_type is not None
        is_list = argument.findtext(f"{TYPES}ValueRank") == "1"
        return argument.findtext(f"{TYPES}Name") or "", self.type_name(data_type[0].text) + ("[]" if is_list else "")


@pytest.fixture(scope="module")
def nodeset() -> Nodeset:
    return Nodeset()


def test_uri_and_simple_types(nodeset: Nodeset) -> None:
    assert nodeset.uri == companion.URI
    for name, (number, base) in companion.SIMPLE_TYPES.items():
        assert (nodeset.name(number), nodeset.base(number)) == (name, base)
    for name, (number, words) in companion.ENUMERATIONS.items():
        assert nodeset.name(number) == name
        assert [word for word, _ in nodeset.fields(number)] == list(words)


@pytest.mark.parametrize("name", companion.STRUCTURES)
def test_structures(nodeset: Nodeset, name: str) -> None:
    structure = companion.STRUCTURES[name]
    assert (nodeset.name(structure.number), nodeset.base(structure.number)) == (name, structure.base)
    inherited = nodeset.fields(3019) if structure.base == "BinaryIdBaseDataType" else []
    assert inherited + nodeset.fields(structure.number) == list(structure.fields)
    encoding = nodeset.nodes[f"ns=1;i={structure.encoding}"]
    assert encoding.get("BrowseName") == "Default Binary"
    owners = {reference.text for reference in encoding.iter(f"{NODES}Reference")}
    assert f"ns=1;i={structure.number}" in owners


@pytest.mark.parametrize("name", companion.OBJECT_TYPES)
def test_object_and_event_types(nodeset: Nodeset, name: str) -> None:
    kind = companion.OBJECT_TYPES[name]
    assert (nodeset.name(kind.number), nodeset.base(kind.number)) == (name, kind.base)
    for field, data_type in kind.properties:
        variable = nodeset.child(kind.number, field)
        assert nodeset.type_name(variable.get("DataType")) == data_type.rstrip("?").removesuffix("[]")
        rules = {reference.text for reference in variable.iter(f"{NODES}Reference")}
        assert ("i=80" in rules) == data_type.endswith("?")  # i=80: optional, i=78: mandatory


def test_variable_types(nodeset: Nodeset) -> None:
    for name, (number, data_type) in companion.VARIABLE_TYPES.items():
        assert nodeset.name(number) == name
        assert nodeset.type_name(nodeset.nodes[f"ns=1;i={number}"].get("DataType")) == data_type


def test_states_and_transitions(nodeset: Nodeset) -> None:
    for name, (number, state_number) in (companion.OUTER_STATES | companion.AUTOMATIC_STATES).items():
        assert (nodeset.name(number), nodeset.number_in(number, "StateNumber")) == (name, state_number)
    for transition, (name, number) in companion.TRANSITIONS.items():
        assert (nodeset.name(number), nodeset.number_in(number, "TransitionNumber")) == (name, transition.value)


@pytest.mark.parametrize(
    ("owner", "table"),
    [
        ("VisionStateMachineType", companion.STATE_METHODS),
        ("VisionAutomaticModeStateMachineType", companion.AUTOMATIC_METHODS),
        ("RecipeManagementType", companion.RECIPE_METHODS),
        ("ResultManagementType", companion.RESULT_METHODS),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_methods_and_their_arguments(nodeset: Nodeset, owner: str, table: dict[str, companion.Method]) -> None:
    for name, method in table.items():
        found = nodeset.child(companion.OBJECT_TYPES[owner].number, name)
        assert nodeset.arguments(found, "InputArguments") == list(method.inputs), name
        assert nodeset.arguments(found, "OutputArguments") == list(method.outputs), name
    mandatory = {
        (child.get("BrowseName") or "").removeprefix("1:")
        for child in nodeset.children(companion.OBJECT_TYPES[owner].number)
        if child.tag == f"{NODES}UAMethod" and "i=78" in {ref.text for ref in child.iter(f"{NODES}Reference")}
    }
    assert mandatory <= table.keys()
