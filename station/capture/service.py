"""The capture service: pictures from the hot folder become jobs at the worker, and leave the spool when acked.

One loop in one thread: wait for a hint or a message -> release what was acked -> scan -> claim one file -> prepare one
job, and only as many ahead as the worker takes, so that memory stays bounded: the spool on the disk holds the rest.
A picture that cannot be prepared becomes a job with a Failure; nothing is dropped. A full or read-only disk is reported
and waited for; a disk that reports write errors ends the service (SpoolError).
"""

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import msgspec
import zmq

from station import failpoints
from station.capture.gate import CaptureLimits
from station.capture.hotfolder import HotFolder
from station.capture.link import WorkerLink
from station.capture.picture_file import PictureFile, nothing_read
from station.capture.prepare import Preparer, unreadable
from station.capture.spool import MAX_TRIES, DiskFailedError, Folders, Pending, Spool
from station.challenge_file import put_sample, read_samples
from station.complaints import Complaints
from station.curve import ClientKeys
from station.disk import DiskRoom
from station.errors import SpoolError
from station.messages import Hello, Identity, Sighting
from station.recipe import Recipe
from station.records import Failure, ImageRef, Job, Reason
from station.settings import Settings
from station.supervisor_notify import ServiceNotifier

LONGEST_WAIT_S = 0.2
"""A stop is noticed within this time."""
JOBS_AHEAD = 1
"""So many jobs are ready beyond the worker's credit, so that the next can go as soon as an ack comes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Waiting:
    """A picture in the spool whose job is not made yet."""

    pending: Pending
    picture: PictureFile | None
    """None: to be read from the spool, so that a long queue holds no pixels in memory."""
    seen_ns: int
    """time.monotonic_ns() when the complete file was seen."""
    captured_ns: int | None
    """As `Job.captured_ns`."""


@dataclass(frozen=True)
class _Judged:
    """A picture whose verdict is in the journal."""

    pending: Pending
    unreadable: Failure | None
    """As in `Ack`."""


class CaptureService:
    """Capture for one station: the recipe that it starts with, and more that the worker may change to.

    Raises ConfigurationError if a golden picture cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        recipe: Recipe,
        context: zmq.Context[zmq.Socket[bytes]],
        notifier: ServiceNotifier | None = None,
        keys: ClientKeys | None = None,
        more: Sequence[Recipe] = (),
    ) -> None:
        capture = settings.capture
        limits = CaptureLimits(capture.max_file_mib * 1024 * 1024, capture.max_megapixels * 1_000_000)
        folders = Folders(capture.hot_folder, capture.spool, settings.outputs.archive.folder, capture.quarantine)
        self._identity = Identity(station=settings.station.name, config_sha256=settings.config_sha256)
        self._preparers = {each.sha256: Preparer(each, limits) for each in (recipe, *more)}
        self._preparer = self._preparers[recipe.sha256]
        deadline_ms = max(each.file.deadline_ms for each in (recipe, *more))
        self._samples = {sha: (each, sample) for each in (recipe, *more) for sha, sample in read_samples(each).items()}
        self._hot_folder = capture.hot_folder
        self._sample_jobs: set[str] = set()
        self._spool = Spool(folders, limits.max_file_bytes)
        self._room = DiskRoom(capture.spool)
        self._hot = HotFolder(capture.hot_folder, capture.rescan_s, capture.settle_ms)
        self._link = WorkerLink(context, settings.queue.endpoint, self._hello(), deadline_ms, keys)
        self._notifier = notifier or ServiceNotifier()
        self._complaints = Complaints(_log)
        self._found: deque[str] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._at_worker: dict[str, Pending] = {}
        self._to_release: deque[_Judged] = deque()

    def run(self, stop: threading.Event) -> None:
        """Capture until `stop` is set. Raises SpoolError or QueueError if it cannot start or the disk fails."""
        cv2.setNumThreads(1)  # more would compete with the model for the cores, and gain nothing on small regions
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._notifier.ready()
            stack.callback(self._notifier.stopping)
            while not stop.is_set():
                self._turn()

    def _start(self, stack: contextlib.ExitStack) -> None:
        """Open all parts, to be closed by `stack`, and take up what was left in the spool."""
        stack.callback(self._hot.close)
        self._spool.open()
        stack.callback(self._spool.close)
        failpoints.hit("capture-started")
        self._hot.open()
        self._link.open()
        stack.callback(self._link.close)
        left = self._spool.recover()
        if left:
            _log.info("%d pictures in the spool have no ack yet and are sent again.", len(left))
        self._waiting.extend(_Waiting(pending, None, time.monotonic_ns(), None) for pending in left)

    def _turn(self) -> None:
        """One turn of the loop."""
        for ack in self._link.wait(self._rest_s(), self._hot.event_fd):
            self._to_release.append(_Judged(self._at_worker.pop(ack.job_id), ack.unreadable))
        self._follow(self._link.recipe_sha256)
        for sha256 in self._link.take_wanted():
            self._put_sample(sha256)
        if not self._found and self._hot.due_in_s() == 0:
            self._found.extend(self._scanned())
        if self._found:
            self._claim(self._found.popleft())
        if self._waiting and self._has_room():
            self._send(self._waiting.popleft())
        self._release_all()
        self._notifier.alive()
        self._notifier.status(self._state())

    def _scanned(self) -> list[str]:
        """Look into the hot folder; tell the worker when it is away, or there again: the PLC sees it."""
        before, names = self._hot.problem, self._hot.scan()
        if self._hot.problem != before:
            self._link.follow(self._hello())
        return names

    def _follow(self, recipe_sha256: str) -> None:
        """Prepare with the recipe that is in force at the worker."""
        if recipe_sha256 == self._preparer.recipe.sha256:
            return
        if recipe_sha256 not in self._preparers:
            self._complaints.say(
                "unknown recipe",
                f"The worker has a recipe {recipe_sha256[:12]} that capture does not know, every part is rejected:"
                " restart both, so that they read the same config.yaml and recipes.",
            )
            return
        self._preparer = self._preparers[recipe_sha256]
        self._link.follow(self._hello())
        _log.info("Recipe %s %s is in force.", self._preparer.recipe.file.recipe, recipe_sha256[:12])

    def _hello(self) -> Hello:
        recipe = self._preparer.recipe
        return Hello(
            identity=self._identity,
            recipe=recipe.file.recipe,
            recipe_sha256=recipe.sha256,
            hot_folder_problem=self._hot.problem,
        )

    def _rest_s(self) -> float:
        """Return how long the loop may wait."""
        if self._found or (self._waiting and self._has_room()):
            return 0
        return min(LONGEST_WAIT_S, self._hot.due_in_s())

    def _has_room(self) -> bool:
        """Before the worker has answered once it is not known which recipe is in force."""
        return self._link.credit > 0 and self._link.open_jobs < self._link.credit + JOBS_AHEAD

    def _claim(self, name: str) -> None:
        """Take one file into the spool if it is complete. While that is impossible, all files stay where they are."""
        if problem := self._room.problem:
            self._complaints.say("disk", problem)
            self._found.clear()
            return
        seen_ns = time.monotonic_ns()
        file = self._hot.open_complete(name)
        if file is None:
            return
        try:
            captured_ns = _captured_ns(file, seen_ns)
            claimed = self._spool.claim(file, name)
        except DiskFailedError:
            raise
        except SpoolError as error:
            self._complaints.say("cannot claim", str(error))
            self._found.clear()
            return
        finally:
            os.close(file)
        if claimed:
            pending, picture = claimed
            is_next = not self._waiting and self._has_room()
            if picture:
                sha256 = picture.image.sha256
                self._link.tell(Sighting(job_id=pending.job_id, sha256=sha256, captured_ns=captured_ns))
            else:
                captured_ns = None  # another file took its name: that one's time is not known
            self._waiting.append(_Waiting(pending, picture if is_next else None, seen_ns, captured_ns))

    def _send(self, waiting: _Waiting) -> None:
        job = msgspec.structs.replace(self._job(waiting), captured_ns=waiting.captured_ns)
        self._at_worker[job.job_id] = waiting.pending
        if job.image.sha256 in self._samples:
            self._sample_jobs.add(job.job_id)
        self._spool.settle()  # the disk had the time of the preparation for it
        self._link.add(job)

    def _job(self, waiting: _Waiting) -> Job:
        """Return the job of a pending picture, whatever happens: the outermost guard of a job."""
        pending, image = waiting.pending, nothing_read(waiting.pending.path.name)
        try:
            picture = waiting.picture or self._spool.read(pending)
            image = picture.image
            if not self._marked(self._spool.begin, pending):
                return self._preparer.failed(pending.job_id, image, _poison(image), waiting.seen_ns)
            job = self._preparer.prepare(pending.job_id, picture, waiting.seen_ns)
            self._marked(self._spool.end, pending)
            return job
        except OSError as error:
            failure = unreadable(pending.path, error)
        except DiskFailedError:
            raise
        except Exception as error:  # noqa: BLE001  nothing a picture can cause may end the service
            self._complaints.say("cannot prepare", f"Job {pending.job_id} could not be prepared.", traceback=True)
            failure = Failure(
                reason=Reason.IMAGE_UNREADABLE,
                detail=f"{image.name!r} could not be prepared: {type(error).__name__}: {error}."
                " This is a fault of the station: report it with the picture from the quarantine.",
            )
        return self._preparer.failed(pending.job_id, image, failure, waiting.seen_ns)

    def _marked(self, change: Callable[[Pending], bool], pending: Pending) -> bool:
        """Change the picture's marks; False if it must not be looked into. Where the disk refuses, it may."""
        try:
            return change(pending)
        except DiskFailedError:
            raise
        except SpoolError as error:
            self._complaints.say("cannot mark", str(error))
            return True

    def _release_all(self) -> None:
        """Move acked pictures out of the spool; what cannot be moved now is tried again in the next turn."""
        for _ in range(len(self._to_release)):
            judged = self._to_release.popleft()
            try:
                self._release(judged)
            except DiskFailedError:
                raise
            except SpoolError as error:
                self._complaints.say("cannot release", str(error))
                self._to_release.append(judged)

    def _release(self, judged: _Judged) -> None:
        if judged.pending.job_id in self._sample_jobs:
            self._spool.discard(judged.pending)
            self._sample_jobs.discard(judged.pending.job_id)
        else:
            self._spool.release(judged.pending, judged.unreadable)

    def _put_sample(self, sha256: str) -> None:
        """Put a challenge sample into the hot folder; if that cannot be, the worker notices that it does not come."""
        if sha256 not in self._samples:
            text = "The worker wants a challenge sample that capture does not have: restart both services."
            self._complaints.say("unknown sample", text)
            return
        try:
            put_sample(*self._samples[sha256], self._hot_folder)
        except OSError as error:
            self._complaints.say("cannot put sample", f"A challenge sample cannot be put into the hot folder: {error}.")

    def _state(self) -> str:
        """Return one line for `systemctl status`."""
        pictures = len(self._waiting) + self._link.open_jobs
        return f"{pictures} pictures in the spool" + ("; no worker answers" if self._link.is_silent else "")


def _captured_ns(file: int, seen_ns: int) -> int | None:
    """Return the monotonic time at which the open file was last changed; None if the clock was set back since.

    By ctime: the kernel of this machine gives it, no copying or unpacking program can.
    """
    age_ns = time.time_ns() - os.fstat(file).st_ctime_ns
    return seen_ns - age_ns if age_ns >= 0 else None


def _poison(image: ImageRef) -> Failure:
    """Return the failure of a picture that has ended capture again and again."""
    detail = (
        f"{image.name!r} was not looked into: capture ended {MAX_TRIES} times over it."
        " Report it with the picture from the quarantine and capture's log."
    )
    return Failure(reason=Reason.IMAGE_UNREADABLE, detail=detail)
