"""What takes a running station off the line besides the PLC: an operator, and a hot folder that is away."""

from pathlib import Path

import pytest

from station.journal_reader import JournalReader
from station.outputs.plc_state import FaultCode, OfflineReason
from station.records import Evaluation
from tests.pictures import Pose, draw_part, encoded
from tests.running_station import RunningStation, station, write_config
from tests.waiting import wait_until

PICTURE = encoded(draw_part(Pose()), ".png")


def sees(running: RunningStation, **wanted: int) -> None:
    """Wait until the PLC reads these."""
    wait_until(lambda: wanted.items() <= running.plc().items(), 15)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_operator_takes_the_station_off_the_line_and_gives_it_back(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    with RunningStation(config) as running:
        told = station(["offline", "--config", config, "--because", "the lens is cleaned"])
        assert told.returncode == 0, told.stderr
        sees(running, Online=0, OfflineReason=OfflineReason.SET_OFFLINE_BY_OPERATOR, Fault=0)
        assert "the lens is cleaned" in station(["status", "--config", config]).stdout
        running.drop("a.png", PICTURE)
        sees(running, CountOK=1, OK=0)  # judged and kept, never a pass
    still = RunningStation(config, until=lambda plc: plc["OfflineReason"] == OfflineReason.SET_OFFLINE_BY_OPERATOR)
    with still as running:
        assert station(["online", "--config", config]).returncode == 0
        sees(running, Online=1, OfflineReason=0)
        running.drop("b.png", PICTURE)
        sees(running, OK=1)

        hot = running.settings.capture.hot_folder
        hot.rename(hot.with_name("away"))
        sees(running, Online=0, OfflineReason=OfflineReason.STOPPED_OR_FAULT, FaultCode=FaultCode.FOLDER_UNREACHABLE)
        hot.with_name("away").rename(hot)
        sees(running, Online=1, FaultCode=0)
        running.drop("c.png", PICTURE)
        sees(running, CountOK=2)
    verdicts = JournalReader(tmp_path / "journal.sqlite").all()
    assert [(verdict.image.name, verdict.evaluation) for verdict in verdicts] == [
        (f"{name}.png", Evaluation.OK) for name in "abc"
    ]
    assert "No operator" in station(["online", "--config", config]).stdout
