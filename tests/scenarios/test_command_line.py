"""What people and scripts see of a station that runs: watch, status, trace, check, inspect."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from station.cli import app
from tests.pictures import draw_part, encoded
from tests.running_station import RunningStation, station, write_config

GOOD = encoded(draw_part(), ".png")
VERBS = [
    "run",
    "capture",
    "worker",
    "demo",
    "offline",
    "online",
    "watch",
    "check",
    "inspect",
    "teach",
    "evaluate",
    "calibrate",
    "status",
    "trace",
    "plc-map",
]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    shown = CliRunner().invoke(app, [verb, "--help"])
    assert shown.exit_code == 0
    assert f"Example: station {verb}" in shown.output


def test_help_names_every_verb() -> None:
    shown = station(["--help"]).stdout
    assert [verb for verb in VERBS if f"\n  {verb} " not in shown] == []


def test_a_running_station_tells_the_same_everywhere(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    with RunningStation(config) as running:
        running.drop("one.png", GOOD)
        running.drop("two.png", b"no picture")
        options = ["--config", str(config), "--json"]

        watched = station(["watch", *options, "--since", "0:0", "--count", "2", "--timeout", "10"])
        assert watched.returncode == 0
        verdicts = [json.loads(line) for line in watched.stdout.splitlines()]
        assert sorted((verdict["image"]["name"], verdict["evaluation"]) for verdict in verdicts) == [
            ("one.png", "OK"),
            ("two.png", "UNDEFINED"),
        ]

        status = json.loads(station(["status", *options]).stdout)
        assert status["capture_pid"] == running.pid_of("spool/.lock")
        assert status["worker_pid"] == running.pid_of("journal.sqlite.lock")
        assert status["online"] is True
        assert status["counts"] == {"UNDEFINED": 1, "OK": 1, "NOT_OK": 0, "NOT_DECIDABLE": 0}
        assert status["last"] == verdicts[::-1]

        (traced,) = json.loads(station(["trace", "one.png", *options]).stdout)
        assert traced["verdict"] == next(verdict for verdict in verdicts if verdict["image"]["name"] == "one.png")
        assert (traced["plc"]["OK"], traced["plc"]["NG"]) == (1, 0)

        checked = station(["check", *options])
        assert checked.returncode == 0
        plc = next(finding for finding in json.loads(checked.stdout) if finding["what"] == "PLC port")
        assert "answers: online" in plc["found"]

        late = station(["watch", *options, "--count", "1", "--timeout", "0.5"])
        assert late.returncode == 1
        assert "0 of 1 verdicts" in late.stderr


def test_a_station_that_does_not_run_can_be_asked_too(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    shown = station(["status", "--config", config])
    assert shown.returncode == 0
    assert "does not run" in shown.stdout
    unknown = station(["trace", "nothing.png", "--config", config])
    assert unknown.returncode == 1
    assert "Nothing is known of 'nothing.png'." in unknown.stderr


def test_inspect_judges_without_services_and_leaves_the_pictures_alone(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    pictures = [tmp_path / "good.png", tmp_path / "bad.jpg"]
    pictures[0].write_bytes(GOOD)
    pictures[1].write_bytes(b"no picture")
    ended = station(["inspect", *pictures, "--config", config, "--out", tmp_path / "out", "--json"])
    assert ended.returncode == 0
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [(verdict["evaluation"], verdict["reason"]) for verdict in found] == [
        ("OK", "none"),
        ("UNDEFINED", "image_unreadable"),
    ]
    assert found[0]["is_simulated"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "001-good.annotated.jpg",
        "002-bad.annotated.jpg",
    ]
    assert pictures[0].read_bytes() == GOOD
    assert not (tmp_path / "journal.sqlite").exists()


def test_the_demo_holds_every_verdict_against_its_label(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    pictures = tmp_path / "labelled"
    pictures.mkdir()
    (pictures / "good.png").write_bytes(GOOD)
    (pictures / "bad.jpg").write_bytes(b"no picture")
    labels = pictures / "labels.csv"
    arguments = ["demo", "--config", str(config), "--pictures", str(pictures), "--out", str(tmp_path / "out")]

    labels.write_text("image,evaluation,pin_count\ngood.png,OK,8\nbad.jpg,UNDEFINED,\n")
    right = station(arguments)
    assert right.returncode == 0, right.stderr
    assert "2 right, 0 wrong of 2" in right.stdout
    assert (tmp_path / "out/good.annotated.jpg").is_file()

    labels.write_text("image,evaluation,pin_count,defect_position\ngood.png,NOT_OK,7,A1\n")
    wrong = station(arguments)
    assert wrong.returncode == 1
    assert "wrong: NOT_OK expected, 7 pins expected, at A1 expected" in wrong.stdout
