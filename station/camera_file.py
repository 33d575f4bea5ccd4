"""Reads the camera.yaml that a recipe names. Raises ConfigurationError: not readable, changed, of another picture size.

In: the path, and what the recipe says of it. Out: the `Camera`. Files are known by their hash, as golden pictures are.
"""

import hashlib
from pathlib import Path

from station.camera import Camera
from station.settings_file import read_yaml


def read_camera(path: Path) -> tuple[Camera, str]:
    """Return the camera and the hash (hex SHA-256) of its file. Raises ConfigurationError with every problem in it."""
    checked = read_yaml(path, Camera)
    return checked.value, hashlib.sha256(checked.raw).hexdigest()


def size_problem(camera: Camera, size_px: tuple[int, int], what: str) -> str:
    """Return what is wrong when a picture has another (width, height) than those of the calibration; empty: nothing."""
    if size_px == (camera.width_px, camera.height_px):
        return ""
    return (
        f"the calibration is for pictures of {camera.width_px} x {camera.height_px} px, {what} has {size_px[0]} x"
        f" {size_px[1]} px. Calibrate the camera anew at this size: station calibrate camera."
    )
