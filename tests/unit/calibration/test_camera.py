"""The camera is found as it is, from pictures that a known one takes; what is not good enough is not written."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from calibration.board import PX_PER_MM, drawn_board, drawn_marker, find_board, write_print
from calibration.camera import CameraReport, calibrate_camera, overlay_path
from station.camera import Camera
from station.camera_file import read_camera
from station.capture.lens import lens_matrix, straight_points
from station.errors import ConfigurationError
from tests.camera_views import BOARD, FINE, SIZE, KnownCamera, Plane, board_poses, seen, write_views
from tests.pictures import draw_part, encoded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

KNOWN = KnownCamera()
MIDDLE = (BOARD.columns * BOARD.square_mm / 2, BOARD.rows * BOARD.square_mm / 2)


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_views(tmp_path_factory.mktemp("views"), KNOWN, board_poses())


@pytest.fixture(scope="module")
def found(views: list[Path]) -> tuple[CameraReport, Camera]:
    out = views[0].with_name("camera.yaml")
    report = calibrate_camera(views, BOARD, out)
    camera, sha256 = read_camera(out)
    assert sha256 == report.sha256
    return report, camera


def test_a_careful_set_of_views_is_good(found: tuple[CameraReport, Camera], views: list[Path]) -> None:
    report, camera = found
    assert [check.what for check in report.checks if not check.is_good] == []
    assert report.is_good
    assert report.error_px is not None
    assert report.error_px < 0.15
    assert (camera.width_px, camera.height_px) == SIZE
    assert camera.lens
    assert camera.lens.views == len(views)
    shown = cv2.imread(str(overlay_path(views[0].with_name("camera.yaml"))))
    assert shown is not None
    assert shown.shape == (SIZE[1], 2 * SIZE[0], 3)


def test_the_lens_is_the_one_that_took_the_views(found: tuple[CameraReport, Camera]) -> None:
    lens = found[1].lens
    assert lens
    assert (lens.fx_px, lens.fy_px) == pytest.approx((KNOWN.focal_px,) * 2, rel=0.003)
    assert (lens.cx_px, lens.cy_px) == pytest.approx(KNOWN.centre_px, abs=2)
    field = np.stack(np.meshgrid(np.linspace(10, 790, 20), np.linspace(10, 590, 15)), axis=-1).reshape(-1, 1, 2)
    here = cv2.undistortPoints(field, lens_matrix(lens), np.array(lens.distortion))
    there = cv2.undistortPoints(field, KNOWN.matrix, np.array(KNOWN.distortion))
    off_px = np.linalg.norm(np.asarray(here) - there, axis=-1) * KNOWN.focal_px
    assert np.median(off_px) < 0.5
    assert off_px.max() < 2.5, "the very corners are told by few corners of the board"


def test_a_millimetre_has_as_many_pixels_all_over_the_field(found: tuple[CameraReport, Camera]) -> None:
    camera = found[1]
    flat = Plane((0.0, 0.0))
    x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(-30, 20, 6), np.linspace(-22, 12, 5)))
    starts = np.column_stack([x, y])
    for step in ((10.0, 0.0), (0.0, 10.0), (6.0, 8.0)):
        ends = straight_points(camera, KNOWN.places(starts + step, flat))
        lengths = np.linalg.norm(ends - straight_points(camera, KNOWN.places(starts, flat)), axis=1)
        assert lengths.mean() / 10 == pytest.approx(camera.px_per_mm, rel=0.002)
        assert lengths / 10 == pytest.approx(camera.px_per_mm, rel=0.01)


def not_good(report: CameraReport) -> set[str]:
    assert all(check.to_do for check in report.checks if not check.is_good)
    return {check.what for check in report.checks if not check.is_good}


def test_views_that_are_few_and_flat_are_not_good_enough_and_say_why(tmp_path: Path) -> None:
    small = [Plane(MIDDLE, (x, 0.0, 170.0), (0.0, 4.0, 10.0 * x)) for x in (0.0, 1.0, 2.0, 3.0)]
    report = calibrate_camera(write_views(tmp_path, KNOWN, small), BOARD, tmp_path / "camera.yaml")
    assert not report.is_good
    assert not_good(report) >= {"views", "tilted by 15 deg or more", "field covered", "corners of the field"}
    assert not (tmp_path / "camera.yaml").exists()
    assert overlay_path(tmp_path / "camera.yaml").exists()
    assert report.sha256 == ""


def test_a_camera_that_looks_askew_is_not_good_enough(views: list[Path], tmp_path: Path) -> None:
    askew = write_views(tmp_path, KNOWN, [Plane(MIDDLE, turned_deg=(0.0, 6.0, 0.0))])
    report = calibrate_camera([askew[0], *views[1:6]], BOARD, tmp_path / "camera.yaml")
    assert not_good(report) == {"views", "scale over the flat view"}


def test_a_picture_of_a_bent_board_is_named(views: list[Path], tmp_path: Path) -> None:
    other = write_views(tmp_path, replace(KNOWN, distortion=(0.3, 0.0, 0.0, 0.0, 0.0)), board_poses()[4:5])
    report = calibrate_camera([*views[:5], other[0].rename(tmp_path / "bent.png")], BOARD, tmp_path / "camera.yaml")
    (check,) = (check for check in report.checks if check.what == "pictures that do not fit")
    assert (check.found, check.is_good) == ("bent.png", False)


def test_pictures_of_another_size_and_without_the_board_are_refused(views: list[Path], tmp_path: Path) -> None:
    other, empty = tmp_path / "other.png", tmp_path / "empty.png"
    other.write_bytes(encoded(draw_part(enlarge=2), ".png"))
    empty.write_bytes(encoded(draw_part(), ".png"))
    with pytest.raises(ConfigurationError, match=r"other.png: 1600 x 1200 px, view-00.png has 800 x 600 px"):
        calibrate_camera([views[0], other], BOARD, tmp_path / "camera.yaml")
    with pytest.raises(ConfigurationError, match=r"empty.png: the board is not seen"):
        calibrate_camera([empty, *views[1:3]], BOARD, tmp_path / "camera.yaml")
    with pytest.raises(ConfigurationError, match="seen in 2 of 3 pictures"):
        calibrate_camera([*views[:2], empty], BOARD, tmp_path / "camera.yaml")
    with pytest.raises(ConfigurationError, match="No marker"):
        calibrate_camera([empty], 10.0, tmp_path / "camera.yaml")


@pytest.mark.parametrize("side_mm", [12.0, 25.0])
def test_a_marker_gives_the_scale(side_mm: float, tmp_path: Path) -> None:
    straight = replace(KNOWN, distortion=(0.0, 0.0, 0.0, 0.0, 0.0))
    scale, margin_mm = FINE * PX_PER_MM, 10
    texture = np.repeat(np.repeat(drawn_marker(side_mm), FINE, axis=0), FINE, axis=1)
    middle = margin_mm + side_mm / 2
    poses = [Plane((middle, middle), (x, 0.0, 110.0), (0.0, 0.0, turn)) for x, turn in ((0.0, 0.0), (9.0, 25.0))]
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path, pose in zip(paths, poses, strict=True):
        path.write_bytes(encoded(seen(straight, texture, scale, pose), ".png"))
    report = calibrate_camera(paths, side_mm, tmp_path / "camera.yaml")
    assert report.is_good, report.checks
    assert report.px_per_mm == pytest.approx(10.0, rel=0.002)
    assert read_camera(tmp_path / "camera.yaml")[0].lens is None


def test_the_print_is_true_to_size_and_is_found(tmp_path: Path) -> None:
    write_print(tmp_path / "board.png", drawn_board(BOARD))
    with Pillow.open(tmp_path / "board.png") as printed:
        assert printed.info["dpi"] == pytest.approx((254, 254), abs=0.01)
        assert printed.size == ((66 + 20) * 10, (48 + 20) * 10)
    picture = cv2.imread(str(tmp_path / "board.png"))
    assert picture is not None
    view = find_board(BOARD, "board.png", np.asarray(picture, np.uint8))
    assert len(view.places) == 70
    assert view.places == pytest.approx((view.board_mm + 10) * PX_PER_MM - 0.5, abs=0.25)
