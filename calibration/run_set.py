"""Runs a labelled set the way of the line: gate, registration, crop, engine in its child process, judge.

In: Settings and the set's folder. Out: one `Seen` a picture, in the set's order; with the OpenCV baseline's score on
the same crops. Only queue, deadline, journal and outputs are left out. Raises EngineError when the model does not load.
"""

import io
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from calibration import baseline
from calibration.seen import Seen, seen_of
from station import composite
from station.capture.crop import golden_crops
from station.capture.job_id import new_job_id
from station.capture.prepare import Preparer, prepare_job
from station.inspect_pictures import OneShotEngine, limits_of, verdict_of
from station.labels import Label, read_labels
from station.outputs.annotation import annotate
from station.recipe import Recipe
from station.records import Job
from station.settings import Settings
from station.shift_vote import VotingInspection
from station.wiring import make_inspection

JPEG_QUALITY = 75
REACH_OF_TILE = (17, 64)
"""How far the baseline looks around a pin, as a share of the tile: a tile is about 1.7 pitches."""


class LabelledSet:
    """A labelled set and the recipe it is judged by. Raises ConfigurationError when either is wrong."""

    def __init__(self, settings: Settings, recipe: Recipe, folder: Path, only: Container[str] | None = None) -> None:
        """`only`: names of the pictures that are judged; None: all."""
        self._settings, self.recipe, self.folder = settings, recipe, folder
        labels = [label for label in read_labels(folder) if only is None or label.image in only]
        self.labels: Mapping[str, list[Label]] = _by_image(labels)
        self._preparer = Preparer(recipe, limits_of(settings))
        self._golden = {name: composite.pixels_of(crop) for name, crop in golden_crops(recipe).items()}

    def __len__(self) -> int:
        return len(self.labels)

    def seen(self, model: Path | None = None, inspection: VotingInspection | None = None) -> Iterator[Seen]:
        """Yield each picture as the model (its manifest; None: that of the settings) judges it. Raises StationError.

        `inspection`: other questions than the recipe's.
        """
        settings = self._settings.model_copy(update={"model": model}) if model else self._settings
        engine = OneShotEngine(settings, inspection or make_inspection(self.recipe))
        try:
            engine.start()
            for number, (image, labels) in enumerate(self.labels.items(), 1):
                job = self._job(image)
                verdict = verdict_of(settings, self.recipe, engine, job, number, barred=None)
                yield seen_of(labels, verdict, self._baseline(job))
        finally:
            engine.close()

    def annotated_jpeg(self, seen: Seen) -> bytes:
        """Return the annotated picture of one that was judged."""
        file = io.BytesIO()
        annotate(seen.verdict, self._job(seen.image), self.recipe).save(file, "JPEG", quality=JPEG_QUALITY)
        return file.getvalue()

    def _job(self, image: str) -> Job:
        return prepare_job(self.folder / image, new_job_id(datetime.now(UTC)), self._preparer)

    def _baseline(self, job: Job) -> float | None:
        crops = {crop.region_id: composite.pixels_of(crop) for crop in job.crops}
        reach = self.recipe.file.pins.tile_px * REACH_OF_TILE[0] // REACH_OF_TILE[1]
        scores = [
            float(baseline.pin_scores(region, self._golden[region.region_id], crops[region.region_id], reach).max())
            for region in self.recipe.file.regions
            if region.region_id in crops
        ]
        return max(scores, default=None)


def _by_image(labels: Iterable[Label]) -> Mapping[str, list[Label]]:
    found: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        found[label.image].append(label)
    return found
