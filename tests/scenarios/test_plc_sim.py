"""`station plc-sim` on a running, triggered station, with a folder of pictures as its camera."""

import json
from pathlib import Path

from tests.pictures import Pose, draw_part, encoded
from tests.ports import free_port
from tests.running_station import RunningStation, station, write_config


def test_the_simulator_runs_parts_and_logs_every_act(tmp_path: Path) -> None:
    server = {"port": free_port(), "mode": "triggered", "picture_window_ms": 200}
    outputs = {"modbus_server": server, "publisher": {"enabled": False}, "archive": {"folder": "archive"}}
    config = write_config(tmp_path, outputs=outputs)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(2):
        (pictures / f"{number}.png").write_bytes(encoded(draw_part(Pose(shift_x=number)), ".png"))
    log = tmp_path / "acts.jsonl"
    options: list[str | Path] = ["plc-sim", "--config", config, "--accept-simulated", "--log", log]
    with RunningStation(config, until=lambda plc: plc["OfflineReason"] == 8):
        done = station([*options, "--parts", "2", "--pictures", pictures])
    assert done.returncode == 0, done.stderr
    assert "2 accepted, 0 rejected" in done.stdout
    acts = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(act["trigger_id"], act["accepted"]) for act in acts] == [(1, True), (2, True)]


def test_a_free_running_station_is_refused_with_a_hint(tmp_path: Path) -> None:
    done = station(["plc-sim", "--config", write_config(tmp_path)])
    assert done.returncode == 1
    assert "outputs.modbus_server.mode" in done.stderr
