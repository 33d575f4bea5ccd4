"""Draws camera frames of a product, 1600 x 1200, with known answers; writes them as a labelled set.

    python models/draw_frames.py --out DIR --count 100 --seed 1 --product round-24
    python models/draw_frames.py --out calibration/demo --demo
    python models/draw_frames.py --out calibration/recipes/pins-27/challenge --challenge

The part lies anywhere in view, turned up to 8 degrees; lamp, focus, motion, noise and JPEG quality vary.
"""

import argparse
import csv
import json
import sys
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

import cv2
import numpy as np
import numpy.typing as npt
import products
import render
import scenes
from defects import BENT, MISSING, MODES, put_defects
from products import PINS_27, Product

Grey = npt.NDArray[np.uint8]
"""A frame: (height, width), or (height, width, 3) blue, green, red of a product in colour."""
WIDTH_PX, HEIGHT_PX = 1600, 1200
LIMIT_SEVERITY = 0.15
"""Of the defects in the challenge: just past the limit, where a model that has become weaker fails first."""


@dataclass(frozen=True)
class Answer:
    """What is true of a drawn frame."""

    evaluation: str
    pin_count: int
    modes: tuple[str, ...]
    """Of the bad pins, in reading order."""
    positions: tuple[str, ...]
    severity: float
    """Of the picture's first defect, 0 just past the limit .. 1 obvious; 0 for a good part."""


@dataclass(frozen=True)
class Pose:
    """Where the part lies in the frame."""

    x_px: float
    y_px: float
    rotation_rad: float
    scale: float
    tilt_x: float = 0.0
    tilt_y: float = 0.0
    """Perspective: change of scale per pitch."""


DEFECTS_TO_LEARN = scenes.DEFECTS
NOMINAL = Pose(WIDTH_PX / 2, HEIGHT_PX / 2, 0.0, 1.0)


def draw_pose(rng: np.random.Generator, product: Product = PINS_27) -> Pose:
    """Return a pose with the whole part in view."""
    scale = rng.uniform(0.96, 1.04)
    reach_x, reach_y = ((reach - 20) * scale for reach in product.reach_px)
    return Pose(
        rng.uniform(reach_x, WIDTH_PX - reach_x), rng.uniform(reach_y, HEIGHT_PX - reach_y),
        np.deg2rad(rng.uniform(-8, 8)), scale, rng.uniform(-4e-4, 4e-4), rng.uniform(-4e-4, 4e-4),
    )  # fmt: skip


def draw_scene(
    rng: np.random.Generator, defects: int, severity: float | None = None, product: Product = PINS_27
) -> tuple[scenes.Scene, Answer]:
    """Return one part with `defects` defects (0 to 3) and its answer; `severity` None draws it evenly."""
    scene = scenes.draw_parts(rng, scenes.draw_designs(rng, 1, product.design))
    rows, columns = product.design.rows, product.design.columns
    places = rng.permutation(rows * columns)[:defects]
    pins = (places // columns * scenes.MAX_COLUMNS + places % columns)[None]
    modes = rng.integers(1, len(MODES), (1, defects))
    first = float(rng.random()) if severity is None else severity
    severities = np.concatenate([[first], rng.random(max(0, defects - 1))])[:defects][None]
    if defects:
        put_defects(rng, scene, pins, modes, severities)
    return scene, answer_of(scene, first if defects else 0.0, product)


def answer_of(scene: scenes.Scene, severity: float, product: Product = PINS_27) -> Answer:
    """Return what is true of a drawn part."""
    mode = scene["mode"][0][scene["exists"][0]]
    bad = np.flatnonzero(mode)
    return Answer(
        "NOT_OK" if len(bad) else "OK", int((mode != MISSING).sum()),
        tuple(MODES[mode[k]] for k in bad), tuple(product.pin_ids[k] for k in bad), severity,
    )  # fmt: skip


def draw_frame(
    rng: np.random.Generator,
    scene: scenes.Scene | None,
    pose: Pose,
    spread: float = 1.0,
    product: Product = PINS_27,
    lamp: dict[str, npt.NDArray[np.float64]] | None = None,
) -> Grey:
    """Return a frame of the part, or of the empty bench. `spread` 0: nominal lamp and camera; `lamp`: this one."""
    frame = _bench(rng, spread)
    light = {key: value.astype(np.float32) for key, value in (lamp or render.draw_light(rng, 1, spread)).items()}
    if scene is not None:
        _draw_part(frame, _with_features(scene, product), pose, light, product)
    blur = 0.5 + spread * rng.uniform(0.0, 0.8)
    motion = spread * rng.uniform(0.0, 1.3) * (rng.random() < 0.3)
    frame = np.asarray(cv2.GaussianBlur(frame, (0, 0), float(np.hypot(blur, motion)), sigmaY=blur), np.float32)
    noise = rng.uniform(0.002, 0.03) if spread else 0.004
    frame += noise * rng.standard_normal(frame.shape, dtype=np.float32)
    return _coloured((np.clip(frame, 0, 1) * 255 + 0.5).astype(np.uint8), product)


def _coloured(grey: Grey, product: Product) -> Grey:
    """Return the frame as the product's camera sees it: grey, or blue, green, red."""
    design = product.design
    if design.floor_red == design.floor_blue == design.pin_red == design.pin_blue == 1:
        return grey
    levels = np.arange(256.0).reshape(1, 1, 256)
    tints = render.coloured(
        levels, {key: np.array([value]) for key, value in vars(design).items() if key != "keys"}, np
    )
    return np.asarray(tints[0, ::-1, 0].T.astype(np.uint8)[grey])


def golden_frame(seed: int = 1, product: Product = PINS_27) -> Grey:
    """Return the golden picture: a good part in the middle, nominal lamp."""
    rng = np.random.default_rng(seed)
    scene, _ = draw_scene(rng, 0, product=product)
    scene["dx"] *= 0.3
    scene["dy"] *= 0.3
    scene["blob"][:, :, 4] = 0
    scene["bar"][:, :, 6] = 0
    return draw_frame(rng, scene, NOMINAL, spread=0.0, product=product)


def encode_jpeg(rng: np.random.Generator, frame: Grey) -> bytes:
    """Return the frame as a camera's JPEG, quality 80 to 96."""
    done, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(80, 97))])
    assert done
    return data.tobytes()


def _with_features(scene: scenes.Scene, product: Product) -> scenes.Scene:
    """Add the housing's holes and marks."""
    scene = scenes.copy_scene(scene)
    rim = [[x, y, r * 1.35, 0.6, 1.0, 0.0, 0.0] for x, y, r in product.holes]
    hole = [[x, y, r, 0.05, 1.0, 0.0, 0.0] for x, y, r in product.holes]
    scene["blob"] = np.concatenate([np.array([rim + hole]), scene["blob"]], 1)
    scene["bar"] = np.concatenate([np.array([[[*mark, 1.0] for mark in product.marks]]), scene["bar"]], 1)
    return scene


def _draw_part(
    frame: npt.NDArray[np.float32], scene: scenes.Scene, pose: Pose, light: dict[str, npt.NDArray[np.float32]],
    product: Product,
) -> None:  # fmt: skip
    """Draw the part over the bench, at the pixels its housing can reach."""
    reach_x, reach_y = (reach * pose.scale for reach in product.reach_px)
    left, right = max(0, int(pose.x_px - reach_x)), min(WIDTH_PX, int(pose.x_px + reach_x) + 1)
    top, bottom = max(0, int(pose.y_px - reach_y)), min(HEIGHT_PX, int(pose.y_px + reach_y) + 1)
    u, v = np.meshgrid(
        np.arange(left, right, dtype=np.float32) + np.float32(0.5 - pose.x_px),
        np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - pose.y_px),
    )
    pitch = product.pitch_px * pose.scale
    cos, sin = np.float32(np.cos(pose.rotation_rad) / pitch), np.float32(np.sin(pose.rotation_rad) / pitch)
    x, y = cos * u + sin * v, -sin * u + cos * v
    depth = 1 + np.float32(pose.tilt_x) * x + np.float32(pose.tilt_y) * y
    middle_x, middle_y = product.middle
    x = x * depth + middle_x
    y = y * depth + middle_y
    small = {key: value.astype(np.float32) if value.dtype == np.float64 else value for key, value in scene.items()}
    sharp = np.full((1, 1, 1), pitch, np.float32)
    grey = render.shade(small, x[None], y[None], sharp, light, np)[0]
    west, north, east, south = product.housing
    edge = np.minimum(np.minimum(x - west, east - x), np.minimum(y - north, south - y))
    inside = np.clip(0.5 + edge * pitch, 0, 1)
    shadow = 1 - 0.5 * np.exp(-np.clip(-edge, 0, 9) * 4.0)
    window = frame[top:bottom, left:right]
    window *= np.where(inside > 0, 1, shadow)
    window *= 1 - inside
    window += inside * grey


def _bench(rng: np.random.Generator, spread: float) -> npt.NDArray[np.float32]:
    """Return the empty bench: grey with a gradient and coarse structure."""
    coarse = rng.standard_normal((10, 13)).astype(np.float32)
    structure = cv2.resize(coarse, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[-0.5 : 0.5 : HEIGHT_PX * 1j, -0.5 : 0.5 : WIDTH_PX * 1j].astype(np.float32)
    slope = spread * rng.uniform(-0.05, 0.05, 2)
    level = 0.14 + spread * rng.uniform(-0.05, 0.05)
    bench = level + 0.012 * structure + np.float32(slope[0]) * x + np.float32(slope[1]) * y
    return np.asarray(bench, np.float32)


def main() -> None:
    """Write a labelled set: half of the parts defective, one defect in three of four, else two or three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--product", choices=products.ALL, default=PINS_27.name)
    parser.add_argument("--to-learn", action="store_true", help="three of four parts have three defects")
    parser.add_argument("--demo", action="store_true", help="the 24 pictures of the demo")
    parser.add_argument("--challenge", action="store_true", help="the samples of the recipe's challenge")
    parser.add_argument("--like", type=Path, help="a certificate: only the pictures it has reference scores of")
    arguments = parser.parse_args()
    product = products.ALL[arguments.product]
    only = json.loads(arguments.like.read_text())["reference"] if arguments.like else None
    if arguments.demo:
        drawn = draw_demo()
    elif arguments.challenge:
        drawn = draw_challenge()
    else:
        drawn = draw_set(arguments.count, arguments.seed, product, arguments.to_learn, only)
    write_set(arguments.out, drawn)


def write_set(folder: Path, drawn: Iterable[tuple[str, bytes, Answer]]) -> None:
    """Write pictures and labels.csv into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "evaluation", "pin_count", "defect_mode", "defect_position", "population"])
        for name, data, answer in drawn:
            (folder / name).write_bytes(data)
            count = answer.pin_count if answer.pin_count >= 0 else ""
            modes, positions = ";".join(answer.modes), ";".join(answer.positions)
            writer.writerow([name, answer.evaluation, count, modes, positions, "drawn"])


def draw_set(
    count: int, seed: int, product: Product = PINS_27, many: bool = False, only: Container[str] | None = None
) -> Iterator[tuple[str, bytes, Answer]]:
    """Yield file name, JPEG and answer of parts 0 to count - 1; `only`: of those with these file names."""
    for number in range(count):
        if only is None or name_of(number) in only:
            yield draw_part(seed, number, product, many)


def name_of(number: int) -> str:
    """Return the file name of a part."""
    return f"part-{number:04d}.jpg"


def draw_part(seed: int, number: int, product: Product, many: bool = False) -> tuple[str, bytes, Answer]:
    """Return file name, JPEG and answer of one part of a set; `many`: three of four parts have three defects."""
    rng = np.random.default_rng([seed, number])
    defects = (DEFECTS_TO_LEARN if number % 4 else 0) if many else draw_defects(rng, number)
    scene, answer = draw_scene(rng, defects, product=product)
    frame = draw_frame(rng, scene, draw_pose(rng, product), product=product)
    return name_of(number), encode_jpeg(rng, frame), answer


def draw_demo(seed: int = 24) -> Iterator[tuple[str, bytes, Answer]]:
    """Yield the demo: ten good parts, twelve with each defect small and large, a cut-off file and an empty bench."""
    small_large = [(mode, severity) for mode in range(1, len(MODES)) for severity in (0.1, 0.9)]
    wanted = [(0, 0.0)] * 10 + small_large + [(BENT, 0.5), (MISSING, 0.5)]
    order = np.random.default_rng(seed).permutation(len(wanted))
    for number, k in enumerate(order, 1):
        rng = np.random.default_rng([seed, number])
        mode, severity = wanted[k]
        scene, answer = draw_scene(rng, 0)
        if mode:
            pins = np.array([[rng.integers(3) * scenes.MAX_COLUMNS + rng.integers(9)]])
            put_defects(rng, scene, pins, np.array([[mode]]), np.array([[severity]]))
            answer = answer_of(scene, severity)
        yield f"part-{number:02d}.jpg", _small_jpeg(draw_frame(rng, scene, draw_pose(rng))), answer
    rng = np.random.default_rng([seed, 99])
    scene, _ = draw_scene(rng, 0)
    data = _small_jpeg(draw_frame(rng, scene, draw_pose(rng)))
    yield "part-23.jpg", data[: len(data) // 3], Answer("UNDEFINED", -1, (), (), 0.0)
    bench = draw_frame(rng, None, NOMINAL)
    yield "part-24.jpg", _small_jpeg(bench), Answer("NOT_DECIDABLE", -1, (), (), 0.0)


def draw_challenge(seed: int = 16) -> Iterator[tuple[str, bytes, Answer]]:
    """Yield the challenge: two good parts, and each defect a little beyond its limit."""
    for number, mode in enumerate((0, 0, *range(1, len(MODES)))):
        rng = np.random.default_rng([seed, number])
        scene, answer = draw_scene(rng, 0)
        if mode:
            pins = np.array([[rng.integers(3) * scenes.MAX_COLUMNS + rng.integers(9)]])
            put_defects(rng, scene, pins, np.array([[mode]]), np.array([[LIMIT_SEVERITY]]))
            answer = answer_of(scene, LIMIT_SEVERITY)
        name = f"limit-{MODES[mode]}.jpg" if mode else f"good-{number + 1}.jpg"
        yield name, _small_jpeg(draw_frame(rng, scene, draw_pose(rng))), answer


def _small_jpeg(frame: Grey) -> bytes:
    done, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert done
    return bytes(data.tobytes())


def draw_defects(rng: np.random.Generator, number: int) -> int:
    """Return how many defects part `number` has: none for even numbers, else one (3 of 4), two or three."""
    return 0 if number % 2 == 0 else int(rng.choice([1, 1, 1, 1, 1, 1, 2, 3]))


if __name__ == "__main__":
    main()
