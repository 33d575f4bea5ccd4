"""A station under test: both services by fork, pictures in order, kills, and the count at the end.

What must hold afterwards: each picture has exactly one verdict, in the order of delivery, is kept once, and no picture
that cannot be inspected is OK. `Rig.check` says so with names; `station fsck` says the rest.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from station import failpoints
from station.engine.scripted import SCRIPT_VARIABLE
from station.errors import StationError
from station.fsck import fsck
from station.journal_reader import JournalReader
from station.plc_client import PlcClient
from station.records import Evaluation, Verdict
from station.settings import Settings
from station.settings_file import load_settings
from tests.pictures import Pose, draw_part, empty_scene, encoded
from tests.running_station import ROOT, write_config
from tests.waiting import wait_until

START_S = 90
"""A busy machine may take its time; how long a start takes is measured by test_services.py alone."""
RESTART_S = 1.0
"""RestartSec of the units."""
GOOD, EMPTY, BROKEN = "good", "empty", "broken"
_JPEGS = {GOOD: encoded(draw_part(Pose(12, -8, 2))), EMPTY: encoded(empty_scene())}


def picture(kind: str, number: int, comment: bytes = b"") -> bytes:
    """Return a picture that no other number has."""
    text = b"%08d" % number + comment
    if kind == BROKEN:
        return b"no picture " + text
    jpeg = _JPEGS[kind]
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + jpeg[2:]


class ForkServer:
    """`tests.reliability.forkserver` as a process."""

    def __init__(self, **variables: str) -> None:
        """`variables` are added to the environment."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"} | variables
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.forkserver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.ask({"pid": self._first(), "timeout_s": 0})

    def _first(self) -> int:
        """Start something that ends at once, to know that all is imported."""
        return int(
            self.ask({"service": "no-service", "config": "", "log": os.devnull, "environment": {}, "change": []})
        )

    def ask(self, command: Mapping[str, Any]) -> Any:
        """Return the answer to a command."""
        commands, answers = self._pipes
        commands.write(json.dumps(command) + "\n")
        commands.flush()
        return json.loads(answers.readline())

    @property
    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin
        assert self._process.stdout
        return self._process.stdin, self._process.stdout

    def close(self) -> None:
        """End it, and with it all services."""
        for pipe in self._pipes:
            pipe.close()
        self._process.wait(10)


@dataclass
class Service:
    """A running service."""

    name: str
    pid: int


class Rig:
    """One station below `folder`; a context manager that leaves no process behind."""

    def __init__(self, server: ForkServer, folder: Path, *, data: Path | None = None, **sections: Any) -> None:
        """`data`: where the stores are, if not below `folder`; sections: as of `write_config`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.data = folder, data or folder
        self._server = server
        self._sections = sections
        self.config = folder / "config.yaml"
        self.services: dict[str, Service] = {}
        self.delivered: dict[str, tuple[str, str]] = {}
        """Name -> kind, sha256; in the order of delivery."""
        self.ready_times_s: dict[str, list[float]] = {"capture": [], "worker": []}
        self.notify = {name: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for name in ("capture", "worker")}
        """What each service says to systemd."""
        for name, heard in self.notify.items():
            heard.bind(self.notify_path(name))

    def __enter__(self) -> Self:
        outputs = self._sections.pop("outputs", {})
        write_config(self.folder)
        form = json.loads(self.config.read_text())
        for name in ("hot", "spool", "quarantine", "archive"):
            (self.data / name).mkdir(exist_ok=True)
        form["capture"] |= {f"{name}": str(self.data / name) for name in ("spool", "quarantine")}
        form["capture"]["hot_folder"] = str(self.data / "hot")
        form["journal"]["path"] = str(self.data / "journal.sqlite")
        form["outputs"]["archive"]["folder"] = str(self.data / "archive")
        for name, section in outputs.items():
            form["outputs"][name] |= section
        for name, section in self._sections.items():
            form[name] = form.get(name, {}) | section
        self.config.write_text(json.dumps(form))
        return self

    def __exit__(self, *_error: object) -> None:
        for name in list(self.services):
            self.kill(name)
        for heard in self.notify.values():
            heard.close()

    @property
    def settings(self) -> Settings:
        """The configuration."""
        return load_settings(self.config)

    def notify_path(self, name: str) -> str:
        """Return the value of NOTIFY_SOCKET for a service."""
        return str(self.folder / f"notify-{name}")

    @property
    def hot(self) -> Path:
        """The hot folder."""
        return self.data / "hot"

    def start(
        self, *names: str, change: tuple[str, ...] = (), point: str = "", script: Path | None = None, wait: bool = True
    ) -> None:
        """Start services and wait until they are ready; with a fail point only start them."""
        for name in names or ("worker", "capture"):
            environment = {"NOTIFY_SOCKET": self.notify_path(name), failpoints.VARIABLE: point}
            if script:
                environment[SCRIPT_VARIABLE] = str(script)
            command = {
                "service": name,
                "config": str(self.config),
                "log": str(self.folder / f"{name}.log"),
                "environment": environment,
                "change": list(change),
            }
            self.drain(name)
            started_s = time.monotonic()
            self.services[name] = Service(name, int(self._server.ask(command)))
            if wait and not point:
                self.await_ready(name)
                self.ready_times_s[name].append(time.monotonic() - started_s)

    def kill(self, name: str, number: int = signal.SIGKILL) -> int | None:
        """Send a signal to a service and return its exit code."""
        service = self.services.pop(name)
        with suppress(ProcessLookupError):
            os.kill(service.pid, signal.SIGCONT)
            os.kill(service.pid, number)
        return self.wait_end(service.pid)

    def wait_end(self, pid: int, timeout_s: float = 60) -> int | None:
        """Return the exit code of a service, None if it has not ended in time."""
        code = self._server.ask({"pid": pid, "timeout_s": timeout_s})
        return None if code is None else int(code)

    def revive(self, after_s: float = RESTART_S, change: tuple[str, ...] = ()) -> dict[str, int]:
        """Start what has ended again, as systemd would after RestartSec, and do not wait for it.

        Returns the exit codes of what had ended.
        """
        codes = {name: self.wait_end(service.pid, 0) for name, service in self.services.items()}
        ended = {name: code for name, code in codes.items() if code is not None}
        for name in ended:
            time.sleep(after_s)
            self.start(name, wait=False, change=change)
        return ended

    def is_online(self) -> bool:
        """Return what the PLC sees."""
        try:
            with PlcClient("127.0.0.1", self.settings.outputs.modbus_server.port) as plc:
                return bool(plc.status()["Online"])
        except StationError:
            return False

    def deliver(self, kind: str, *, comment: bytes = b"", data: bytes | None = None, ending: str = "jpg") -> str:
        """Put the next picture into the hot folder, complete at once."""
        number = len(self.delivered)
        name = f"{number:08d}.{ending}"
        content = picture(kind, number, comment) if data is None else data
        hidden = self.hot / f".{name}"
        hidden.write_bytes(content)
        os.utime(hidden, ns=(0, time.time_ns()))  # the file system's own clock ticks only every 4 ms
        hidden.rename(self.hot / name)
        self.delivered[name] = (kind, hashlib.sha256(content).hexdigest())
        return name

    def verdicts(self) -> list[Verdict]:
        """Return all verdicts, oldest first."""
        path = self.data / "journal.sqlite"
        return list(JournalReader(path).all()) if path.exists() else []

    def judged(self) -> int:
        """Return the number of verdicts."""
        path = self.data / "journal.sqlite"
        return sum(JournalReader(path).counts().values()) if path.exists() else 0

    def is_done(self) -> bool:
        """Return whether all pictures have left hot folder and spool."""
        left = [*visible(self.hot), *visible(self.data / "spool")]
        return not left

    def settle(self, timeout_s: float = 180) -> None:
        """Wait until all is done."""
        try:
            wait_until(self.is_done, timeout_s)
        except AssertionError:
            raise AssertionError(f"not done in {timeout_s} s:\n{self.logs}") from None

    def problems(self) -> list[str]:
        """Return what is wrong, to be called when all is done."""
        verdicts = self.verdicts()
        names = [verdict.image.name for verdict in verdicts]
        found = [f"{name} has no verdict" for name in self.delivered if name not in set(names)]
        found += [f"{name} has {names.count(name)} verdicts" for name in sorted(set(names)) if names.count(name) != 1]
        found += [f"{name} was never delivered" for name in set(names) - set(self.delivered)]
        if names != sorted(names):
            first = next(n for n, (a, b) in enumerate(zip(names, sorted(names), strict=True)) if a != b)
            found.append(f"order: {names[max(0, first - 2) : first + 3]}")
        for verdict in verdicts:
            kind, sha256 = self.delivered.get(verdict.image.name, (GOOD, verdict.image.sha256))
            if verdict.image.sha256 != sha256:
                found.append(f"{verdict.image.name}: judged another picture")
            if kind != GOOD and verdict.evaluation is Evaluation.OK:
                found.append(f"{verdict.image.name} is {kind} and OK")
        report = fsck(self.settings, hashed=True)
        found += [f"fsck: {line}" for rule in report.rules for line in rule.found]
        counts = (report.accepted, report.open, report.taken_away)
        if counts != (len(self.delivered), 0, 0):
            found.append(f"{len(self.delivered)} delivered, accepted, open, taken away: {counts}")
        return found

    def check(self) -> None:
        """Wait until all is done and raise if anything is wrong."""
        self.settle()
        problems = self.problems()
        assert not problems, "\n".join(problems[:30]) + "\n" + self.logs

    @property
    def logs(self) -> str:
        """The last lines of both services."""
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-40:])
            for path in sorted(self.folder.glob("*.log"))
        )

    def engine_pids(self) -> list[int]:
        """Return the engine's process, if there is one."""
        worker = self.services["worker"].pid
        listing = Path(f"/proc/{worker}/task/{worker}/children").read_text()
        return [int(pid) for pid in listing.split()]

    def drain(self, name: str) -> None:
        """Forget what a service has said to systemd."""
        self.notify[name].settimeout(0)
        with suppress(BlockingIOError):
            while True:
                self.notify[name].recv(4096)

    def await_ready(self, name: str) -> None:
        """Wait until a service that was just started is ready."""
        self.notify[name].settimeout(START_S)
        try:
            while b"READY=1" not in self.notify[name].recv(4096):
                pass
        except TimeoutError:
            raise AssertionError(f"{name} is not ready after {START_S} s:\n{self.logs}") from None


def visible(folder: Path) -> Iterator[str]:
    """Yield the names in a folder that do not begin with a dot."""
    with suppress(FileNotFoundError):
        yield from (entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
