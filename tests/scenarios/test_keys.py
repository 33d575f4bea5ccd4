"""What other machines can reach lets in who is on the list and nobody else: a real worker, plain ZeroMQ and TCP.

All connect over 127.0.0.1 to addresses that are open to every network (0.0.0.0).
"""

import json
import resource
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq

from station import messages
from station.check import check
from station.finding import Level
from station.key_files import Group
from station.make_keys import make_keys
from station.records import Verdict
from station.watch import Watch
from station.wiring import watch
from tests.pictures import Pose, draw_part, encoded
from tests.ports import free_port
from tests.running_station import RunningStation, station, write_config
from tests.waiting import wait_until
from tests.worker_parts import IDENTITY

GOOD = encoded(draw_part(Pose(shift_x=4)), ".png")
RAW_CONNECTIONS = 1000
Socket = zmq.Socket[bytes]


def write_open_config(folder: Path) -> Path:
    """Write a config.yaml whose ZeroMQ addresses are open to every network."""
    path = write_config(folder, keys_folder="keys", queue={"endpoint": f"tcp://0.0.0.0:{free_port()}"})
    config = json.loads(path.read_text())
    for key in ("endpoint", "snapshot_endpoint"):
        config["outputs"]["publisher"][key] = f"tcp://0.0.0.0:{free_port()}"
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """An open station with keys; `dashboard` may subscribe, `camera` may send jobs."""
    config = write_open_config(tmp_path)
    keys = tmp_path / "keys"
    make_keys(keys, None, Group.SUBSCRIBERS, None)
    make_keys(keys, "dashboard", Group.SUBSCRIBERS, tmp_path / "dashboard")
    make_keys(keys, "camera", Group.CAPTURES, tmp_path / "camera")
    return config


def certificate(path: Path) -> dict[str, bytes]:
    """Return the keys in a file, read without the station's code."""
    lines = [line.strip().partition(" = ") for line in path.read_text().splitlines()]
    return {name: value.strip('"').encode() for name, equals, value in lines if equals}


def key_sets(config: Path) -> dict[str, dict[str, bytes]]:
    """Return what intruders show: name -> values of ZeroMQ's options."""
    folder = config.parent
    server = certificate(folder / "keys/station.key")["public-key"]
    own = dict(zip(("curve_publickey", "curve_secretkey"), zmq.curve_keypair(), strict=True))
    camera = certificate(folder / "camera/client.key_secret")
    listed_elsewhere = {"curve_publickey": camera["public-key"], "curve_secretkey": camera["secret-key"]}
    return {
        "no key": {},
        "wrong key of the station": own | {"curve_serverkey": zmq.curve_keypair()[0]},
        "not on the list": own | {"curve_serverkey": server},
        "on another list": listed_elsewhere | {"curve_serverkey": server},
    }


class Intruders:
    """A subscriber and a snapshot request with each set of keys, and a DEALER at the queue."""

    def __init__(self, context: zmq.Context[Socket], running: RunningStation, config: Path) -> None:
        publisher = running.settings.outputs.publisher
        self._context = context
        self._sockets: dict[str, Socket] = {}
        for name, options in key_sets(config).items():
            stream = self._connected(f"stream, {name}", zmq.SUB, publisher.endpoint, options)
            stream.subscribe("")
            self._connected(f"snapshot, {name}", zmq.DEALER, publisher.snapshot_endpoint, options).send_multipart(
                [b"", b'{"since": [0, 0]}']
            )
            if name != "on another list":
                hello = messages.encode(messages.Hello(identity=IDENTITY, recipe="r", recipe_sha256="0" * 64))
                self._connected(f"queue, {name}", zmq.DEALER, running.settings.queue.endpoint, options).send(hello)

    def _connected(self, name: str, kind: int, endpoint: str, options: dict[str, Any]) -> Socket:
        self._sockets[name] = made = self._context.socket(kind)
        made.linger = 0
        for option, value in options.items():
            setattr(made, option, value)
        made.connect(endpoint)
        return made

    def heard(self) -> list[str]:
        """Return who has got any message."""
        return [name for name, one in self._sockets.items() if one.poll(0)]

    def close(self) -> None:
        for one in self._sockets.values():
            one.close()


@pytest.fixture
def _many_files() -> Iterator[None]:
    """Let this process hold all the raw connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * RAW_CONNECTIONS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def context() -> Iterator[zmq.Context[Socket]]:
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


def next_name(stream: Watch) -> str:
    return next(event.image.name for event in stream if isinstance(event, Verdict))


@pytest.mark.slow
@pytest.mark.timeout(120)  # a thousand connections
@pytest.mark.usefixtures("_many_files")
def test_only_who_is_on_the_list_gets_verdicts(config: Path, context: zmq.Context[Socket]) -> None:
    folder = config.parent
    with RunningStation(config) as running, ExitStack() as stack:
        intruders = Intruders(context, running, config)
        stack.callback(intruders.close)
        settings = running.settings.model_copy(update={"keys_folder": folder / "dashboard"})
        dashboard = stack.enter_context(watch(settings, (0, 0), 20))
        itself = stack.enter_context(watch(running.settings, (0, 0), 20))
        running.drop("first.png", GOOD)
        assert next_name(dashboard) == next_name(itself) == "first.png"
        wait_until(lambda: "was not let in" in running.log)
        port = int(settings.outputs.publisher.endpoint.rpartition(":")[2])
        for _ in range(RAW_CONNECTIONS):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        running.drop("second.png", GOOD)
        assert next_name(dashboard) == next_name(itself) == "second.png"
        assert not intruders.heard()
        late = stack.enter_context(watch(settings, (0, 0), 20))
        assert [next_name(late), next_name(late)] == ["first.png", "second.png"]
        assert not intruders.heard()


def test_secret_keys_are_readable_by_their_user_only(config: Path) -> None:
    secrets = sorted(config.parent.rglob("*.key_secret"))
    assert len(secrets) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets} == {0o600}
    public = certificate(config.parent / "keys/subscribers/dashboard.key")
    assert set(public) == {"public-key"}
    assert public["public-key"] == certificate(config.parent / "dashboard/client.key_secret")["public-key"]


def test_keys_are_never_overwritten(config: Path) -> None:
    files = sorted(config.parent.rglob("*.key*"))
    before = {path: path.read_bytes() for path in files}
    assert "the station's keys are there" in station(["keys", "--config", config]).stdout
    refused = station(["keys", "dashboard", "--config", config, "--out", config.parent / "other"])
    assert (refused.returncode, "has a key already" in refused.stderr) == (2, True)
    refused = station(["keys", "another", "--config", config, "--out", config.parent / "dashboard"])
    assert (refused.returncode, "another program's secret key" in refused.stderr) == (2, True)
    refused = station(["keys", "../x", "--config", config])
    assert refused.returncode == 2
    assert before == {path: path.read_bytes() for path in sorted(config.parent.rglob("*.key*"))}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda keys: (keys / "station.key_secret").unlink(), "can be reached from other machines"),
        (lambda keys: (keys / "station.key_secret").chmod(0o644), "others may read this secret key (mode 644)"),
        (lambda keys: (keys / "subscribers/dashboard.key").unlink(), "nobody may connect to tcp://0.0.0.0"),
        (lambda keys: (keys / "captures/camera.key").unlink(), "station keys NAME --group captures"),
        (lambda keys: (keys / "subscribers/b.key").write_text("nonsense"), "b.key: no public key can be read"),
    ],
)
def test_a_worker_without_keys_or_list_does_not_start(config: Path, spoil: Any, said: str) -> None:
    spoil(config.parent / "keys")
    refused = station(["worker", "--config", config])
    assert refused.returncode == 2
    assert said in refused.stderr
    (finding,) = (finding for finding in check(config) if finding.what == "keys")
    assert finding.level is Level.FAIL
    assert said in f"{finding.found} {finding.to_do}"
