"""The OPC UA server in a running station: who gets in, what clients can and cannot do, and that nothing else notices.

One station for all tests here, with the types built from the table of facts; each test leaves it in any state.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

ua = pytest.importorskip("asyncua.ua", reason="asyncua is not installed (opcua extra)")

from station.opcua import guard  # noqa: E402
from station.opcua.credentials import REJECTED, TRUSTED, Right, read_users  # noqa: E402
from station.opcua.methods import Refusal  # noqa: E402
from tests.opcua_clients import (  # noqa: E402
    USER,
    WATCHER,
    Connected,
    connected,
    make_client,
    make_client_certificate,
    prepare,
    talk,
)
from tests.opcua_station import wait_listening, write_opcua_config  # noqa: E402
from tests.pictures import Pose, draw_part, encoded, write_recipe  # noqa: E402
from tests.ports import free_port  # noqa: E402
from tests.running_station import RunningStation, environment, station  # noqa: E402
from tests.waiting import wait_until  # noqa: E402

MACHINE = "VisionSystem.VisionStateMachine"
RESULTS = "VisionSystem.ResultManagement"
RECIPE = "test-pins-8"
PICTURES = iter(range(1_000_000))

pytestmark = [pytest.mark.timeout(180)]


class Rig:
    """The station, and the certificate of a client that it trusts."""

    def __init__(self, running: RunningStation, certificate: Path) -> None:
        self.running = running
        self.certificate = certificate
        self.port = running.settings.outputs.opcua.port
        self.keys = running.settings.outputs.opcua.keys_folder

    def shoot(self) -> None:
        """Let the camera make a picture that never was before."""
        number = next(PICTURES)
        part = draw_part(Pose(shift_x=number % 20, shift_y=number // 20))
        self.running.drop(f"part-{number}.png", encoded(part, ".png"))

    @property
    def server(self) -> psutil.Process:
        """The process of the OPC UA server."""
        children = psutil.Process(self.running.process.pid).children()
        return next(child for child in children if "opcua" in child.cmdline())


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("opcua")
    write_recipe(folder / "other", recipe="test-other")
    recipes = {1: "recipe/recipe.yaml", 2: "other/recipe.yaml"}
    config = write_opcua_config(folder, recipes=recipes)
    certificate = prepare(config)
    with RunningStation(config) as running:
        wait_listening(running)
        yield Rig(running, certificate)


async def make_ready(client: Connected) -> None:
    """Bring the state machine to Ready, from wherever it is."""
    state = await client.state()
    if state != "Preoperational":
        await client.change("Halt") if state != "Halted" else None
        await client.change("Reset")
    await client.call(f"{MACHINE}.SelectModeAutomatic")
    await client.prepare(RECIPE)
    assert await client.state() == "Ready"


def said(event: Any) -> tuple[int, int]:
    """Return evaluation and code of a result."""
    return event.ResultContent[0].Value, event.ResultContent[1].Value


async def taken(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Ask until the worker takes it: after trouble it waits for two picture windows."""
    end_s = time.monotonic() + 40
    while (answer := await ask())[-1] == Refusal.NOT_TAKEN:
        assert time.monotonic() < end_s
        await asyncio.sleep(0.1)
    return answer


async def until(found: Any) -> None:
    """Wait for a condition while the client works."""
    end_s = time.monotonic() + 40
    while not found():
        assert time.monotonic() < end_s
        await asyncio.sleep(0.02)


def test_endpoints_are_signed_and_encrypted_without_anonymous(rig: Rig) -> None:
    endpoints = asyncio.run(make_client(rig.port).connect_and_get_server_endpoints())
    assert {endpoint.SecurityPolicyUri.rpartition("#")[2] for endpoint in endpoints} == {
        "Basic256Sha256",
        "Aes256_Sha256_RsaPss",
    }
    assert {endpoint.SecurityMode for endpoint in endpoints} == {ua.MessageSecurityMode.SignAndEncrypt}
    tokens = {token.TokenType for endpoint in endpoints for token in endpoint.UserIdentityTokens}
    assert tokens == {ua.UserTokenType.UserName, ua.UserTokenType.Certificate}


@pytest.mark.parametrize("user", [None, USER])
def test_a_channel_without_security_has_no_session(rig: Rig, user: str | None) -> None:
    async def enter() -> None:
        client = make_client(rig.port)
        if user:
            client.set_user(user)
            client.set_password("correct horse")
        async with client:
            pass

    with pytest.raises((ConnectionError, ua.UaError, TimeoutError)):
        asyncio.run(asyncio.wait_for(enter(), 10))


def test_an_unknown_certificate_is_refused_and_kept_for_the_administrator(rig: Rig) -> None:
    stranger = make_client_certificate(rig.keys.parent / "strangers", "stranger")

    async def speak(client: Connected) -> str:
        return await client.state()

    with pytest.raises((ConnectionError, ua.UaError, TimeoutError)):
        talk(rig.port, stranger, speak)
    (kept,) = [path for path in (rig.keys / REJECTED).iterdir() if path.read_bytes() == stranger.read_bytes()]
    done = station(["opcua-keys", kept, "--config", rig.running.settings.config_path])
    assert done.returncode == 0, done.stderr
    assert f"CN={USER}" in done.stdout
    assert talk(rig.port, stranger, speak)  # trusted now, without a restart
    (rig.keys / TRUSTED / kept.name).unlink()
    with pytest.raises((ConnectionError, ua.UaError, TimeoutError)):
        talk(rig.port, stranger, speak)


@pytest.mark.parametrize(("user", "password"), [(None, ""), (USER, "wrong horse"), ("nobody", "correct horse")])
def test_who_is_no_user_does_not_get_in(rig: Rig, user: str | None, password: str) -> None:
    async def enter() -> None:
        async with connected(rig.port, rig.certificate, user, password):
            pass

    with pytest.raises((ua.UaError, ConnectionError)):
        asyncio.run(enter())


def test_a_user_may_be_a_certificate(rig: Rig) -> None:
    async def enter() -> str:
        async with connected(rig.port, rig.certificate, None, user_certificate=rig.certificate) as client:
            return await client.state()

    assert asyncio.run(enter())


def test_a_user_that_may_watch_reads_results_and_controls_nothing(rig: Rig) -> None:
    async def speak(client: Connected) -> None:
        assert await client.state()
        assert (await client.results())[-1] == 0
        for attempt in (client.call(f"{MACHINE}.SelectModeAutomatic"), client.change("Reset"), client.start_job()):
            with pytest.raises(ua.uaerrors.BadUserAccessDenied):
                await attempt
        for variable in ("LatestVerdict.ResultEvaluation", f"{MACHINE}.CurrentState"):
            with pytest.raises(ua.UaStatusCodeError):
                await client.node(variable).write_value(ua.Variant(1, ua.VariantType.Int32))
        with pytest.raises(ua.UaStatusCodeError):
            await client.node("LatestVerdict").add_variable(client.own, "more", 1)

    talk(rig.port, rig.certificate, speak, WATCHER)


def test_a_job_has_its_own_result_everywhere(rig: Rig) -> None:
    async def speak(client: Connected) -> None:
        await make_ready(client)
        await client.listen()
        job, error = await taken(lambda: client.start_job("SN-42", "M-1"))
        assert error == 0
        assert await client.state() == "SingleExecution"
        rig.shoot()
        await until(lambda: client.told(1024))
        (event,) = client.told(1024)
        (exposed,) = client.told(1025)
        assert event.JobId.Id == exposed.JobId.Id == job.Id
        assert (event.PartId.Id, event.MeasId.Id, said(event)) == ("SN-42", "M-1", (1, 0))
        verdict = json.loads(event.ResultContent[2].Value)
        assert event.ResultId.Id == verdict["job_id"]
        latest = {name: await client.node(f"LatestVerdict.{name}").read_value() for name in ("Sequence", "PartId")}
        assert latest == {"Sequence": verdict["seq"], "PartId": "SN-42"}
        structure = await client.node(f"{RESULTS}.Results.LatestResult").read_value()
        assert structure.ResultId.Id == verdict["job_id"]
        _, fetched, error = await client.result(verdict["job_id"])
        assert (fetched.JobId.Id, fetched.MeasId.Id, error) == (job.Id, "M-1", 0)
        is_complete, count, _, found, error = await client.results(PartId="SN-42", ResultState=1)
        assert (is_complete, count, error) == (True, 1, 0)
        assert found[0].ResultId.Id == verdict["job_id"]
        assert (await client.results(JobId=job.Id))[1] == 1
        assert (await client.results(MeasId="M-other"))[1] == 0
        assert (await client.result("no-such-id"))[2] == Refusal.UNKNOWN_RESULT
        assert (await client.results(ResultState=9))[4] == Refusal.WRONG_ARGUMENT

    talk(rig.port, rig.certificate, speak)


def test_a_start_without_picture_is_rejected_and_needs_a_reset(rig: Rig) -> None:
    async def speak(client: Connected) -> None:
        await make_ready(client)
        await client.listen()
        assert (await taken(lambda: client.start_job("SN-1")))[1] == 0
        with pytest.raises(ua.uaerrors.BadInvalidState):
            await client.start_job("SN-2")
        await until(lambda: client.told(1024) and client.told(1019))
        (event,) = client.told(1024)
        assert (said(event), event.ResultState) == ((0, 2007), 4)
        assert await client.state() == "Error"
        with pytest.raises(ua.UaStatusCodeError):
            await client.node("LatestVerdict.ResultEvaluation").read_value()
        assert (await client.change("Reset")) == 0
        assert await client.state() == "Preoperational"

    talk(rig.port, rig.certificate, speak)


def test_the_recipe_is_changed_and_only_to_a_known_one(rig: Rig) -> None:
    async def speak(client: Connected) -> None:
        await make_ready(client)
        recipe, is_completed, error = await taken(lambda: client.prepare("test-other"))
        assert (recipe.Id, error) == ("test-other", 0)
        assert is_completed
        assert await client.state() == "Ready"
        assert (await client.prepare("unknown"))[2] == Refusal.UNKNOWN_RECIPE
        assert (await client.prepare(RECIPE))[1:] == [True, 0]

    talk(rig.port, rig.certificate, speak)


def test_continuous_running_makes_every_picture_a_result_until_stop(rig: Rig) -> None:
    async def speak(client: Connected) -> None:
        await make_ready(client)
        await client.listen()
        _, error = await client.start_job("", continuous=True)
        assert error == 0
        for number in (1, 2):
            rig.shoot()
            await until(lambda number=number: len(client.told(1024)) == number)
        assert [said(event) for event in client.told(1024)] == [(1, 0), (1, 0)]
        assert await client.change("Stop") == 0
        assert await client.state() == "Ready"

    talk(rig.port, rig.certificate, speak)


HELLO = b"HELF" + struct.pack("<IIIIII", 32, 0, 65536, 65536, 0, 0) + struct.pack("<i", -1)


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(range(256)) * 300,
        b"MSGF\xff\xff\xff\x7f",
        b"OPNF" + struct.pack("<I", 20) + b"\0" * 12,
        b"MSGF" + struct.pack("<II", 24, 1) + b"\xff" * 12,
        HELLO + b"CLOF" + struct.pack("<II", 12, 7),
        b"HELF\x08\0\0\0",
    ],
    ids=lambda junk: junk[:12].hex(),
)
def test_bytes_that_are_no_opc_ua_end_their_connection_only(rig: Rig, junk: bytes) -> None:
    before = rig.running.plc()["Heartbeat"]
    with socket.create_connection(("127.0.0.1", rig.port)) as peer:
        peer.settimeout(guard.LOGIN_WITHIN_S + 5)
        peer.sendall(junk)
        try:
            while peer.recv(65536):
                pass
        except ConnectionResetError:
            pass
    assert rig.server.is_running()
    wait_until(lambda: rig.running.plc()["Heartbeat"] != before)


def test_many_small_messages_cost_little_memory(rig: Rig) -> None:
    before = rig.server.memory_info().rss
    payload = HELLO + b"MSGF" + struct.pack("<II", 16, 0) + bytes(4)
    flood = HELLO + (b"MSGC" + struct.pack("<I", 9) + b"\0") * 60_000
    peers = [socket.create_connection(("127.0.0.1", rig.port)) for _ in range(guard.MAX_CONNECTIONS)]
    for peer in peers:
        peer.settimeout(10)
        with contextlib.suppress(OSError):
            peer.sendall(flood + payload)
    for peer in peers:
        with contextlib.suppress(OSError):
            while peer.recv(65536):
                pass
        peer.close()
    assert rig.server.memory_info().rss - before < 100 * 2**20
    assert talk(rig.port, rig.certificate, lambda client: client.state())


def test_a_hundred_connections_lock_nobody_out(rig: Rig) -> None:
    peers = [socket.create_connection(("127.0.0.1", rig.port)) for _ in range(100)]
    try:
        assert talk(rig.port, rig.certificate, lambda client: client.state())
        count = len([one for one in rig.server.net_connections() if one.status == psutil.CONN_ESTABLISHED])
        assert count <= guard.MAX_CONNECTIONS + 5  # and its own to the worker
        assert rig.running.plc()["Online"]
    finally:
        for peer in peers:
            peer.close()


def test_a_client_that_reads_nothing_delays_nobody(rig: Rig) -> None:
    async def speak(client: Connected) -> None:
        await make_ready(client)
        async with connected(rig.port, rig.certificate) as deaf:
            await deaf.listen()
            deaf.client.uaclient.protocol.transport.pause_reading()
            await client.listen()
            await taken(lambda: client.start_job("SN-9"))
            rig.shoot()
            await until(lambda: client.told(1024))
            assert rig.running.plc()["Online"]
            deaf.client.uaclient.protocol.transport.resume_reading()

    talk(rig.port, rig.certificate, speak)


def test_the_death_of_the_server_is_noticed_by_nobody_and_it_comes_back(rig: Rig) -> None:
    before = rig.running.plc()
    starts = rig.running.log.count("OPC UA server on")
    dead = rig.server.pid
    os.kill(dead, signal.SIGKILL)
    wait_until(lambda: rig.running.plc()["Heartbeat"] != before["Heartbeat"])
    assert rig.running.plc()["Online"]
    wait_listening(rig.running, starts + 1)
    assert rig.server.pid != dead
    assert talk(rig.port, rig.certificate, lambda client: client.state()) == "Preoperational"


def test_a_server_with_another_configuration_than_the_worker_ends(rig: Rig) -> None:
    other = rig.running.settings.config_path.with_name("other.yaml")
    config = json.loads(rig.running.settings.config_path.read_text())
    config["outputs"]["opcua"]["port"] = free_port()
    other.write_text(json.dumps(config))
    command = [sys.executable, "-m", "station", "opcua", "--config", str(other)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment())
    assert ended.returncode == 1
    assert "another config.yaml" in ended.stderr


def test_the_verbs_make_users_and_say_what_is_wrong(rig: Rig) -> None:
    config = rig.running.settings.config_path
    short = station(["opcua-user", "new", "--config", config], input="short\n")
    assert (short.returncode, "at least 10" in short.stderr) == (2, True)
    made = station(["opcua-user", "new", "--control", "--config", config], input="long enough\n")
    assert made.returncode == 0, made.stderr
    (user,) = [user for user in read_users(rig.keys) if user.name == "new"]
    assert user.right is Right.CONTROL
    assert "long enough" not in (rig.keys / "users").read_text()
    assert (rig.keys / "users").stat().st_mode & 0o077 == 0
    checked = station(["check", "--json", "--config", config])
    (found,) = [finding for finding in json.loads(checked.stdout) if finding["what"] == "OPC UA"]
    assert (found["level"], "3 users, 1 trusted" in found["found"]) == ("ok", True), found
    listed = station(["opcua-keys", "--config", config])
    assert f"{USER} (control)" in listed.stdout
    assert station(["opcua-keys", config, "--config", config]).returncode == 2  # no certificate
