"""Output to the archive: `<folder>/<YYYY-MM-DD>/<job_id>/annotated.jpg` and `verdict.json`, beside the picture itself.

Drawing and the disk are too slow for the worker's loop, so a thread of its own does them, from a bounded queue. When
the queue is full or the disk refuses, this annotated picture is left out, counted and logged: the verdict itself is in
the journal. A file is complete when it has its name. Capture moves the picture into the same folder.
"""

import contextlib
import io
import logging
import os
import queue
import re
import threading
from collections.abc import Sequence
from pathlib import Path

from station import failpoints, verdict_json
from station.complaints import Complaints
from station.durable_file import sync_folder
from station.errors import OutputError
from station.outputs.annotation import annotate
from station.recipe import Recipe
from station.records import Job, Verdict

ANNOTATED_NAME = "annotated.jpg"
VERDICT_NAME = "verdict.json"
QUEUE_VERDICTS = 64
"""Verdicts that may wait for the disk; their crops are kept in memory so long."""
JPEG_QUALITY = 90
CLOSE_TIMEOUT_S = 5.0
"""For what still waits when the worker ends; a disk that hangs longer must not hold it up."""
_JOB_ID = re.compile(r"(\d{4})(\d\d)(\d\d)T[0-9A-Za-z-]+")

_log = logging.getLogger(__name__)

_Waiting = tuple[Verdict, Job]


class ArchiveOutput:
    """Keep an annotated picture of every verdict. Implements `station.outputs.base.Output`."""

    name = "archive"

    def __init__(self, folder: Path, recipe: Recipe, more: Sequence[Recipe] = ()) -> None:
        """`recipe` and `more`: those that jobs are made with."""
        self._folder = folder
        self._recipe = recipe
        self._recipes = {each.sha256: each for each in (recipe, *more)}
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(QUEUE_VERDICTS)
        self._thread: threading.Thread | None = None
        self.complaints = Complaints(_log)
        """`full`: left out by `send`, in the worker's thread."""
        self.disk_complaints = Complaints(_log)
        """`disk`, `drawing`: left out by the writer's thread."""

    def start(self) -> None:
        """Make the folder and see that it can be written. Raises OutputError."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            probe = self._folder / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise OutputError(
                f"The archive {self._folder} cannot be written: {error.strerror}.",
                "Check outputs.archive.folder, its rights and the disk's free space.",
            ) from error
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)
        self._thread.start()

    def send(self, verdict: Verdict, job: Job) -> None:
        """Have this verdict drawn and written later. Never blocks. Raises OutputError if the output is not open."""
        if self._thread is None:
            raise OutputError(f"The archive {self._folder} is not open.", "Restart the worker; see its log above.")
        try:
            self._waiting.put_nowait((verdict, job))
        except queue.Full:
            self.complaints.say(
                "full",
                f"The archive is too slow, job {verdict.job_id} is left without annotated picture: check the disk",
            )

    def heartbeat(self, ready: bool, last_seq: int) -> None:
        """Nothing to do."""

    def go_safe(self) -> None:
        """Nothing to do: what is kept stays true."""

    def close(self) -> None:
        """Write what still waits, for `CLOSE_TIMEOUT_S` at most, and end the thread."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=CLOSE_TIMEOUT_S)
        thread.join(CLOSE_TIMEOUT_S)
        if thread.is_alive():
            _log.error("The archive %s was left with about %d to write.", self._folder, self._waiting.qsize())

    def _run(self) -> None:
        """Thread of the writer: write until told to end."""
        while (waiting := self._waiting.get()) is not None:
            verdict, job = waiting
            try:
                self._keep(verdict, job)
            except OSError as error:
                self.disk_complaints.say("disk", f"Job {verdict.job_id} cannot be kept in the archive: {error}")
            except Exception:  # noqa: BLE001 - outermost guard of a job: the next one may well be drawn
                self.disk_complaints.say("drawing", f"Job {verdict.job_id} cannot be drawn", traceback=True)

    def _keep(self, verdict: Verdict, job: Job) -> None:
        """Write both files of one job. Raises OSError."""
        folder = self._folder / day_of(verdict.job_id) / verdict.job_id
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / VERDICT_NAME, verdict_json.encode(verdict))
        picture = io.BytesIO()
        annotate(verdict, job, self._recipes.get(job.recipe_sha256, self._recipe)).save(
            picture, "JPEG", quality=JPEG_QUALITY, subsampling=0
        )
        _write(folder / ANNOTATED_NAME, picture.getvalue())


def day_of(job_id: str) -> str:
    """Return the day a job was captured, UTC, as 2026-11-22. Raises ValueError if this is no job id."""
    match = _JOB_ID.fullmatch(job_id)
    if match is None:
        raise ValueError(f"{job_id!r} is not a job id")
    return "-".join(match.groups())


def _write(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, also after a power cut. Raises OSError."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    failpoints.hit("archive-writing")
    partial.replace(path)
    sync_folder(path.parent)
    failpoints.hit("archive-written")
