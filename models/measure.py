"""Measures a release through the station's own path: drawn camera frames, gate, registration, crop, llama.cpp, judge.

    python models/measure.py --manifest models/pins-tiny/manifest.json --parts 5000 --out DIR

Even-numbered parts are good, odd ones have one to three defects with severity drawn evenly. Every part is asked by
pins, by report with one picture and by report with two, and put to the OpenCV baseline; then 500 honest negatives.
Writes DIR/parts.jsonl (one line a part, so that a stopped run goes on) and DIR/accuracy.json; prints the table.
"""

import argparse
import hashlib
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import cv2
import defects
import draw_frames
import numpy as np
import scenes

from calibration import baseline
from calibration.confidence import upper
from station import composite
from station.capture.crop import golden_crops
from station.capture.gate import CaptureLimits
from station.capture.prepare import Preparer, prepare_job
from station.engine.llama import LlamaEngine
from station.judge import judge
from station.measurement import with_measures
from station.recipe import Recipe
from station.recipe_file import load_recipe
from station.records import Job, RegionCrop
from station.shift_vote import VotingInspection

Line = dict[str, Any]
"""One part, or one row of the table, as it is written to JSON."""
ASKS = ("pins", "report 1", "report 2")
NEGATIVES = ("blank", "black", "saturated", "noise", "empty bench", "other product", "half out of view")
BASELINE_PARTS = 1000
"""The first parts set the baseline's limit and are not measured with it."""


def asking(recipe: Recipe, ask: str) -> Recipe:
    """Return the recipe asked another way."""
    way = ask.split(maxsplit=1)[0]
    changes: dict[str, object] = {"ask": way}
    if way == "report":
        changes["report"] = recipe.file.report.model_copy(update={"images": int(ask.split()[1])})
    return recipe.model_copy(update={"file": recipe.file.model_copy(update=changes)})


def job_of(jpeg: bytes, preparer: Preparer) -> Job:
    """Return the job of a picture that is in no file yet."""
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(jpeg)
        file.flush()
        return prepare_job(Path(file.name), "20260101T000000000-00000000", preparer)


def drawn_job(seed: int, number: int, preparer: Preparer) -> Job:
    """Return the job of part `number` of a drawn set."""
    rng = np.random.default_rng([seed, number])
    scene, _ = draw_frames.draw_scene(rng, draw_frames.draw_defects(rng, number))
    frame = draw_frames.draw_frame(rng, scene, draw_frames.draw_pose(rng))
    return job_of(draw_frames.encode_jpeg(rng, frame), preparer)


class Bench:
    """One process: everything the station does between the file and the verdict."""

    def __init__(self, manifest: Path, recipe_path: Path, seed: int) -> None:
        cv2.setNumThreads(1)
        self.seed = seed
        self.recipe = load_recipe(recipe_path)
        self.preparer = Preparer(self.recipe, CaptureLimits(2**26, 10**8))
        golden = golden_crops(self.recipe)
        self.golden = {name: composite.pixels_of(crop) for name, crop in golden.items()}
        self.inspections = {ask: VotingInspection(asking(self.recipe, ask), golden) for ask in ASKS}
        self.engines = {ask: LlamaEngine(manifest, threads=1, gpu_layers=0) for ask in ASKS}
        for ask, engine in self.engines.items():
            engine.prepare(self.inspections[ask].question)

    def part(self, number: int) -> dict[str, object]:
        """Return what is true of part `number` and what was said of it."""
        rng = np.random.default_rng([self.seed, number])
        scene, answer = draw_frames.draw_scene(rng, draw_frames.draw_defects(rng, number))
        frame = draw_frames.draw_frame(rng, scene, draw_frames.draw_pose(rng))
        job = job_of(draw_frames.encode_jpeg(rng, frame), self.preparer)
        line: dict[str, object] = {
            "part": number, "evaluation": answer.evaluation, "pin_count": answer.pin_count, "modes": answer.modes,
            "positions": answer.positions, "severity": round(answer.severity, 4),
            "failure": job.failure.reason.name if job.failure else None,
        }  # fmt: skip
        line |= {ask: self._ask(ask, job) for ask in ASKS}
        if job.crops:
            region = self.recipe.file.regions[0]
            test = composite.pixels_of(job.crops[0])
            line["baseline"] = round(float(baseline.pin_scores(region, self.golden["field"], test).max()), 2)
        return line

    def negative(self, number: int) -> dict[str, object]:
        """Return what was said of an honest negative: as a file, and as pixels forced past the registration."""
        rng = np.random.default_rng([self.seed, 10**9, number])
        kind = NEGATIVES[number % len(NEGATIVES)]
        frame = draw_negative(rng, kind)
        job = job_of(draw_frames.encode_jpeg(rng, frame), self.preparer)
        box = self.recipe.file.regions[0].box
        cut = frame[box.y : box.y + box.height, box.x : box.x + box.width]
        pixels = cv2.cvtColor(cut, cv2.COLOR_GRAY2RGB).tobytes()
        crop = RegionCrop(region_id="field", width_px=box.width, height_px=box.height, pixels_rgb=pixels)
        forced = Job(
            job_id=job.job_id, part_id=None, image=job.image, recipe=job.recipe, recipe_sha256=job.recipe_sha256,
            registration=None, crops=(crop,), failure=None, captured_utc=job.captured_utc, capture_ms=0,
        )  # fmt: skip
        line: dict[str, object] = {"negative": number, "kind": kind}
        return line | {ask: (self._ask(ask, job), self._ask(ask, forced)) for ask in ASKS}

    def _ask(self, ask: str, job: Job) -> dict[str, object]:
        inspection = self.inspections[ask]
        start = time.perf_counter()
        regions = None
        if job.failure is None:
            answers = self.engines[ask].ask(inspection.queries(job))
            if doubts := inspection.doubts(job, answers):
                answers = inspection.settled(answers, self.engines[ask].ask(doubts))
            regions = with_measures(inspection.regions(answers, 0.0), job, self.recipe.file.measurement)
        ms = 1e3 * (time.perf_counter() - start)
        judgement = judge(self.recipe, job, regions, None, None)
        said: dict[str, object] = {
            "evaluation": judgement.evaluation,
            "reason": judgement.reason.name,
            "ms": round(ms, 1),
        }
        if regions:
            region = regions[0]
            said |= {"p": region.p_defect, "count": region.pins_counted, "mode": region.defect_mode}
            said |= {"position": region.defect_position}
            said["pins"] = {
                pin.pin_id: (pin.defect_mode, round(pin.p_defect, 6)) for pin in region.pins if pin.p_defect > 1e-3
            }
        return said


def draw_negative(rng: np.random.Generator, kind: str) -> draw_frames.Grey:
    """Return a frame in which nothing can be judged."""
    shape = (draw_frames.HEIGHT_PX, draw_frames.WIDTH_PX)
    noise = rng.standard_normal(shape, dtype=np.float32)
    flat = {"blank": rng.uniform(20, 235), "black": rng.uniform(0, 5), "saturated": rng.uniform(250, 255)}
    if kind in flat:
        return np.asarray(np.clip(flat[kind] + rng.uniform(0, 3) * noise, 0, 255), np.uint8)
    if kind == "noise":
        return np.clip(128 + 60 * noise, 0, 255).astype(np.uint8)
    if kind == "empty bench":
        return draw_frames.draw_frame(rng, None, draw_frames.NOMINAL)
    if kind == "half out of view":
        scene, _ = draw_frames.draw_scene(rng, 0)
        pose = draw_frames.Pose(rng.choice([-40.0, 1640.0]), rng.uniform(300, 900), 0.0, 1.0)
        return draw_frames.draw_frame(rng, scene, pose)
    scene = scenes.draw_parts(rng, scenes.draw_designs(rng, 1))
    if int(scene["rows"][0]) == scenes.PINS_27.rows and int(scene["columns"][0]) == scenes.PINS_27.columns:
        return draw_negative(rng, kind)
    return draw_frames.draw_frame(rng, scene, draw_frames.NOMINAL)


_benches: list[Bench] = []
"""One in each process of the pool."""


def _open(manifest: Path, recipe: Path, seed: int) -> None:
    _benches.append(Bench(manifest, recipe, seed))


def _part(number: int) -> dict[str, object]:
    (bench,) = _benches
    return bench.part(number) if number >= 0 else bench.negative(-number - 1)


def table(parts: list[Line], negatives: list[Line]) -> Line:
    """Return the accuracy table."""
    rows: Line = {"parts": len(parts), "not registered": sum(p["failure"] is not None for p in parts)}
    for ask in ASKS:
        rows[ask] = ask_table(parts, ask)
        released = [n["kind"] for n in negatives for said in n[ask] if said["evaluation"] == "OK"]
        rows[ask]["negatives"] = share(len(released), len(negatives)) | {"kinds": sorted(set(released))}
    rows["baseline"] = baseline_table(parts)
    return rows


def claim(out: Path, manifest: Path, recipe: Path, seed: int) -> None:
    """Make `out` the folder of this model, recipe and seed. Raises SystemExit where it holds results of others.

    A measurement goes on where it was stopped; with another model or seed that would mix two into one figure.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / "of.json"
    files = {"model": manifest, "recipe": recipe}
    here: Line = {kind: hashlib.sha256(file.read_bytes()).hexdigest() for kind, file in files.items()} | {"seed": seed}
    if any(out.iterdir()) and not (path.exists() and json.loads(path.read_text()) == here):
        raise SystemExit(
            f"{out} holds results of another model, recipe or seed: delete it, or name another with --out."
        )
    path.write_text(json.dumps(here) + "\n")


def number_of(line: Line) -> int:
    """Return which piece of work a line is the result of: parts from 0, negatives below 0."""
    return int(line["part"]) if "part" in line else -1 - int(line["negative"])


def ask_table(parts: list[Line], ask: str) -> Line:
    """Return the table of one way of asking. No decision counts as wrong, and as a false reject of a good part."""
    good = [p for p in parts if p["evaluation"] == "OK"]
    bad = [p for p in parts if p["evaluation"] == "NOT_OK"]
    found = [p for p in bad if p[ask]["evaluation"] == "NOT_OK"]

    def right(part: Line) -> bool:
        return bool(part[ask]["evaluation"] == part["evaluation"])

    rows = {
        "judgement right": share(sum(map(right, parts)), len(parts)),
        "escapes": share(sum(p[ask]["evaluation"] == "OK" for p in bad), len(bad)),
        "false rejects": share(sum(not right(p) for p in good), len(good)),
        "no decision": share(sum(p[ask]["evaluation"] in ("NOT_DECIDABLE", "UNDEFINED") for p in parts), len(parts)),
        "count right": share(sum(p[ask].get("count") == p["pin_count"] for p in parts), len(parts)),
        "mode right": share(sum(mode_right(p, ask) for p in found), len(found)),
        "position right": share(sum(position_right(p, ask) for p in found), len(found)),
        "ms, median": float(np.median([p[ask]["ms"] for p in parts])),
    }
    single = [p for p in bad if len(set(p["modes"])) == 1]
    rows["found by mode"] = {
        mode: share(sum(right(p) for p in single if p["modes"][0] == mode), sum(p["modes"][0] == mode for p in single))
        for mode in defects.MODES[1:]
    }
    rows["found by severity"] = {
        f"{k / 10:.1f}-{(k + 1) / 10:.1f}": share(*_of_severity(single, k, right)) for k in range(10)
    }
    return rows


def _of_severity(parts: Iterable[Line], tenth: int, right: Callable[[Line], bool]) -> tuple[int, int]:
    chosen = [part for part in parts if int(part["severity"] * 10) == tenth]
    return sum(map(right, chosen)), len(chosen)


def mode_right(part: Line, ask: str) -> bool:
    """By pins: every bad pin that was found has its mode; by report: the first bad pin's mode."""
    if ask != "pins":
        return bool(part[ask]["mode"] == part["modes"][0])
    truth = dict(zip(part["positions"], part["modes"], strict=True))
    said = {pin: mode for pin, (mode, _) in part[ask]["pins"].items() if mode != "none"}
    return all(said[pin] == truth[pin] for pin in said if pin in truth) and bool(set(said) & set(truth))


def position_right(part: Line, ask: str) -> bool:
    """By pins: exactly the bad pins; by report: the first one."""
    expected = ";".join(part["positions"]) if ask == "pins" else part["positions"][0]
    return bool(part[ask]["position"] == expected)


def share(k: int, n: int) -> dict[str, float]:
    """Return k of n with exact one-sided 95 % limits: from below for a success, from above for an error."""
    return {
        "k": k, "n": n, "share": round(k / n, 5) if n else 0.0, "upper95": round(upper(k, n), 5),
        "lower95": round(1 - upper(n - k, n), 5),
    }  # fmt: skip


def baseline_table(parts: list[Line]) -> Line:
    """Return the OpenCV baseline's errors, its limit set on the first parts."""
    seen = [p for p in parts if "baseline" in p]
    scores = {
        kind: [p["baseline"] for p in seen[:BASELINE_PARTS] if p["evaluation"] == kind] for kind in ("OK", "NOT_OK")
    }
    limit = baseline.best_limit(np.array(scores["OK"]), np.array(scores["NOT_OK"]))
    rest = seen[BASELINE_PARTS:] or seen
    good = [p["baseline"] >= limit for p in rest if p["evaluation"] == "OK"]
    bad = [p["baseline"] < limit for p in rest if p["evaluation"] == "NOT_OK"]
    wrong = sum(good) + sum(bad)
    return {
        "limit, grey levels": limit,
        "judgement right": share(len(rest) - wrong, len(rest)),
        "escapes": share(sum(bad), len(bad)),
        "false rejects": share(sum(good), len(good)),
    }


def read_arguments() -> argparse.Namespace:
    """Return the command line."""
    root = Path(__file__).parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, default=root / "models/pins-tiny/manifest.json")
    parser.add_argument("--recipe", type=Path, default=root / "calibration/recipes/pins-27/recipe.yaml")
    parser.add_argument("--parts", type=int, default=5000)
    parser.add_argument("--negatives", type=int, default=500)
    parser.add_argument("--seed", type=int, default=9002, help="never used to train or to choose a model")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    """Measure, or go on measuring, and write the table."""
    arguments = read_arguments()
    claim(arguments.out, arguments.manifest, arguments.recipe, arguments.seed)
    path = arguments.out / "parts.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {number_of(line) for line in lines}
    todo = [n for n in (*range(arguments.parts), *range(-arguments.negatives, 0)) if n not in done]
    with path.open("a") as stream:
        setting = (arguments.manifest, arguments.recipe, arguments.seed)
        context = multiprocessing.get_context("spawn")
        with context.Pool(arguments.processes, _open, setting) as pool:
            for count, line in enumerate(pool.imap_unordered(_part, todo, chunksize=4), 1):
                lines.append(line)
                stream.write(json.dumps(line) + "\n")
                if count % 100 == 0:
                    stream.flush()
                    print(f"{count}/{len(todo)}", flush=True)
    parts = sorted((line for line in lines if "part" in line), key=lambda line: line["part"])
    result = table(parts, [line for line in lines if "negative" in line])
    (arguments.out / "accuracy.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
