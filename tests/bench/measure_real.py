"""How right the station is on real pictures: `python -m tests.bench.measure_real` (make measure-real).

Each set is taught from one golden picture, then judged the way of the line: gate, registration, crop, llama.cpp in its
child, judge. Beside the shipped model: a LoRA trained on site where DIR/models/SET/manifest.json is,
and the plain OpenCV difference with a limit set on the pictures for training. Prints tables for docs/benchmarks.md and
writes DIR/measured-SET.json. Without the pictures it says so and ends.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from calibration import baseline
from calibration.run_set import LabelledSet
from station import composite
from station.capture.crop import golden_crops
from station.capture.gate import CaptureLimits
from station.capture.job_id import new_job_id
from station.capture.pose import moved
from station.capture.prepare import Preparer, prepare_job
from station.errors import ConfigurationError
from station.labels import read_labels
from station.recipe import Recipe
from station.recipe_file import load_recipe
from station.records import Evaluation, Registration
from station.settings_file import load_settings
from tests.bench import real_sets
from tests.bench.real_sets import RealSet

ROOT = Path(__file__).parents[2]
LIMITS = CaptureLimits(2**28, 10**8)
KILL_MS = 600_000
PIN_REACH, TILE_REACH = 17 / 64, 26 / 64
"""How far the baseline looks around a place, as a share of its tile: within the pitch; tiles must leave no gap."""
NEAR_PX, ROI_RIM_PX = 15.0, 15.0
"""Of the die field's labels: what counts as the same place, and what is not judged at the border."""
FOLDS = {"connector-a": ("02.png", "03.png", "04.png", "14.png", "19.png"),
         "connector-b": ("05.png", "06.png", "04.png", "16.png", "20.png")}  # fmt: skip
"""Pictures to train with; each bent pin is measured in the fold that has not seen it."""

Words = dict[str, str]


@dataclass(frozen=True)
class Seen:
    """What one judge said of one picture."""

    image: str
    said: str
    registration: Registration | None
    pins: dict[str, str]
    """Pin id -> evaluation."""


Scores = npt.NDArray[np.float64]
Judge = Callable[[RealSet], Iterator[Seen]]


def model(manifest: Path) -> Judge:
    """Return the judge that is the station with this model. No certificate is asked for: the station is measured."""

    def judge(one: RealSet) -> Iterator[Seen]:
        settings = load_settings(ROOT / "config.yaml")
        # A field of 143 parts or a board of 169 tiles is not judged within the line's time on a busy machine.
        engine = settings.engine.model_copy(update={"kill_ms": KILL_MS})
        settings = settings.model_copy(update={"recipe": one.recipe, "engine": engine})
        for seen in LabelledSet(settings, load_recipe(one.recipe), one.measure).seen(manifest):
            pins = {pin.place.partition("/")[2]: str(pin.said) for pin in seen.pins}
            yield Seen(seen.image, str(seen.said), seen.verdict.registration, pins)

    return judge


def difference(one: RealSet) -> Iterator[Seen]:
    """Judge by the OpenCV baseline; its limit is the one with the fewest wrong pins in the set for training."""
    good, bad = _pin_scores([one], PIN_REACH)
    # Without a bad picture to learn from: a little above the worst good pin.
    return _by_difference(one, baseline.best_limit(good, bad) if len(bad) else 1.2 * float(good.max()), PIN_REACH)


def board_difference(folder: Path) -> Judge:
    """Return the baseline for boards: one limit for all, set on the pairs for training."""
    names = real_sets.board_names()[: real_sets.BOARDS_TO_TRAIN]
    limit = baseline.best_limit(*_pin_scores([real_sets.board(folder / name, name) for name in names], TILE_REACH))
    return lambda one: _by_difference(one, limit, TILE_REACH)


def _by_difference(one: RealSet, limit: float, reach: float) -> Iterator[Seen]:
    for image, registration, scores, _ in _scored(load_recipe(one.recipe), one.measure, reach):
        pins = {pin: str(Evaluation.NOT_OK if score >= limit else Evaluation.OK) for pin, score in scores.items()}
        worst = Evaluation.NOT_OK if Evaluation.NOT_OK in pins.values() else Evaluation.OK
        yield Seen(image, str(worst if pins else Evaluation.NOT_DECIDABLE), registration, pins)


def _pin_scores(sets: Sequence[RealSet], reach: float) -> tuple[Scores, Scores]:
    """Return the scores of the good and of the bad pins for training."""
    good: list[float] = []
    bad: list[float] = []
    for one in sets:
        for _, _, scores, known in _scored(load_recipe(one.recipe), one.train or one.measure, reach):
            for pin, score in scores.items():
                (bad if pin in known else good).append(score)
    return np.array(good), np.array(bad)


def _scored(
    recipe: Recipe, folder: Path, reach: float
) -> Iterator[tuple[str, Registration | None, dict[str, float], set[str]]]:
    preparer = Preparer(recipe, LIMITS)
    golden = {name: composite.pixels_of(crop) for name, crop in golden_crops(recipe).items()}
    reach_px = round(recipe.file.pins.tile_px * reach)
    for label in read_labels(folder):
        job = prepare_job(folder / label.image, new_job_id(datetime.now(UTC)), preparer)
        scores: dict[str, float] = {}
        for region, crop in zip(recipe.file.regions, job.crops, strict=False):
            values = baseline.pin_scores(region, golden[region.region_id], composite.pixels_of(crop), reach_px)
            scores |= {pin.pin_id: float(value) for pin, value in zip(region.pins, values, strict=True)}
        yield label.image, job.registration, scores, set(label.defect_positions)


def carrier(folder: Path, view: str) -> tuple[RealSet, Callable[[list[Seen]], Words]]:
    """One view of the carrier panel."""
    one = real_sets.carrier(folder, view)
    truth = {label.image: label.evaluation for label in read_labels(one.measure)}

    def measured(seen: list[Seen]) -> Words:
        front = [s for s in seen if truth[s.image] is not Evaluation.NOT_DECIDABLE]
        back = [s for s in seen if truth[s.image] is Evaluation.NOT_DECIDABLE]
        wrong = [f"{s.image}: {s.said}" for s in front if s.said != truth[s.image]]
        wrong += [f"{s.image}: {s.said}" for s in back if s.said != Evaluation.NOT_DECIDABLE]
        named = sum(s.pins.get("P1") == Evaluation.NOT_OK for s in front if truth[s.image] is Evaluation.NOT_OK)
        return {
            "pairs right, front light": f"{sum(s.said == truth[s.image] for s in front)} of {len(front)}",
            "missing pin named": f"{named} of {sum(truth[s.image] is Evaluation.NOT_OK for s in front)}",
            "back light NOT_DECIDABLE": f"{sum(s.said == Evaluation.NOT_DECIDABLE for s in back)} of {len(back)}",
            "back light said OK": str(sum(s.said == Evaluation.OK for s in back)),
            "wrong": "; ".join(wrong),
        }

    return one, measured


def connector(folder: Path, fold: str) -> tuple[RealSet, Callable[[list[Seen]], Words]]:
    """The connector with 22 pins, one fold."""
    one = real_sets.connector(folder, FOLDS[fold])
    bent = {label.image: set(label.defect_positions) for label in read_labels(one.measure)}

    def measured(seen: list[Seen]) -> Words:
        found = {s.image: {pin for pin, said in s.pins.items() if said == Evaluation.NOT_OK} for s in seen}
        missed = [f"{image} {pin}" for image, pins in bent.items() for pin in sorted(pins - found[image])]
        false = {image: sorted(pins - bent[image]) for image, pins in found.items()}
        undecided = sum(said not in {Evaluation.OK, Evaluation.NOT_OK} for s in seen for said in s.pins.values())
        total = sum(map(len, bent.values()))
        return {
            "bent pins found": f"{total - len(missed)} of {total}",
            "false pins a picture": ", ".join(f"{image} {len(pins)}" for image, pins in false.items()),
            "pins not decided": str(undecided),
            "pictures not registered": str(sum(not s.pins for s in seen)),
            "wrong": "; ".join([*missed, *(f"{image} {' '.join(pins)}" for image, pins in false.items() if pins)]),
        }

    return one, measured


def die_field(folder: Path) -> tuple[RealSet, Callable[[list[Seen]], Words]]:
    """The field of parts: counts and missing places."""
    one = real_sets.die_field(folder)
    known = {tile["file"]: tile for tile in
             json.loads((real_sets.SOURCE / "die_array_lcwcharles/tiles_labels.json").read_text())}  # fmt: skip
    pins = [pin for region in load_recipe(one.recipe).file.regions for pin in region.pins]

    def measured(seen: list[Seen]) -> Words:
        counts, found, wrong, false = [], 0, [], 0
        total = 0
        for s in seen:
            tile = known[s.image]
            missing = [(d["x"], d["y"]) for d in tile["defects"] if d["mode"] == "missing"]
            other = [(d["x"], d["y"]) for d in tile["defects"] if d["mode"] != "missing"]
            total += len(missing)
            if s.registration is None:
                wrong.append(f"{s.image}: not registered")
                continue
            places = moved(np.array(s.registration.matrix), np.array([(pin.x, pin.y) for pin in pins]))
            places -= real_sets.DIE_MARGIN_PX
            x0, y0, x1, y1 = tile["roi"]
            present = np.array([s.pins[pin.pin_id] != Evaluation.NOT_OK for pin in pins])
            inside = (places >= (x0, y0)).all(1) & (places <= (x1, y1)).all(1)
            inner = (places >= (x0 + ROI_RIM_PX, y0 + ROI_RIM_PX)).all(1)
            inner &= (places <= (x1 - ROI_RIM_PX, y1 - ROI_RIM_PX)).all(1)
            bad = places[~present]
            hits = [bool(len(bad)) and np.hypot(*(bad - place).T).min() < NEAR_PX for place in missing]
            found += sum(hits)
            wrong += [f"{s.image} missing at {place}" for place, hit in zip(missing, hits, strict=True) if not hit]
            extra = [place for place in places[~present & inner]
                     if not _near(place, [*missing], NEAR_PX) and not _near(place, other, 2.5 * NEAR_PX)]  # fmt: skip
            false += len(extra)
            # A wrong or touching part is there: it counts, and is reported as a defect of its own.
            there = present | np.array([_near(place, other, 2.5 * NEAR_PX) for place in places])
            difference_of = int((there & inside).sum()) - tile["units_in_roi"]
            counts.append(f"{s.image} {difference_of:+d} (tolerance {tile['units_within_8px_of_roi_edge']})")
        return {"missing places found": f"{found} of {total}", "places wrongly said defective": str(false),
                "count less the known": ", ".join(counts), "wrong": "; ".join(wrong)}  # fmt: skip

    return one, measured


def _near(place: npt.NDArray[np.float64], others: list[tuple[float, float]], reach_px: float) -> bool:
    return any(np.hypot(place[0] - x, place[1] - y) < reach_px for x, y in others)


def boards(folder: Path, judge: Judge, count: int) -> Words:
    """Judge board pairs that were not trained with: recall of defects, false places a pair."""
    found = total = false = pairs = 0
    missed: list[str] = []
    worst: list[tuple[int, str]] = []
    names = real_sets.board_names()[real_sets.BOARDS_TO_TRAIN :]
    for name in names[:count]:
        boxes = [box for _, box in real_sets.board_defects(name)]
        try:
            one = real_sets.board(folder / name, name)
        except ConfigurationError as error:
            hits, extra = [False] * len(boxes), 0
            say(f"{name}: cannot be taught: {error}", sys.stderr)
        else:
            (seen,) = judge(one)
            hits, extra = _board_hits(load_recipe(one.recipe), seen, boxes)
        pairs, total, found, false = pairs + 1, total + len(boxes), found + sum(hits), false + extra
        missed += [name] * (len(hits) - sum(hits))
        worst.append((extra, name))
        say(f"{name}: {sum(hits)} of {len(hits)}, {extra} false", sys.stderr)
    worst_names = ", ".join(f"{name} {extra}" for extra, name in sorted(worst, reverse=True)[:5] if extra)
    return {"places found": f"{found} of {total} ({found / max(1, total):.1%})",
            "false places a pair": f"{false / max(1, pairs):.2f} ({false} on {pairs} pairs)",
            "wrong": f"missed in {', '.join(sorted(set(missed)))}; most false: {worst_names}"}  # fmt: skip


def _board_hits(recipe: Recipe, seen: Seen, boxes: list[tuple[int, int, int, int]]) -> tuple[list[bool], int]:
    """Return which defects a bad tile reaches; and of the bad tiles that reach none, how many groups that touch."""
    half = recipe.file.pins.tile_px / 2
    bad = [pin for region in recipe.file.regions for pin in region.pins
           if seen.pins.get(pin.pin_id) == Evaluation.NOT_OK]  # fmt: skip

    def reaches(x: float, y: float, box: tuple[int, int, int, int]) -> bool:
        return x - half < box[2] and x + half > box[0] and y - half < box[3] and y + half > box[1]

    hits = [any(reaches(pin.x, pin.y, box) for pin in bad) for box in boxes]
    groups: list[list[tuple[float, float]]] = []
    for pin in (pin for pin in bad if not any(reaches(pin.x, pin.y, box) for box in boxes)):
        touching = [group for group in groups if any(abs(x - pin.x) < 2 * half and abs(y - pin.y) < 2 * half
                                                     for x, y in group)]  # fmt: skip
        groups = [group for group in groups if group not in touching]
        groups.append([place for group in touching for place in group] + [(pin.x, pin.y)])
    return hits, len(groups)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "run/real")
    parser.add_argument("--boards", type=int, default=85, help="how many board pairs are measured")
    parser.add_argument("--only", nargs="*", help="names of sets")
    parser.add_argument("--judges", nargs="*", help='only these: shipped, OpenCV, "site LoRA", names of --model')
    parser.add_argument("--model", type=Path, action="append", default=[], help="manifest of a further release")
    parser.add_argument("--prepare", action="store_true", help="only teach and write the labelled sets")
    arguments = parser.parse_args()
    if not real_sets.SOURCE.is_dir():
        say(f"Skipped: {real_sets.SOURCE} is not there; real pictures are no part of the project.")
        return
    out, results = arguments.out.resolve(), {}
    makers = {f"carrier-{view}": (carrier, view) for view in ("P1", "P2")} | {fold: (connector, fold) for fold in FOLDS}
    for name in [*makers, "die", "board"]:
        if arguments.only and name not in arguments.only:
            continue
        judges = {"shipped": model(ROOT / "models/pins-tiny/manifest.json"), "OpenCV": difference}
        judges |= {manifest.parent.name: model(manifest.absolute()) for manifest in arguments.model}
        trained = out / "models" / name / "manifest.json"
        if trained.exists():
            judges["site LoRA"] = model(trained)
        judges = {who: judge for who, judge in judges.items() if who in (arguments.judges or judges)}
        if name == "board":
            if arguments.prepare:
                real_sets.boards_to_train(out / "board/train")
                continue
            if "OpenCV" in judges:
                judges["OpenCV"] = board_difference(out / "board")
            results[name] = {who: boards(out / "board", judge, arguments.boards) for who, judge in judges.items()}
        else:
            one, measured = makers[name][0](out / name, makers[name][1]) if name != "die" else die_field(out / "die")
            if arguments.prepare:
                continue
            results[name] = {who: measured(list(judge(one))) for who, judge in judges.items()}
        say(_table(name, results[name]))
        (out / f"measured-{name}.json").write_text(json.dumps(results[name], indent=1) + "\n")


def say(text: str, file: TextIO = sys.stdout) -> None:
    """Write a line at once."""
    file.write(text + "\n")
    file.flush()


def _table(name: str, found: dict[str, Words]) -> str:
    keys = list(next(iter(found.values())))
    lines = [f"\n{name}\n", "| " + " | ".join(["judge", *keys]) + " |", "| --- " * (len(keys) + 1) + "|"]
    return "\n".join([*lines, *("| " + " | ".join([who, *words.values()]) + " |" for who, words in found.items())])


if __name__ == "__main__":
    main()
