"""What systemd is told, read from a real notification socket."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from station.supervisor_notify import ServiceNotifier


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket as systemd gives one."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(path))
        heard.settimeout(0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield heard


def _heard(supervisor: socket.socket) -> list[str]:
    lines = []
    while True:
        try:
            lines.append(supervisor.recv(4096).decode())
        except BlockingIOError:
            return lines


def test_systemd_hears_the_states(supervisor: socket.socket) -> None:
    notifier = ServiceNotifier()
    notifier.ready()
    notifier.stopping()
    assert _heard(supervisor) == ["READY=1", "STOPPING=1"]


def test_a_status_is_told_when_it_changes_and_stays_one_line(supervisor: socket.socket) -> None:
    notifier = ServiceNotifier()
    for text in ("loading", "loading", "ready\nREADY=1"):
        notifier.status(text)
    notifier.stopping()
    assert _heard(supervisor) == ["STATUS=loading", "STATUS=ready READY=1", "STOPPING=1"]


def test_the_watchdog_is_fed_at_once_and_not_in_every_loop(supervisor: socket.socket) -> None:
    notifier = ServiceNotifier()
    for _ in range(100):
        notifier.alive()
    notifier.stopping()
    assert _heard(supervisor) == ["WATCHDOG=1", "STOPPING=1"]


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notifier = ServiceNotifier()
    notifier.ready()
    notifier.status("ready")
    notifier.alive()
    notifier.stopping()


@pytest.mark.timeout(5)
def test_a_systemd_that_does_not_listen_holds_nobody_up(
    supervisor: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("station.supervisor_notify.ALIVE_EVERY_S", 0)
    monkeypatch.setattr("station.supervisor_notify.LONGEST_WAIT_S", 0.05)
    notifier = ServiceNotifier()
    for _ in range(1000):  # the kernel holds about ten messages
        notifier.alive()
    notifier.stopping()
    assert len(_heard(supervisor)) < 1000
