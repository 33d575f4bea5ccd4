"""docs/opcua.md says what the code does: states, methods, errors, events, variables, limits."""

import re
from pathlib import Path

import pytest

pytest.importorskip("asyncua", reason="asyncua is not installed (opcua extra)")

from station.opcua import companion, credentials, guard
from station.opcua.methods import Refusal
from station.opcua.nodes import PLAIN
from station.opcua.state_machine import TABLE, Cause, State
from tests.docs.test_documents import first_cells, section, text_of

PAGE = text_of("docs/opcua.md")
METHODS = companion.STATE_METHODS | companion.AUTOMATIC_METHODS | companion.RECIPE_METHODS | companion.RESULT_METHODS


def rows(heading: str) -> list[list[str]]:
    """Return the cells of each row of the tables below a heading."""
    lines = [line for line in section(PAGE, heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_table_of_states_is_the_state_machine() -> None:
    documented = {name: (int(number), methods.split(", ")) for name, number, _, methods in rows("States")}
    names = {state: state.name.title().replace("_", "") for state in State}
    assert documented == {
        names[state]: (
            state.value,
            [cause.value for cause in Cause if (state, cause) in TABLE and cause.value in METHODS],
        )
        for state in State
    }


def test_the_table_of_errors_is_complete() -> None:
    documented = [(int(number), name.strip("`")) for number, name, _ in rows("Methods")]
    assert documented == [(int(refusal), refusal.name) for refusal in Refusal]


def test_the_table_of_events_is_complete() -> None:
    documented = {event.strip("`") for event in first_cells(section(PAGE, "Events"))}
    assert documented == {name for name in companion.OBJECT_TYPES if name.endswith("EventType")}


def test_the_table_of_variables_is_complete_and_in_order() -> None:
    found = re.findall(r"^\| `(\w+)` \| (\w+) \|$", section(PAGE, "What a result says"), re.MULTILINE)
    assert found == list(PLAIN.items())


def test_every_method_of_the_results_and_recipes_is_named() -> None:
    for name in METHODS:
        assert name in PAGE or name.startswith(("Release", "GetRecipe")), name


def test_the_limits_are_those_of_the_code() -> None:
    limits = " ".join(section(PAGE, "Security and limits").split())
    for text in (
        f"the last {credentials.MAX_REJECTED} refused",
        f"of {credentials.SHORTEST_PASSWORD} characters",
        f"After {credentials.MAX_FAILURES} wrong passwords",
        f"{guard.MAX_CONNECTIONS} connections",
        f"within {guard.LOGIN_WITHIN_S:g} s",
        f"up to {guard.MAX_MESSAGE_BYTES // 2**20} MiB in pieces up to {guard.MAX_CHUNK_BYTES // 1024} KiB",
        f"does not read {guard.MAX_UNSENT_BYTES // 2**20} MiB",
        f"{guard.MAX_SUBSCRIPTIONS} subscriptions",
    ):
        assert text in limits
    assert f"keeps at most {guard.MAX_QUEUE:,} events" in PAGE
    unit = (Path(__file__).parents[2] / "systemd/station-opcua.service").read_text()
    assert "MemoryMax=512M" in unit
    assert "allows 512 MiB of memory" in limits
