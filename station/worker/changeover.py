"""Changing the recipe while the station runs: which one is in force, since when, and how far a change is.

The worker decides: it changes when it has no part, tells capture, and is not ready before engine and capture have
followed. No picture is judged under another recipe than the one it was taken for: a job that was made with another one
is known by its hash, a picture that waited over a change by its time. What is in force is kept in a small file, so that
this holds after a power cut too; a start begins with the recipe of config.yaml again. Used from the worker's thread.
"""

import enum
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from station.durable_file import write_whole
from station.engine.base import Answer, Query, Question
from station.errors import JournalError
from station.recipe import Recipe
from station.records import Job, Record, RegionReport
from station.worker.challenger import Material

logger = logging.getLogger(__name__)

CHANGE_LIMIT_S = 60
"""A change must be through by then, or the PLC's command fails and the station has no recipe."""


class InspectionRules(Protocol):
    """One recipe's questions, and what the answers mean: `station.shift_vote.VotingInspection`."""

    @property
    def question(self) -> Question:
        """What is the same for all jobs."""

    def queries(self, job: Job) -> tuple[Query, ...]:
        """Return what to ask about this job."""

    def regions(self, answers: tuple[Answer, ...], ms: float) -> tuple[RegionReport, ...]:
        """Return what the answers say of each region."""

    def doubts(self, job: Job, answers: tuple[Answer, ...]) -> tuple[Query, ...]:
        """Return what is to be asked once more before the answers count; mostly nothing."""

    def settled(self, answers: tuple[Answer, ...], votes: tuple[Answer, ...]) -> tuple[Answer, ...]:
        """Return the answers that count, with what was asked once more."""


class Product(NamedTuple):
    """All that the worker needs of one recipe."""

    recipe: Recipe
    inspection: InspectionRules
    material: Material | None
    """What the model is challenged with; None: there is no model."""


class Turn(enum.Enum):
    """What the worker is to do about a change now."""

    NOTHING = "go on"
    USE = "the recipe is another one now: engine and capture must follow"
    DONE = "all have followed"
    FAILED = "it took too long"


class InForce(Record, frozen=True):
    """The file: which recipe, and since when."""

    recipe_sha256: str
    since_utc: str
    """ISO 8601, UTC."""


class Changeover:
    """The recipes that the PLC can have, by number, and the one in force. `start` need not have a number."""

    def __init__(self, products: Mapping[int, Product], start: Product, file: Path) -> None:
        self._products = products
        self._file = file
        self._wanted: int | None = None
        self._is_used = False
        self._until_ns = 0
        self._since_ns = 0
        self._since_utc = ""
        self.in_use = start

    def open(self) -> None:
        """Take up what was in force at the last end. Raises JournalError."""
        try:
            last = msgspec.json.decode(self._file.read_bytes(), type=InForce)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as error:
            logger.warning("%s cannot be read (%s): no picture of before is judged.", self._file, error)
            last = InForce(recipe_sha256="", since_utc="")
        self._since_utc = last.since_utc
        if last.recipe_sha256 != self.in_use.recipe.sha256:
            self._use(self.in_use)

    def begin(self, number: int, now_ns: int) -> None:
        """Take in that the PLC wants this recipe, one of the known."""
        self._wanted, self._is_used, self._until_ns = number, False, now_ns + CHANGE_LIMIT_S * 1_000_000_000

    def turn(self, now_ns: int, *, is_idle: bool, capture_sha256: str) -> Turn:
        """Return what to do now. `is_idle`: no part is under way and the engine is READY. Raises JournalError."""
        if self._wanted is None:
            return Turn.NOTHING
        if is_idle and not self._is_used:
            self._is_used = True
            self._use(self._products[self._wanted])
            return Turn.USE
        if is_idle and capture_sha256 == self.in_use.recipe.sha256:
            return self._end(Turn.DONE)
        if now_ns < self._until_ns:
            return Turn.NOTHING
        what = "capture has not followed: does it run, with this config.yaml?" if is_idle else "parts were under way."
        logger.error("The change to recipe %d failed after %d s: %s", self._wanted, CHANGE_LIMIT_S, what)
        return self._end(Turn.FAILED)

    def number(self) -> int:
        """Return the number of the recipe in force; 0: it has none."""
        return next((number for number, product in self._products.items() if product is self.in_use), 0)

    def is_of_before(self, job: Job) -> bool:
        """Return True for a picture of before the change, or one of which that is not known."""
        if job.captured_ns is not None:
            return job.captured_ns < self._since_ns
        return job.captured_utc < self._since_utc

    def _end(self, how: Turn) -> Turn:
        self._wanted = None
        return how

    def _use(self, product: Product) -> None:
        """Put a recipe in force, in the file first. Raises JournalError."""
        now_utc = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(
                self._file, msgspec.json.encode(InForce(recipe_sha256=product.recipe.sha256, since_utc=now_utc))
            )
        except OSError as error:
            raise JournalError(
                f"The recipe in force cannot be written to {self._file}: {error.strerror or error}.",
                "Check the folder of journal.path: rights and room.",
            ) from error
        self.in_use, self._since_utc, self._since_ns = product, now_utc, time.monotonic_ns()
        logger.info("Recipe %s %s is in force.", product.recipe.file.recipe, product.recipe.sha256[:12])
