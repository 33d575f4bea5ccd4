"""An OPC UA client that knows nothing of the station, node-opcua from npm, drives whole inspections.

It finds everything by the companion model's browse names. The types come from the OPC Foundation's file that npm ships.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.opcua_clients import PASSWORD, USER, prepare
from tests.opcua_station import wait_listening, write_opcua_config
from tests.pictures import Pose, draw_part, encoded
from tests.running_station import RunningStation

FOLDER = Path(__file__).parents[1] / "node_opcua"
NODESETS = FOLDER / "node_modules/node-opcua-nodesets/nodesets"
LIMIT_S = 60

pytest.importorskip("asyncua", reason="asyncua is not installed (opcua extra)")
needs_node = pytest.mark.skipif(
    not shutil.which("node") or not NODESETS.is_dir(),
    reason="node or its packages are missing: apt install nodejs npm; npm ci --prefix tests/node_opcua",
)


@pytest.fixture
def opcua(tmp_path: Path) -> Iterator[RunningStation]:
    """A station that a client drives."""
    config = write_opcua_config(tmp_path, opcua={"nodesets": str(NODESETS), "picture_window_ms": 2000})
    prepare(config)
    with RunningStation(config) as station:
        wait_listening(station)
        assert "read from the nodeset file" in station.log
        yield station


@needs_node
@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_foreign_client_drives_whole_inspections(opcua: RunningStation) -> None:
    pictures = {
        "SN-001": ("good.png", encoded(draw_part(Pose(shift_x=5)), ".png")),
        "SN-002": ("torn.png", encoded(draw_part(), ".png")[:5000]),
    }
    said: list[dict[str, Any]] = []
    endpoint = f"opc.tcp://127.0.0.1:{opcua.settings.outputs.opcua.port}/station"
    clients = opcua.settings.config_path.parent / "clients"
    command = ["node", str(FOLDER / "client.js"), endpoint, str(clients), USER, PASSWORD, "test-pins-8", *pictures]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stderr is not None
        for line in client.stdout:
            if not line.startswith("{"):
                continue
            said.append(json.loads(line))
            if said[-1]["what"] == "camera":
                opcua.drop(*pictures[said[-1]["part"]])
        assert client.wait(LIMIT_S) == 0, client.stderr.read() + opcua.log

    states = [one["state"] for one in said if one["what"] == "state"]
    assert states == ["Preoperational", "Initialized", "Ready", "Ready", "Ready", "Halted", "Preoperational"]
    calls = [(one["name"], one["status"], one["outputs"][-1:]) for one in said if one["what"] == "call"]
    assert calls == [
        ("StartContinuous", "BadInvalidState", []),
        ("SelectModeAutomatic", "Good", [0]),
        ("PrepareRecipe", "Good", [-1]),  # another recipe
        ("PrepareRecipe", "Good", [0]),
        ("StartSingleJob", "Good", [0]),
        ("StartSingleJob", "Good", [0]),
        ("GetResultById", "Good", [0]),
        ("GetResultListFiltered", "Good", [0]),
        ("Halt", "Good", [0]),
        ("Reset", "Good", [0]),
    ]
    good, torn = (one for one in said if one["what"] == "event" and one["kind"] == "1024")
    check_result(opcua, good, part="SN-001", job="1-1", evaluation=1, state=1)
    check_result(opcua, torn, part="SN-002", job="1-2", evaluation=0, state=4)
    exposed = [one["JobId"]["id"] for one in said if one["what"] == "event" and one["kind"] == "1025"]
    assert exposed == ["1-1"]  # a torn picture does not let the part move on
    fetched, listed = (one["outputs"] for one in said if one["what"] == "call" and one["name"].startswith("GetResult"))
    assert fetched[1]["resultId"] == torn["ResultId"]
    assert [result["resultId"] for result in listed[3]] == [good["ResultId"]]
    assert [result["measId"]["id"] for result in listed[3]] == ["M-1"]


def check_result(
    station: RunningStation, event: dict[str, Any], *, part: str, job: str, evaluation: int, state: int
) -> None:
    """The event says the same as the verdict that is in it, with its hashes."""
    number, (_, code), body = event["ResultContent"]
    verdict = json.loads(body)
    assert (event["PartId"]["id"], event["JobId"]["id"], event["ResultState"]) == (part, job, state)
    assert number == event["ResultEvaluation"] == evaluation
    assert code == event["ResultEvaluationCode"]
    assert event["ResultId"]["id"] == verdict["job_id"]
    assert event["InternalRecipeId"]["hash"] == verdict["recipe_sha256"]
    assert event["InternalConfigurationId"]["hash"] == verdict["config_sha256"] == station.settings.config_sha256
    assert event["ExternalConfigurationId"]["hash"] == verdict["model"]["sha256"]
    assert event["IsSimulated"] is True
