"""Power cuts on a real ext4 under a working station: what was promised before the cut is there after it.

Promises: a picture is accepted when `Spool.claim` returns, a verdict is given when `Journal.append` returns. What was
promised after the cut had begun is undecided. The control, which promises without syncing, must be found out.
"""

import hashlib
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from station.errors import JournalError
from station.fsck import fsck
from station.journal_reader import JournalReader
from tests.reliability.loop_disk import LoopDisk, why_not
from tests.reliability.results import count, record
from tests.reliability.rig import BROKEN, EMPTY, GOOD, ForkServer, Rig, picture
from tests.waiting import wait_until

KINDS = (GOOD, BROKEN, EMPTY)
CONTROL_CUTS = 30
DISK_MIB = 2048
"""A file with holes; each cut leaves about a MiB of judged pictures."""


@dataclass
class Losses:
    """What was promised, and what of it was gone."""

    accepted: int = 0
    judged: int = 0
    lost: list[str] = field(default_factory=list)


class Cuts:
    """A station on a disk whose power is cut again and again."""

    def __init__(self, server: ForkServer, folder: Path, change: str) -> None:
        self.disk = LoopDisk(folder / "disk.ext4", folder / "disk", DISK_MIB)
        self.folder = folder
        self.losses = Losses()
        self._server = server
        self._change = change
        self._chance = random.Random(change)
        self._delivered = 0

    def cycle(self) -> None:
        """Mount, work a little, cut, kill, mount again and look."""
        said = self.folder / "said"
        said.unlink(missing_ok=True)
        self.disk.mount()
        began_s = float("inf")
        try:
            with Rig(self._server, self.folder / "rig", data=self.disk.folder) as rig:
                rig.start(change=(self._change, str(said)))
                self._work(rig, said)
                began_s = self.disk.cut()
        finally:
            for left in (self.folder / "rig").glob("notify-*"):
                left.unlink()
            self.disk.unmount()
        self.disk.mount()
        try:
            self._look(said.read_text().splitlines(), began_s, rig)
        except JournalError as error:
            self.losses.lost.append(str(error))
        finally:
            self.disk.unmount()

    def _work(self, rig: Rig, said: Path) -> None:
        """Deliver pictures, as a camera that syncs nothing, until some time after the first promise."""
        wait_until(lambda: self._deliver(rig) and said.stat().st_size > 0, 30)
        end_s = time.monotonic() + self._chance.uniform(0.05, 0.5)
        wait_until(lambda: self._deliver(rig) and time.monotonic() > end_s, 30)

    def _deliver(self, rig: Rig) -> bool:
        # Only what has its name: a picture that was cut off before stays under its hidden one for ever.
        if len(list(rig.hot.glob("[!.]*"))) < 4:
            self._delivered += 1
            name = f".{self._delivered:08d}.jpg"
            (rig.hot / name).write_bytes(picture(KINDS[self._delivered % len(KINDS)], self._delivered))
            (rig.hot / name).rename(rig.hot / name[1:])
        return True

    def _look(self, said: list[str], began_s: float, rig: Rig) -> None:
        settings = rig.settings
        problems = JournalReader(settings.journal.path).problems()
        self.losses.lost += [f"journal: {problem}" for problem in problems]
        verdicts = {verdict.job_id: f"{verdict.epoch}:{verdict.seq}" for verdict in rig.verdicts()}
        kept = self._kept()
        for line in said:
            what, job_id, value, said_s = line.split()
            if float(said_s) >= began_s:
                continue
            if what == "judged":
                self.losses.judged += 1
                if verdicts.get(job_id) != value:
                    self.losses.lost.append(f"verdict {job_id} {value}")
            else:
                self.losses.accepted += 1
                if value not in kept.get(job_id, []):
                    self.losses.lost.append(f"picture {job_id}: {kept.get(job_id)}")
        report = fsck(settings, hashed=True)
        self.losses.lost += [f"fsck: {line}" for rule in report.rules for line in rule.found]

    def _kept(self) -> dict[str, list[str]]:
        """Return the hashes of the pictures that are there, by job id."""
        found: dict[str, list[str]] = {}
        for pattern in ("spool/*/*", "quarantine/*/*", "archive/*/*/original/*"):
            for path in self.disk.folder.glob(pattern):
                if path.is_file():
                    job_id = path.parent.parent.name if path.parent.name == "original" else path.parent.name
                    found.setdefault(job_id, []).append(hashlib.sha256(path.read_bytes()).hexdigest())
        return found


@pytest.fixture
def disk_folder(tmp_path: Path) -> Path:
    """Return a folder where an ext4 can be mounted and cut; else the test is skipped."""
    if reason := why_not(tmp_path):
        pytest.skip(reason)
    return tmp_path


@pytest.mark.timeout(7200)
def test_nothing_promised_is_lost_in_a_power_cut(server: ForkServer, disk_folder: Path) -> None:
    trials = count(4, 100, 1000)
    began_s = time.monotonic()
    cuts = Cuts(server, disk_folder, "trace")
    for _ in range(trials):
        cuts.cycle()
    losses = cuts.losses
    assert losses.accepted > trials
    assert losses.judged > trials / 2
    assert not losses.lost, "\n".join(losses.lost[:30])
    record(
        "power cut on ext4",
        trials,
        "0 lost of what was promised",
        accepted=losses.accepted,
        verdicts=losses.judged,
        lost=0,
        took_s=round(time.monotonic() - began_s),
    )


@pytest.mark.timeout(1200)
def test_the_control_that_does_not_sync_is_found_out(server: ForkServer, disk_folder: Path) -> None:
    cuts = Cuts(server, disk_folder, "naive")
    needed = 0
    while not cuts.losses.lost and needed < CONTROL_CUTS:
        cuts.cycle()
        needed += 1
    assert cuts.losses.lost, f"{CONTROL_CUTS} cuts without a sync lost nothing: the test cannot see a loss"
    record("control without sync", needed, f"must lose in <= {CONTROL_CUTS} cuts", lost=len(cuts.losses.lost))
