"""`station calibrate camera IMAGE...`: from pictures of a board to camera.yaml, with a verdict on how good it is.

In: pictures of a ChArUco board, the first of which shows it flat where the parts lie, the others tilted and all over
the view; or pictures of a marker of known size, for the scale alone. Out: a CameraReport, an overlay to check by
eye; camera.yaml only if everything is good enough. Raises ConfigurationError for pictures that cannot be used at all.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median

import numpy as np

from calibration import camera_overlay, fiducials
from calibration.board import Board, View, find_board, find_marker
from calibration.lens_fit import LensFit, Scale, ViewFit, fit_lens, scale_of, seen_cells
from station.camera import Camera, as_yaml
from station.capture.lens import straight_points
from station.errors import ConfigurationError, OutputError
from station.records import Record

LEAST_TO_FIT = 3
"""Fewer views give no lens at all; how many are good enough is below."""
LEAST_VIEWS, LEAST_TILTED, TILT_DEG = 8, 4, 15.0
LEAST_COVERAGE = 0.8
MOST_ERROR_PX, MOST_VIEW_ERROR_PX, MOST_TIMES_MEDIAN = 0.5, 1.0, 3.0
MOST_FOCAL_SPREAD = 0.005
MOST_CHANGE = 0.01
"""Of the pixels a millimetre over the flat view: about one degree askew."""
LEAST_MARKER_PX = 80


class Check(Record):
    """One thing that must be so, and is or is not."""

    what: str
    found: str
    wanted: str
    is_good: bool
    to_do: str


class CameraReport(Record):
    """What a calibration of the camera came to."""

    size_px: tuple[int, int]
    px_per_mm: float
    error_px: float | None
    """None: a marker tells nothing of the lens."""
    coverage: float | None
    views: tuple[ViewFit, ...]
    without_board: tuple[str, ...]
    """Pictures in which too little of the board was found."""
    checks: tuple[Check, ...]
    sha256: str
    """Of camera.yaml; empty: not written."""

    @property
    def is_good(self) -> bool:
        """True when every check is."""
        return all(check.is_good for check in self.checks)


def calibrate_camera(images: Sequence[Path], target: Board | float, out: Path) -> CameraReport:
    """Measure the camera, write the overlay beside `out`, and `out` itself if it is good. Raises StationError.

    `target`: the board, or the side of a marker in mm.
    """
    pictures = _pictures(images)
    views = [_find(target, image.name, picture) for image, picture in zip(images, pictures, strict=True)]
    height, width = pictures[0].shape[:2]
    if isinstance(target, Board):
        camera, fit, used = _with_lens(images, views, (width, height))
        checks = _lens_checks(camera, fit, used)
    else:
        camera, used = _scale_alone(images, views, (width, height))
        fit, checks = None, _marker_checks(camera, used)
    text = as_yaml(camera)
    report = CameraReport(
        size_px=(width, height),
        px_per_mm=camera.px_per_mm,
        error_px=camera.lens.error_px if camera.lens else None,
        coverage=camera.lens.coverage if camera.lens else None,
        views=fit.views if fit else tuple(ViewFit(view.image, len(view.places), 0.0, 0.0) for view in used),
        without_board=tuple(view.image for view in views if view not in used),
        checks=checks,
        sha256=hashlib.sha256(text.encode()).hexdigest() if all(check.is_good for check in checks) else "",
    )
    overlay = camera_overlay.overlay(pictures[0], camera, views[0], used)
    _write(out, text if report.is_good else None, fiducials.png(overlay))
    return report


def overlay_path(out: Path) -> Path:
    """Return where the overlay is: beside camera.yaml."""
    return out.with_suffix(".overlay.png")


def _pictures(images: Sequence[Path]) -> list[fiducials.Image]:
    """Return the pictures, all of one size. Raises ConfigurationError."""
    pictures = [fiducials.read_picture(image) for image in images]
    height, width = pictures[0].shape[:2]
    if other := [
        f"{image}: {picture.shape[1]} x {picture.shape[0]} px, {images[0].name} has {width} x {height} px."
        for image, picture in zip(images, pictures, strict=True)
        if picture.shape[:2] != (height, width)
    ]:
        raise ConfigurationError(other, "A calibration holds for one size: take all pictures as the line takes them.")
    return pictures


def _find(target: Board | float, image: str, picture: fiducials.Image) -> View:
    return find_board(target, image, picture) if isinstance(target, Board) else find_marker(target, image, picture)


def _with_lens(
    images: Sequence[Path], views: Sequence[View], size_px: tuple[int, int]
) -> tuple[Camera, LensFit, list[View]]:
    used = [view for view in views if view.is_enough]
    if not views[0].is_enough:
        text = f"{images[0]}: the board is not seen; the first picture shows it flat where the parts lie."
        raise ConfigurationError([text], "Are --squares those of the board, and is it sharp and wholly lit?")
    if len(used) < LEAST_TO_FIT:
        text = f"The board is seen in {len(used)} of {len(views)} pictures; {LEAST_VIEWS} are needed."
        raise ConfigurationError([text], "Take more pictures; the board must be sharp, flat and evenly lit.")
    fit = fit_lens(used, size_px)
    bare = _camera(images, size_px, Scale(1.0, 0.0)).model_copy(update={"lens": fit.lens})
    flat = scale_of(straight_points(bare, views[0].places), views[0].board_mm)
    return _camera(images, size_px, flat).model_copy(update={"lens": fit.lens}), fit, used


def _scale_alone(images: Sequence[Path], views: Sequence[View], size_px: tuple[int, int]) -> tuple[Camera, list[View]]:
    used = [view for view in views if len(view.places)]
    if not used:
        raise ConfigurationError(
            [f"No marker is seen in {len(views)} pictures."], "Is it of the 4x4 family, sharp, with white around it?"
        )
    scales = [scale_of(view.places, view.board_mm).px_per_mm for view in used]
    mean = fmean(scales)
    return _camera(images, size_px, Scale(mean, (max(scales) - min(scales)) / mean)), used


def _camera(images: Sequence[Path], size_px: tuple[int, int], scale: Scale) -> Camera:
    digest = hashlib.sha256()
    for image in images:
        digest.update(hashlib.sha256(image.read_bytes()).digest())
    return Camera(
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        pictures_sha256=digest.hexdigest(),
        width_px=size_px[0],
        height_px=size_px[1],
        px_per_mm=round(scale.px_per_mm, 5),
        px_per_mm_change=round(scale.change, 5),
    )


def _lens_checks(camera: Camera, fit: LensFit, used: Sequence[View]) -> tuple[Check, ...]:
    lens, size_px = fit.lens, (camera.width_px, camera.height_px)
    tilted = sum(view.tilt_deg >= TILT_DEG for view in fit.views)
    off = [view.image for view in fit.views if view.error_px > _most_view_error(fit)]
    bare = _bare_corners(seen_cells(used, size_px))
    return (
        _check("views", str(lens.views), f"{LEAST_VIEWS} or more", lens.views >= LEAST_VIEWS, "take more pictures"),
        _check(
            f"tilted by {TILT_DEG:g} deg or more", str(tilted), f"{LEAST_TILTED} or more", tilted >= LEAST_TILTED,
            "tilt the board to each side, by 20 to 40 deg",
        ),
        _check(
            "field covered", f"{lens.coverage:.0%}", f"{LEAST_COVERAGE:.0%} or more", lens.coverage >= LEAST_COVERAGE,
            "take pictures with the board where none was, see the overlay",
        ),
        _check(
            "corners of the field", "not " + ", ".join(bare) if bare else "all four", "all four", not bare,
            "move the board right into those corners",
        ),
        _check(
            "reprojection error", f"{lens.error_px:.3f} px", f"{MOST_ERROR_PX} px at most",
            lens.error_px <= MOST_ERROR_PX, "is the board flat, sharp, and still while it is taken?",
        ),
        _check("pictures that do not fit", ", ".join(off) or "none", "none", not off, "take these out or anew"),
        _check(
            "focal length", f"+- {fit.focal_spread:.2%}", f"{MOST_FOCAL_SPREAD:.1%} at most",
            fit.focal_spread <= MOST_FOCAL_SPREAD, "more pictures, more tilt, larger in the view",
        ),
        _change_check("scale over the flat view", camera),
    )  # fmt: skip


def _marker_checks(camera: Camera, used: Sequence[View]) -> tuple[Check, ...]:
    side = min(float(np.linalg.norm(view.places[1] - view.places[0])) for view in used)
    return (
        _check(
            "marker", f"{side:.0f} px", f"{LEAST_MARKER_PX} px or more", side >= LEAST_MARKER_PX, "take a larger marker"
        ),
        _change_check("scale from picture to picture", camera),
    )  # fmt: skip


def _change_check(what: str, camera: Camera) -> Check:
    change = camera.px_per_mm_change
    to_do = "put the camera square above the place where the parts lie, and the target flat there"
    return _check(what, f"{change:.2%}", f"{MOST_CHANGE:.0%} at most", change <= MOST_CHANGE, to_do)


def _check(what: str, found: str, wanted: str, is_good: bool, to_do: str) -> Check:
    return Check(what, found, wanted, is_good, "" if is_good else to_do)


def _most_view_error(fit: LensFit) -> float:
    return max(MOST_VIEW_ERROR_PX, MOST_TIMES_MEDIAN * median(view.error_px for view in fit.views))


def _bare_corners(seen: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> list[str]:
    """Return the corners of the field, two cells each way, in which nothing was seen."""
    corners = {
        "upper left": seen[:2, :2],
        "upper right": seen[:2, -2:],
        "lower left": seen[-2:, :2],
        "lower right": seen[-2:, -2:],
    }
    return [name for name, cells in corners.items() if not cells.any()]


def _write(out: Path, text: str | None, overlay: bytes) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        overlay_path(out).write_bytes(overlay)
        if text is not None:
            out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}.", "Choose another file with --out.") from error
