"""One picture file becomes one job: gate -> lens, if known -> registration -> tips, if wanted -> crop -> is it usable.

In: the file's bytes and its job id. Out: always a Job; what makes the picture impossible to inspect is its `failure`.
The service guards against exceptions nobody thought of; here only CaptureErrors are expected.
Runs in capture's one thread.
"""

import time
from pathlib import Path

import msgspec

from station.capture.crop import crops, golden_crops, golden_picture
from station.capture.gate import CaptureLimits, check_size, declared_size, decode
from station.capture.job_id import captured_at
from station.capture.lens import LensCorrection
from station.capture.measure import PinMeasurer
from station.capture.picture_file import PictureFile, nothing_read, read_path
from station.capture.registration import PartFinder
from station.capture.tips import TipFinder
from station.capture.usable import check_usable, look
from station.errors import CaptureError
from station.recipe import Recipe
from station.records import Failure, ImageRef, Job, Reason, RegionCrop, Registration


class Preparer:
    """Makes jobs for one recipe. Built once; raises ConfigurationError if the golden picture cannot be read."""

    def __init__(self, recipe: Recipe, limits: CaptureLimits) -> None:
        golden = golden_picture(recipe)
        self.recipe = recipe
        self.limits = limits
        self._golden_size = (golden.shape[1], golden.shape[0])
        self._finder = PartFinder(recipe.file.registration, golden)
        reach_px = recipe.file.registration.tip_reach_px
        self._tips = TipFinder(recipe.file.regions, golden, reach_px) if reach_px else None
        golden_regions = golden_crops(recipe)
        self._golden_look = {name: look(crop) for name, crop in golden_regions.items()}
        self._lens = LensCorrection(recipe.camera) if recipe.camera else None
        self._measurers = [
            PinMeasurer(region, golden_regions[region.region_id], recipe.px_per_mm) for region in recipe.file.regions
        ]

    def prepare(self, job_id: str, picture: PictureFile, seen_ns: int) -> Job:
        """Return the job of this picture; `seen_ns` is when the complete file was seen, time.monotonic_ns()."""
        try:
            registration, regions = self._look(picture)
        except CaptureError as error:
            return self.failed(job_id, picture.image, error.failure, seen_ns)
        return self._job(job_id, picture.image, seen_ns, registration, regions, None)

    def failed(self, job_id: str, image: ImageRef, failure: Failure, seen_ns: int) -> Job:
        """Return the job of a picture that cannot be inspected."""
        return self._job(job_id, image, seen_ns, None, (), failure)

    def _look(self, picture: PictureFile) -> tuple[Registration, tuple[RegionCrop, ...]]:
        image = picture.image
        size = declared_size(image.name, picture.data, image.size_bytes, self.limits)
        check_size(image.name, size, self._golden_size)
        frame = decode(image.name, picture.data, size)
        if self._lens:
            frame = self._lens.straight(frame)
        registration = self._finder.find(frame)
        if self._tips:
            registration = self._tips.moved(frame, registration)
        regions = crops(frame, self.recipe, registration)
        check_usable(regions, self._golden_look, self.recipe.file.picture)
        measured = (measurer.measure(crop) for measurer, crop in zip(self._measurers, regions, strict=True))
        return registration, tuple(
            msgspec.structs.replace(crop, measured=pins) for crop, pins in zip(regions, measured, strict=True)
        )

    def _job(
        self,
        job_id: str,
        image: ImageRef,
        seen_ns: int,
        registration: Registration | None,
        regions: tuple[RegionCrop, ...],
        failure: Failure | None,
    ) -> Job:
        return Job(
            job_id=job_id,
            part_id=None,
            image=image,
            recipe=self.recipe.file.recipe,
            recipe_sha256=self.recipe.sha256,
            registration=registration,
            crops=regions,
            failure=failure,
            captured_utc=captured_at(job_id).isoformat(timespec="milliseconds"),
            capture_ms=(time.monotonic_ns() - seen_ns) / 1e6,
        )


def prepare_job(path: Path, job_id: str, preparer: Preparer) -> Job:
    """Return the job of a picture file anywhere on the disk, as `station inspect` needs it. Always a job."""
    seen_ns = time.monotonic_ns()
    try:
        picture = read_path(path, preparer.limits.max_file_bytes)
    except OSError as error:
        return preparer.failed(job_id, nothing_read(path.name), unreadable(path, error), seen_ns)
    return preparer.prepare(job_id, picture, seen_ns)


def unreadable(path: Path, error: OSError) -> Failure:
    """Return the failure of a file that the system does not let us read."""
    return Failure(
        reason=Reason.IMAGE_UNREADABLE,
        detail=f"{path} cannot be read: {error.strerror or error}. Look at the rights of the file and at the disk.",
    )
