"""Changes to a service under test: what it tells the test, and faults that the suite must find (its own proof).

Each function changes the process it is called in, for good. Nothing of this is in the station's own code.
"""

import ctypes
import os
import shutil
import signal
import time
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, Self

from station import failpoints
from station.capture import prepare, spool
from station.capture.hotfolder import HotFolder
from station.capture.spool import Pending, Spool
from station.judge import Judgement
from station.messages import Ack
from station.outputs import publisher
from station.records import Evaluation, Reason, ResultState, Verdict
from station.worker import conclusion, journal
from station.worker.conclusion import Conclusion, Found
from station.worker.journal import Journal
from station.worker.queue import JobQueue
from station.worker.service import WorkerService

POISON = b"POISON"


def _set(owner: Any, name: str, value: Any) -> None:
    """Replace what a class or module has under this name."""
    setattr(owner, name, value)


def trace(path: str) -> None:
    """Write a line with the time to `path` for each promise: a picture is accepted, a verdict is in the journal."""
    said = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    claim, settle, append = Spool.claim, Spool.settle, Journal.append
    unsettled: list[str] = []

    def traced_claim(self: Spool, file: int, name: str) -> Any:
        claimed = claim(self, file, name)
        if claimed:
            image = claimed[1].image if claimed[1] else None
            unsettled.append(f"accepted {claimed[0].job_id} {image.sha256 if image else '?'}")
        return claimed

    def traced_settle(self: Spool) -> None:
        settle(self)
        while unsettled:
            os.write(said, f"{unsettled.pop(0)} {time.monotonic()}\n".encode())

    def traced_append(self: Journal, verdict: Verdict) -> Verdict:
        given = append(self, verdict)
        os.write(said, f"judged {given.job_id} {given.epoch}:{given.seq} {time.monotonic()}\n".encode())
        return given

    _set(Spool, "claim", traced_claim)
    _set(Spool, "settle", traced_settle)
    _set(Journal, "append", traced_append)


def clock(path: str) -> None:
    """The wall clock is off by as many seconds as the file `path` says; monotonic time goes on as it is."""

    class Jumping(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            offset_s = float(Path(path).read_text() or 0)
            return cls.fromtimestamp(time.time() + offset_s, tz)

    for module in (spool, journal, conclusion, publisher):
        _set(module, "datetime", Jumping)


def poison(_: str = "") -> None:
    """A picture that holds `POISON` ends capture when it is decoded, as a fault in a decoder would."""
    decode: Any = vars(prepare)["decode"]

    def deadly(name: str, data: bytes, size: tuple[int, int]) -> Any:
        if POISON in data:
            os.kill(os.getpid(), signal.SIGSEGV)
        return decode(name, data, size)

    _set(prepare, "decode", deadly)


def failing_calls(*faults: str) -> None:
    """System calls fail at random: each of `faults` is "point=probability=errno". The process has libfiu preloaded."""
    fiu = ctypes.CDLL("libfiu.so.0")
    fiu.fiu_init(0)
    for fault in faults:
        point, probability, error = fault.split("=")
        number = ctypes.c_void_p(int(error))
        assert fiu.fiu_enable_random(point.encode(), 1, number, 0, ctypes.c_float(float(probability))) == 0


def stuck(path: str) -> None:
    """The worker's loop stands still for as many seconds as `path` says, once; since when is then in `path`.began."""
    turn = WorkerService._turn

    def turned(self: WorkerService) -> None:
        order = Path(path)
        if order.exists():
            seconds = float(order.read_text())
            order.unlink()
            order.with_suffix(".began").write_text(str(time.monotonic()))
            time.sleep(seconds)
        turn(self)

    _set(WorkerService, "_turn", turned)


def naive(path: str) -> None:
    """Promise without syncing: no fsync in capture, SQLite's synchronous=NORMAL in the worker. Must lose data."""
    configure = Journal._configure

    def careless(self: Journal) -> None:
        configure(self)
        self._open_connection.execute("PRAGMA synchronous = NORMAL")

    _set(Journal, "_configure", careless)
    _set(os, "fsync", lambda _file: None)
    trace(path)


def ack_before_commit(_: str = "") -> None:
    """Planted: capture hears of a verdict that is not in the journal yet."""
    conclude = Conclusion.conclude

    def early(self: Conclusion, found: Found) -> None:
        self._queue.acknowledge(found.pending.peer, Ack(job_id=found.pending.job.job_id, unreadable=None))
        time.sleep(0.05)
        conclude(self, found)

    _set(Conclusion, "conclude", early)


def forget_what_was_judged(_: str = "") -> None:
    """Planted: every job is new to the worker, and rows are replaced."""
    _set(Journal, "judged", lambda _self, _job_id: None)

    def replaced(self: Journal, verdict: Verdict) -> Verdict:
        self._open_connection.execute("DROP TRIGGER IF EXISTS verdict_is_never_deleted")
        self._open_connection.execute("DELETE FROM verdict WHERE job_id = ?", (verdict.job_id,))
        return append(self, verdict)

    append = Journal.append
    _set(Journal, "append", replaced)


def skip_a_seq(_: str = "") -> None:
    """Planted: seq counts in twos."""
    following = Journal._next_seq
    _set(Journal, "_next_seq", lambda self, connection: following(self, connection) * 2)


def recover_nothing(_: str = "") -> None:
    """Planted: capture does not look into the spool when it starts."""
    _set(Spool, "recover", lambda _self: [])


def recover_youngest_first(_: str = "") -> None:
    """Planted: the spool is sent again in the wrong order."""
    recover = Spool.recover
    _set(Spool, "recover", lambda self: recover(self)[::-1])


def copy_instead_of_move(_: str = "") -> None:
    """Planted: the picture stays in the spool beside its copy in the archive, and the spool is not cleared."""

    def copied(source: Any, folder: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / source.name)

    _set(spool, "_move", copied)
    release = Spool.release

    def kept(self: Spool, pending: Pending, failure: Any) -> None:
        try:
            release(self, pending, failure)
        except Exception:  # noqa: BLE001
            return

    _set(Spool, "release", kept)


def delete_unreadable(_: str = "") -> None:
    """Planted: a picture that cannot be read is thrown away."""
    release = Spool.release

    def thrown(self: Spool, pending: Pending, failure: Any) -> None:
        if failure:
            pending.path.unlink()
            pending.path.write_bytes(b"")
        release(self, pending, failure)

    _set(Spool, "release", thrown)


def no_marks(_: str = "") -> None:
    """Planted: capture does not count how often a picture ended it."""
    _set(Spool, "begin", lambda _self, _pending: True)
    poison()


def say_ok_when_in_trouble(_: str = "") -> None:
    """Planted: what could not be inspected passes."""
    judged = Conclusion._judged

    def lenient(self: Conclusion, job: Any, regions: Any, trouble: Any) -> Judgement:
        if job.failure or trouble:
            return Judgement(
                evaluation=Evaluation.OK, result_state=ResultState.COMPLETED, reason=Reason.NONE, detail=""
            )
        return judged(self, job, regions, trouble)

    _set(Conclusion, "_judged", lenient)


def drop_acks(_: str = "") -> None:
    """Planted: no ack reaches capture."""
    _set(JobQueue, "acknowledge", lambda _self, _peer, _ack: None)


def drop_a_hint(_: str = "") -> None:
    """Planted: the hot folder is looked through only when an event says so, and events are lost."""
    _set(HotFolder, "due_in_s", lambda _self: 3600.0)


PLANTED = {
    "ack_before_commit": "worker",
    "forget_what_was_judged": "worker",
    "skip_a_seq": "worker",
    "say_ok_when_in_trouble": "worker",
    "drop_acks": "worker",
    "recover_nothing": "capture",
    "recover_youngest_first": "capture",
    "copy_instead_of_move": "capture",
    "delete_unreadable": "capture",
    "drop_a_hint": "capture",
}
"""Faults that the suite must find -> the service that gets them."""
assert set(PLANTED.values()) <= set(failpoints.POINTS)
