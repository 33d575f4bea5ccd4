"""The main job: a picture dropped in the hot folder is the same verdict in journal, stream, registers and archive.

Both services run as processes. The stream is read with a plain ZeroMQ socket, the registers with a plain Modbus client:
what they say is compared with nothing of the station's own code in between.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zmq
from pymodbus.client import ModbusTcpClient

from tests.pictures import Pose, draw_part, encoded
from tests.running_station import RunningStation, write_config
from tests.waiting import wait_until

GOOD = encoded(draw_part(Pose(shift_x=12, shift_y=-7, rotation_deg=3)), ".png")
SIMULATED = 1 << 7


@pytest.fixture
def stream() -> Iterator[zmq.Socket[bytes]]:
    """A plain subscriber."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.subscribe("verdict.")
        socket.subscribe("heartbeat.")
        yield socket


def connect(socket: zmq.Socket[bytes], station: RunningStation) -> None:
    """Subscribe and wait for a heartbeat, so that no verdict is missed."""
    socket.connect(station.settings.outputs.publisher.endpoint)
    assert socket.poll(5000)
    topic, _ = socket.recv_multipart()
    assert topic == b"heartbeat.test-station"


def next_verdict(socket: zmq.Socket[bytes]) -> tuple[str, dict[str, Any]]:
    """Return topic and body of the next verdict on the stream."""
    while socket.poll(10_000):
        topic, body = socket.recv_multipart()
        if topic.startswith(b"verdict."):
            return topic.decode(), json.loads(body)
    raise AssertionError("no verdict on the stream")


def registers(station: RunningStation) -> list[int]:
    """Return the 64 input registers."""
    client = ModbusTcpClient("127.0.0.1", port=station.settings.outputs.modbus_server.port)
    try:
        assert client.connect()  # type: ignore[no-untyped-call]
        return list(client.read_input_registers(0, count=64).registers)
    finally:
        client.close()  # type: ignore[no-untyped-call]


def journal_row(station: RunningStation, job_id: str) -> dict[str, Any]:
    """Return the verdict of this job as the journal has it."""
    with closing(sqlite3.connect(f"file:{station.settings.journal.path}?mode=ro", uri=True)) as connection:
        (row,) = connection.execute("SELECT json FROM verdict WHERE job_id = ?", (job_id,)).fetchall()
    result: dict[str, Any] = json.loads(row[0])
    return result


def test_a_good_and_an_unreadable_picture_are_the_same_everywhere(tmp_path: Path, stream: zmq.Socket[bytes]) -> None:
    with RunningStation(write_config(tmp_path)) as station:
        connect(stream, station)

        station.drop("good.png", GOOD)
        topic, verdict = next_verdict(stream)
        assert topic == "verdict.test-pins-8.OK"
        assert (verdict["evaluation"], verdict["result_state"], verdict["reason"]) == ("OK", "COMPLETED", "none")
        assert verdict["image"]["name"] == "good.png"
        assert verdict["regions"][0]["pins_counted"] == 8
        words = registers(station)
        assert words[0] & 0b1_1100_0001 == 0b0_1100_0001  # NG 0; OK, ResultsValid and Online 1
        assert words[1] & SIMULATED
        assert (words[8], words[11], words[12], words[13]) == (verdict["seq"], 1, 1, 0)
        check_kept(station, verdict, "archive/*/{job_id}/original/good.png")

        station.drop("torn.png", GOOD[:5000] + GOOD[-12:])
        topic, verdict = next_verdict(stream)
        assert topic == "verdict.test-pins-8.UNDEFINED"
        assert (verdict["result_state"], verdict["reason"]) == ("FAILED", "image_unreadable")
        words = registers(station)
        assert words[0] & 0b1_1100_0001 == 0b1_0100_0001  # NG 1, OK 0
        assert (words[8], words[11], words[12], words[13]) == (verdict["seq"], 0, 4, 2000)
        check_kept(station, verdict, "quarantine/{job_id}/torn.png")


def test_a_defect_is_the_same_everywhere(tmp_path: Path, stream: zmq.Socket[bytes]) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"answers": {"pins/A2": ["defective", "bent"]}}))
    with RunningStation(write_config(tmp_path), script) as station:
        connect(stream, station)
        station.drop("bent.png", encoded(draw_part(bent={"A2": (6, 0)}), ".png"))
        topic, verdict = next_verdict(stream)
        assert topic == "verdict.test-pins-8.NOT_OK"
        assert verdict["reason"] == "defect_found"
        (region,) = verdict["regions"]
        assert (region["defect_mode"], region["defect_position"], region["p_defect"]) == ("bent", "A2", 1)
        assert region["report"].splitlines()[2] == "- your judgement->defective"
        words = registers(station)
        assert words[0] & 0b1_1100_0001 == 0b1_0100_0001  # NG 1, OK 0
        assert (words[11], words[13]) == (2, 1)
        assert (words[14], words[15], words[16]) == (8, 1, 2)  # pins inspected, pins NG, first NG pin
        check_kept(station, verdict, "archive/*/{job_id}/original/bent.png")


def check_kept(station: RunningStation, verdict: dict[str, Any], picture: str) -> None:
    """The journal and the archive have the stream's verdict; the picture is where it belongs and left the spool."""
    folder = station.settings.config_path.parent
    assert journal_row(station, verdict["job_id"]) == verdict
    (kept,) = wait_until(lambda: list(folder.glob(f"archive/*/{verdict['job_id']}/verdict.json")))
    assert json.loads(kept.read_text()) == verdict
    assert wait_until(kept.with_name("annotated.jpg").is_file)
    assert wait_until(lambda: list(folder.glob(picture.format(job_id=verdict["job_id"]))))
    wait_until(lambda: not [job for job in (folder / "spool").iterdir() if job.is_dir()])
