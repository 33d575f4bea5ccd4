"""The PLC promotes a model and takes it back: through its registers, the gate, config.yaml, a restart."""

import json
import shutil
from pathlib import Path

import pytest
from pyModbusTCP.client import ModbusClient

from station.errors import StationError
from station.journal_reader import JournalReader
from station.manifest import load_manifest
from station.model_releases import Gate, changes, write_gate
from station.outputs.plc_control import Control
from station.outputs.plc_orders import CommandCode, Refusal
from station.outputs.plc_state import OfflineReason
from station.outputs.plc_words import encode_control
from station.settings_file import load_settings
from tests.pictures import Pose, draw_part, encoded
from tests.running_station import ROOT, RunningStation, write_config
from tests.waiting import wait_until

NOT_UP = {OfflineReason.BOOTING, OfflineReason.MODEL_LOADING}


def release(folder: Path, name: str) -> Path:
    """Return the manifest of a release below `folder`: the shipped model under another name."""
    place = folder / "models" / name
    place.mkdir(parents=True)
    data = json.loads((ROOT / "models/pins-tiny/manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps(data | {"name": name}))
    for file in ("text-F16.gguf", "mmproj-F16.gguf"):
        shutil.copyfile(ROOT / "models/pins-tiny" / file, place / file)
    return place / "manifest.json"


def find_better(new: Path, old: Path) -> None:
    """Write what `station model compare` does when the new release is better."""
    new_sha256, old_sha256 = (load_manifest(path).ref.sha256 for path in (new, old))
    write_gate(new, Gate(new_sha256, old_sha256, "pins", "set", "0" * 64, True, (), "2026-01-01T00:00:00+00:00"))


def command(station: RunningStation, code: CommandCode) -> dict[str, int]:
    """Give a command as a PLC does and return the status block at its end; ExecuteCommand stays 1."""
    write(station, Control())
    write(station, Control(command_code=code, execute_command=True))
    return wait_until(lambda: now if (now := station.plc())["CommandCompleted"] or now["CommandFailed"] else {})


def write(station: RunningStation, control: Control) -> None:
    plc = ModbusClient(port=station.settings.outputs.modbus_server.port, timeout=2)
    assert plc.write_multiple_registers(0, encode_control(control))
    plc.close()


def model_of(station: RunningStation, name: str) -> str:
    """Deliver a picture and return the name of the model that judged it."""
    station.drop(name, encoded(draw_part(Pose()), ".png"))
    journal = JournalReader(station.settings.journal.path)
    return wait_until(lambda: journal.find(name), 20)[0].model.name


def started_anew(station: RunningStation, worker: int) -> None:
    """Wait until another worker has loaded its model."""

    def is_up() -> bool:
        try:
            return station.plc()["OfflineReason"] not in NOT_UP
        except StationError:
            return False

    wait_until(lambda: station.pid_of("journal.sqlite.lock") != worker, 30)
    wait_until(is_up, 30)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_plc_promotes_a_better_model_and_takes_it_back(tmp_path: Path) -> None:
    old, new = release(tmp_path, "old"), release(tmp_path, "new")
    config = write_config(tmp_path, model="models/old/manifest.json", engine={"kind": "llama"})
    form = json.loads(config.read_text())
    model = f"model: {json.dumps(form.pop('model'))}"
    config.write_text(model + "\n" + "\n".join(f"{name}: {json.dumps(value)}" for name, value in form.items()) + "\n")
    with RunningStation(config, until=lambda plc: plc["OfflineReason"] not in NOT_UP, start_s=60) as station:
        refused = command(station, CommandCode.PROMOTE_MODEL)
        assert (refused["CommandFailed"], refused["WarningCode"]) == (1, Refusal.NO_BETTER_MODEL)

        find_better(new, old)
        worker = station.pid_of("journal.sqlite.lock")
        done = command(station, CommandCode.PROMOTE_MODEL)
        assert (done["CommandCompleted"], done["Online"]) == (1, 0)
        started_anew(station, worker)
        assert model_of(station, "a.png") == "new"

        # A PLC that still says ExecuteCommand after the restart does not undo what it ordered.
        write(station, Control(command_code=CommandCode.ROLLBACK_MODEL, execute_command=True))
        assert station.plc()["WarningCode"] == Refusal.EXECUTE_HELD
        assert command(station, CommandCode.ROLLBACK_MODEL)["CommandCompleted"]
    assert load_settings(config).model == old
    assert [change.action for change in changes(load_settings(config))] == ["promote", "rollback"]
