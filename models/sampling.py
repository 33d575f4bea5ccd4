"""Random training material: scenes, poses, lamps and labels, as numpy arrays. Runs in the loader's processes.

Half of a batch is defective, the other half its twins: the same part, pose, lamp and camera without the defect.
The last few of each half are honest negatives (`UNDECIDABLE`), whose pixels the camera replaces.
"""

from dataclasses import dataclass

import defects
import numpy as np
import render
import scenes

PASSED, DEFECTIVE, UNDECIDABLE = range(3)
"""Labels, in the order of station.report.JUDGEMENTS."""
NEGATIVES = ("blank", "black", "saturated", "noise", "empty", "other product", "shifted")
NEGATIVE_SHARE = 0.06


@dataclass(frozen=True)
class Variation:
    """How much pictures of one kind of station vary; product training is narrower than base training."""

    camera_scale: tuple[float, float]
    """Camera px per golden px."""
    rotation_deg: float
    register_px: float
    """Standard deviation of what registration leaves over, golden px."""
    register_deg: float
    register_scale: float
    limit_share: float = 0.0
    """Share of the pairs in which one twin's pin is bent by a little more than the limit, the other's by a little less:
    they teach where the limit lies, and how sure one can be of it. A third of the second twins stand beside another
    defect: dirt that hides one side of a pin looks like a tip that stands off."""
    mode_weights: tuple[float, ...] = (1, 1, 1, 1, 1)
    """How often each defect is drawn on the target pin, of defects.MODES from the second on."""


BASE = Variation((0.85, 1.2), 9.0, 0.7, 0.35, 0.006)
PRODUCT = Variation((0.94, 1.06), 9.0, 0.5, 0.2, 0.003, limit_share=0.3, mode_weights=(1, 1, 1, 3, 1))
NEAR_T, FAR_T = 0.2, 0.5
"""Half of the bends about the limit are within the first of it, half within the second; in t, on both sides alike."""
BEYOND_SHARE = 2 / 3
"""Of the defective twins about the limit: bent by more than it."""


def step_rng(seed: int, step: int) -> np.random.Generator:
    """Return the generator of one training step: what a step sees depends on nothing else."""
    return np.random.default_rng([seed, step])


def draw_pairs(
    rng: np.random.Generator, half: int, design: scenes.Design | None, more_defects: float, v: Variation
) -> tuple[scenes.Scene, np.ndarray]:
    """Return 2 * half scenes (defective ones first, then their twins) and each one's target pin, shape (2 * half,)."""
    designs = scenes.draw_designs(rng, half, design)
    if design is not None:  # some of the honest negatives are really other products
        for key, value in scenes.draw_designs(rng, _negatives(half)).items():
            designs[key][half - _negatives(half) :] = value
    good = scenes.draw_parts(rng, designs)
    rows, columns = good["rows"].astype(int), good["columns"].astype(int)
    row, column = rng.integers(0, rows), rng.integers(0, columns)
    target = row * scenes.MAX_COLUMNS + column
    # a defect elsewhere is not the target's to report; mostly it is the next pin that is bad
    near = rng.random(half) < 0.7
    other_row = np.where(near, np.clip(row + rng.integers(-1, 2, half), 0, rows - 1), rng.integers(0, rows))
    other_column = np.where(near, np.clip(column + rng.integers(-1, 2, half), 0, columns - 1), rng.integers(0, columns))
    other = other_row * scenes.MAX_COLUMNS + other_column
    mode = rng.integers(1, len(defects.MODES), half) * (rng.random(half) < more_defects) * (other != target)
    defects.put_defects(rng, good, other[:, None], mode[:, None], rng.random((half, 1)))
    bad = scenes.copy_scene(good)
    if v.limit_share:
        at_limit = rng.random(half) < v.limit_share
        beyond = at_limit & (rng.random(half) < BEYOND_SHARE)
        defects.put_bends(rng, bad, 1, target, beyond * (defects.BEND_LIMIT_T + _off_limit(rng, half)))
        defects.put_bends(rng, good, 1, target, at_limit * (defects.BEND_LIMIT_T - _off_limit(rng, half)))
    _put_targets(rng, bad, target, v.mode_weights)
    both = {key: np.concatenate([bad[key], good[key]]) for key in bad}
    both["part"] = np.arange(2 * half)
    return both, np.concatenate([target, target])


def _off_limit(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return how far bends are from their limit, in t."""
    return rng.uniform(0, rng.choice([NEAR_T, FAR_T], n))


def _put_targets(
    rng: np.random.Generator, scene: scenes.Scene, target: np.ndarray, mode_weights: tuple[float, ...]
) -> None:
    """Put one defect on each target pin; slot 1, since a defect elsewhere holds slot 0. Small ones more often."""
    half = len(target)
    modes = 1 + rng.choice(len(mode_weights), half, p=np.array(mode_weights) / sum(mode_weights))
    severity = rng.random(half) ** rng.choice([1.0, 2.0], half)
    free = scene["mode"][np.arange(half), target] == 0
    pins = np.stack([target, target], 1)
    none = np.zeros(half, dtype=int)
    defects.put_defects(rng, scene, pins, np.stack([none, modes * free], 1), np.stack([severity, severity], 1))


def draw_views(rng: np.random.Generator, half: int, variation: Variation) -> dict[str, np.ndarray]:
    """Return pose, registration error and camera of each scene; twins share them. All of shape (2 * half,)."""
    n, v = half, variation
    view = {
        "scale": rng.uniform(*v.camera_scale, n),
        "rotation": np.deg2rad(rng.uniform(-v.rotation_deg, v.rotation_deg, n)),
        "error_x": np.clip(rng.normal(0, v.register_px, n), -3 * v.register_px, 3 * v.register_px),
        "error_y": np.clip(rng.normal(0, v.register_px, n), -3 * v.register_px, 3 * v.register_px),
        "error_rotation": np.deg2rad(rng.normal(0, v.register_deg, n)),
        "error_scale_x": 1 + rng.normal(0, v.register_scale, n),
        "error_scale_y": 1 + rng.normal(0, v.register_scale, n),
        "phase_x": rng.uniform(0, 1, n),
        "phase_y": rng.uniform(0, 1, n),
        "blur": rng.uniform(0.35, 1.5, n),
        "motion": rng.uniform(0, 1.5, n) * (rng.random(n) < 0.3),
        "noise": rng.uniform(0.0, 0.035, n),
        "jpeg": rng.uniform(0, 1, n),
        "golden_blur": rng.uniform(0.35, 0.9, n),
        "golden_noise": rng.uniform(0.0, 0.015, n),
    }
    view.update(render.draw_light(rng, n))
    return {key: np.concatenate([value, value]) for key, value in view.items()}


def draw_negatives(rng: np.random.Generator, half: int, design: scenes.Design | None) -> np.ndarray:
    """Return for each of 2 * half samples the index into NEGATIVES, or -1; the last ones of each half are negative."""
    count = _negatives(half)
    kind = np.full(half, -1)
    # of a known product the hardest negative is another one in the same housing
    weights = np.array([1, 1, 1, 1, 1, 1 if design is None else 4, 1]) / (7 if design is None else 10)
    kind[half - count :] = rng.choice(len(NEGATIVES), count, p=weights)
    return np.concatenate([kind, kind])


def _negatives(half: int) -> int:
    return max(2, round(half * NEGATIVE_SHARE))


def draw_pins(
    rng: np.random.Generator, half: int, design: scenes.Design | None, v: Variation, more_defects: float = 0.35
) -> dict[str, np.ndarray]:
    """Return one batch for `ask: pins`, everything the camera needs and the labels `judgement` and `mode`."""
    scene, target = draw_pairs(rng, half, design, more_defects, v)
    golden = scenes.draw_parts(rng, {key: scene[key][:half] for key in scenes.draw_designs(rng, 1)})
    golden = {key: np.concatenate([value, value]) for key, value in golden.items()}
    golden["part"] = np.arange(2 * half)
    negative = draw_negatives(rng, half, design)
    mode = scene["mode"][np.arange(2 * half), target]
    extent = rng.uniform(1.50, 1.90, half) if design is None else np.full(half, TILE_PX / PITCH_PX)
    extent = extent * scenes.neighbour_distance({key: scene[key][:half] for key in ("row_pitch", "stagger", "rows")})
    batch = {f"scene.{key}": value for key, value in scene.items()}
    batch |= {f"golden.{key}": value for key, value in golden.items()}
    batch |= {f"view.{key}": value for key, value in draw_views(rng, half, v).items()}
    batch["target"], batch["negative"], batch["extent"] = target, negative, np.concatenate([extent, extent])
    batch["own_golden"] = np.full(2 * half, design is None)
    batch["mode"] = np.where(negative >= 0, 0, mode)
    batch["judgement"] = np.where(negative >= 0, UNDECIDABLE, np.where(mode > 0, DEFECTIVE, PASSED))
    return batch


def draw_regions(
    rng: np.random.Generator, half: int, design: scenes.Design | None, v: Variation, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Return one batch for `ask: report`; labels `count`, `judgement`, `mode`, `position` (first bad pin's index)."""
    batch = draw_pins(rng, half, design, v, more_defects=0.1)
    width, height = scenes.extent({key[6:]: value for key, value in batch.items() if key.startswith("scene.")})
    margin = rng.uniform(0.7, 1.1, half)
    pitch = np.minimum(size[0] / (width[:half] + 2 * margin), size[1] / (height[:half] + 2 * margin))
    pitch = np.minimum(pitch, 60.0) if design is None else np.full(half, float(PITCH_PX))
    mode = np.where(batch["scene.exists"], batch["scene.mode"], 0)
    first = np.argmax(mode > 0, axis=1)
    bad = (mode > 0).any(axis=1)
    if design is None:  # without a known product, another product or another place is no negative
        batch["negative"] = np.where(batch["negative"] > 4, 4, batch["negative"])
    undecidable = batch["negative"] >= 0
    batch["pitch"] = np.concatenate([pitch, pitch])
    # another product in the same housing begins at the same corner
    batch["centre_x"] = width / 2 if design is None else np.full(2 * half, (design.columns - 1) / 2)
    batch["centre_y"] = height / 2 if design is None else np.full(2 * half, (design.rows - 1) / 2)
    batch["count"] = np.where(undecidable, 0, (batch["scene.exists"] & (mode != defects.MISSING)).sum(axis=1))
    batch["mode"] = np.where(undecidable, 0, mode[np.arange(2 * half), first])
    batch["position"] = np.where(undecidable | ~bad, -1, first)
    batch["judgement"] = np.where(undecidable, UNDECIDABLE, np.where(bad, DEFECTIVE, PASSED))
    return batch


PITCH_PX = 38
"""Of the shipped product, in golden px."""
TILE_PX = 64
"""Side of the square cut around a pin of the shipped product, golden px."""
REGION_PX = (400, 160)
"""Width and height of the shipped product's region, golden px, and of the report's picture for every product."""
