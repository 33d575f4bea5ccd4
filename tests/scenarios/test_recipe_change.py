"""The PLC changes the recipe of a running station: real capture, worker and engine child, a PLC that scans."""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from station.engine.scripted import Script
from station.journal_reader import JournalReader
from station.outputs.plc_control import Control
from station.outputs.plc_orders import CommandCode
from station.outputs.plc_rules import Acted, Part, Program
from station.outputs.plc_words import encode_control
from station.plc_client import PlcClient
from station.plc_simulator import SCAN_S, PlcSimulator
from station.records import Evaluation, Reason
from tests.pictures import Pose, draw_part, encoded, write_recipe
from tests.ports import free_port
from tests.running_station import RunningStation, write_config
from tests.waiting import wait_until


def waits_for_its_plc(plc: dict[str, int]) -> bool:
    """A triggered station is offline until its PLC's heartbeat comes."""
    return plc["OfflineReason"] == 8


@pytest.fixture
def config(tmp_path: Path) -> Path:
    server = {"port": free_port(), "mode": "triggered", "picture_window_ms": 1_000}
    outputs = {"modbus_server": server, "publisher": {"enabled": False}, "archive": {"folder": "archive"}}
    # Asked by report, with other modes: the engine must prepare another question.
    write_recipe(tmp_path / "second", recipe="second", ask="report", defect_modes=["missing", "bent", "short"])
    recipes = {1: "recipe/recipe.yaml", 2: "second/recipe.yaml"}
    return write_config(tmp_path, outputs=outputs, recipes=recipes)


@pytest.fixture
def station(config: Path, tmp_path: Path) -> Iterator[RunningStation]:
    script = tmp_path / "script.json"
    count = "8"  # the report's first slot: how many pins
    script.write_bytes(msgspec.json.encode(Script(answers={"pins": (count, "passed", "none", "none")})))
    with RunningStation(config, script, until=waits_for_its_plc) as station:
        station.pid_of("spool/.lock")  # capture is there too
        yield station


def plc_on(station: RunningStation, recipe: int, last_trigger_id: int = 0) -> PlcSimulator:
    def fire(part: int) -> None:
        station.drop(f"{recipe}-{part}.png", encoded(draw_part(Pose(shift_x=part, shift_y=recipe)), ".png"))

    program = Program(window_ms=5_000, accepts_simulated=True, recipe=recipe, last_trigger_id=last_trigger_id)
    return PlcSimulator("127.0.0.1", station.settings.outputs.modbus_server.port, program, fire)


def decide(plc: PlcSimulator) -> Acted:
    acted = plc.inspect(Part(), limit_s=20)
    assert acted, f"no decision: {plc.program.step.name} {plc.shown()}"
    return acted


def names(station: RunningStation) -> list[tuple[str, Evaluation]]:
    last = JournalReader(station.settings.journal.path).last(20)
    return [(verdict.recipe, verdict.evaluation) for verdict in reversed(last)]


@pytest.mark.timeout(90)
def test_the_plc_has_its_recipe_before_its_part(station: RunningStation) -> None:
    for number, recipe in enumerate((1, 2, 1)):
        with plc_on(station, recipe, last_trigger_id=number) as plc:
            acted = decide(plc)
            assert acted.accepted, (acted, plc.shown(), station.log)
            assert (plc.shown()["RecipeLoaded"], plc.shown()["RecipeUsed"]) == (recipe, recipe)
    assert names(station) == [(name, Evaluation.OK) for name in ("test-pins-8", "second", "test-pins-8")]


def test_a_recipe_without_a_number_is_refused_and_nothing_changes(station: RunningStation) -> None:
    with plc_on(station, recipe=1) as plc:
        acted = decide(plc)
        assert acted.accepted, (acted, plc.shown(), station.log)
        order = Control(
            plc_heartbeat=9, command_code=CommandCode.PREPARE_RECIPE, command_argument=7, execute_command=True
        )
        plc._client.write_registers(0, encode_control(order))
        wait_until(lambda: station.plc()["CommandFailed"])
        assert station.plc()["RecipeLoaded"] == 1


def test_a_picture_of_the_recipe_before_is_never_judged_with_the_new_one(tmp_path: Path) -> None:
    """Free running: pictures wait in the spool while the recipe is changed and the engine is away."""
    port = free_port()
    server = {"port": port, "mode": "free_running"}
    outputs = {"modbus_server": server, "publisher": {"enabled": False}, "archive": {"folder": "archive"}}
    write_recipe(tmp_path / "second", recipe="second")
    config = write_config(tmp_path, outputs=outputs, recipes={1: "recipe/recipe.yaml", 2: "second/recipe.yaml"})
    with RunningStation(config) as station, PlcClient("127.0.0.1", port) as plc:
        order = Control(
            plc_heartbeat=1, command_code=CommandCode.PREPARE_RECIPE, command_argument=2, execute_command=True
        )
        station.pid_of("spool/.lock")
        picture = 0
        plc._client.write_registers(0, encode_control(order))
        while not plc.status()["CommandCompleted"]:  # pictures all the while
            picture += 1
            station.drop(f"{picture}.png", encoded(draw_part(Pose(shift_x=picture % 20)), ".png"))
            time.sleep(SCAN_S)
        after = picture + 1
        station.drop(f"{after}.png", encoded(draw_part(), ".png"))
        wait_until(lambda: plc.status()["CountTriggers"] == after, 30)
        verdicts = list(reversed(JournalReader(station.settings.journal.path).last(after)))
    assert (verdicts[-1].recipe, verdicts[-1].evaluation) == ("second", Evaluation.OK)
    assert {v.evaluation for v in verdicts if v.reason is Reason.RECIPE_CHANGED} <= {Evaluation.UNDEFINED}
    by_recipe = [v.recipe for v in verdicts if v.evaluation is Evaluation.OK]
    assert by_recipe == sorted(by_recipe, reverse=True)  # test-pins-8 first, then second: never back
