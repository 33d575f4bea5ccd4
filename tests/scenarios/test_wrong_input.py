"""What is wrong is said in words, with what to do: never a traceback, never a station that half runs.

Each test starts the real command line. Exit code 2: the user must change something; 1: it failed while running.
"""

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.running_station import RunningStation, station, write_config
from tests.waiting import wait_until


@pytest.mark.parametrize("verb", ["run", "worker", "status"])
def test_every_problem_of_the_configuration_is_said_at_once(tmp_path: Path, verb: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("station: {name: no}\nrecipe: r.yaml\nmodle: m.json\nqueue: {credit: 99}\n")
    ended = station([verb, "--config", config])
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    lines = ended.stderr.splitlines()
    assert lines[0].startswith(f"{config}:1: station.name: found no")
    assert lines[1] == f"{config}:1: model: missing; expected a path."
    assert lines[2].startswith(f'{config}:3: modle: unknown key. Did you mean "model"?')
    assert lines[3].startswith(f"{config}:4: queue.credit: found 99; expected a whole number from 1 to 16")


@pytest.mark.parametrize("verb", ["run", "capture", "check"])
def test_a_wrong_recipe_is_a_wrong_configuration(tmp_path: Path, verb: str) -> None:
    config = write_config(tmp_path)
    (tmp_path / "recipe/golden.png").unlink()
    ended = station([verb, "--config", config])
    assert ended.returncode == 2
    assert "golden.png cannot be read" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("verb", ["run", "check"])
def test_a_missing_model_is_a_wrong_configuration(tmp_path: Path, verb: str) -> None:
    ended = station([verb, "--config", write_config(tmp_path, engine={"kind": "llama"})])
    assert ended.returncode == 2
    assert "no-model/manifest.json: cannot be read" in ended.stderr
    assert "export the model again" in ended.stderr


def test_a_missing_hot_folder_ends_the_station_with_what_to_do(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    (tmp_path / "hot").rmdir()
    ended = station(["run", "--config", config])
    assert ended.returncode == 1
    assert f"The hot folder {tmp_path}/hot does not exist." in ended.stderr
    checked = station(["check", "--config", config])
    assert checked.returncode == 1
    assert f"mkdir -p {tmp_path}/hot" in checked.stdout


def test_a_port_in_use_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        config = write_config(tmp_path, outputs={"modbus_server": {"port": port}, "publisher": {"enabled": False}})
        ended = station(["worker", "--config", config])
        checked = station(["check", "--config", config])
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "outputs.modbus_server.port" in ended.stderr
    assert checked.returncode == 1
    assert "Another program has it" in checked.stdout


def test_a_second_station_on_the_same_folders_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    with RunningStation(config) as first:
        for verb, said in (("capture", "is used by another station"), ("worker", "is in use by another worker")):
            second = station([verb, "--config", config])
            assert second.returncode == 1
            assert said in second.stderr
        assert first.plc()["Online"]


@pytest.mark.parametrize("lock", ["spool/.lock", "journal.sqlite.lock"])
def test_when_one_service_dies_the_other_is_ended_and_run_fails(tmp_path: Path, lock: str) -> None:
    config = write_config(tmp_path)
    other = {"spool/.lock": "journal.sqlite.lock", "journal.sqlite.lock": "spool/.lock"}[lock]
    with RunningStation(config) as running:
        left = running.pid_of(other)
        os.kill(running.pid_of(lock), signal.SIGKILL)
        running.expected_code = running.process.wait(10)
        assert running.expected_code == 1
        wait_until(lambda: not Path(f"/proc/{left}").exists())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chekc"], "Did you mean 'check'?"),
        (["inspect", "nowhere.png"], "nowhere.png: there is no such file."),
        (["watch", "--since", "three"], "expected EPOCH:SEQ"),
        (["run", "--confg", "x"], "Possible options: --config"),
    ],
)
def test_wrong_arguments_are_said(tmp_path: Path, arguments: list[str], said: str) -> None:
    ended = station(arguments, cwd=tmp_path)
    assert ended.returncode == 2
    assert said in ended.stderr
