"""Reads a recipe's challenge samples, puts one into the hot folder, keeps and reads the log of challenges.

In: the recipe. Out: samples by the hash of their bytes; lines of challenges.jsonl beside the journal, one a run, only
ever added to. Raises ConfigurationError for a folder that cannot be used, OSError where a file cannot be written.
"""

import hashlib
import shutil
from collections import defaultdict
from pathlib import Path

import msgspec

from station.challenge import ChallengeRun
from station.labels import FILE_NAME, Label, Said, differences, read_labels
from station.recipe import Recipe
from station.records import Record

FOLDER_NAME = "challenge"
"""Beside recipe.yaml: pictures and labels.csv."""
LOG_NAME = "challenges.jsonl"
_TAIL_BYTES = 1 << 20


class Sample(Record):
    """A picture with a known answer, in the recipe's challenge folder."""

    name: str
    """Path relative to the folder."""
    sha256: str
    """Of the whole file, hex: by it the picture is known wherever it turns up."""
    labels: tuple[Label, ...]

    @property
    def hot_name(self) -> str:
        """File name in the hot folder."""
        return f"challenge-{self.name.replace('/', '-')}"


def problem_of(sample: Sample, said: Said, detail: str) -> str:
    """Return in words where a sample's answer is not the known one; empty: passed."""
    wrong = differences(list(sample.labels), said)
    return f"{', '.join(wrong)}; is {said.evaluation} {detail}".strip() if wrong else ""


def wanted_of(sample: Sample) -> str:
    """Return the known answer in words."""
    words = [f"{label.evaluation} {';'.join(label.defect_modes + label.defect_positions)}" for label in sample.labels]
    return ", ".join(word.strip() for word in words)


def folder_of(recipe: Recipe) -> Path:
    """Return where the recipe's samples are or would be."""
    return recipe.golden_path.with_name(FOLDER_NAME)


def read_samples(recipe: Recipe) -> dict[str, Sample]:
    """Return the samples by sha256, in the order of labels.csv; none if there is no such folder.

    Raises ConfigurationError with every problem of labels.csv.
    """
    folder = folder_of(recipe)
    if not (folder / FILE_NAME).exists():
        return {}
    by_image: dict[str, list[Label]] = defaultdict(list)
    for label in read_labels(folder):
        by_image[label.image].append(label)
    samples = (
        Sample(name=name, sha256=hashlib.sha256((folder / name).read_bytes()).hexdigest(), labels=tuple(labels))
        for name, labels in by_image.items()
    )
    return {sample.sha256: sample for sample in samples}


def put_sample(recipe: Recipe, sample: Sample, hot_folder: Path) -> None:
    """Put a copy of the sample into the hot folder, complete at once. Raises OSError."""
    hidden = hot_folder / f".{sample.hot_name}.tmp"
    shutil.copyfile(folder_of(recipe) / sample.name, hidden)
    hidden.rename(hot_folder / sample.hot_name)


def log_path(journal: Path) -> Path:
    """Return the log of challenges that belongs to a journal."""
    return journal.with_name(LOG_NAME)


def last_run(path: Path) -> ChallengeRun | None:
    """Return the newest run of the log that can be read, None if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            return msgspec.json.decode(line, type=ChallengeRun)
        except msgspec.MsgspecError:
            continue  # torn by a power cut
    return None
