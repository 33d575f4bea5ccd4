"""The whole loop of a new product, as a person goes it: `make loop`, or `python -m tests.bench.site_loop --out DIR`.

Drawn pictures of a product that the shipped model does not know. Teach from one golden picture; the station judges; a
person says of each part what it is; collect, train on the CPU, compare, promote, calibrate; the station judges the same
parts again; rollback. Every step is a command of docs/calibration.md, in a folder of its own. Ends with an error at the
first thing that is not as it must be; else prints what was right before and after, and keeps it in DIR/loop.json. Needs
the `train` extra.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import cv2
import draw_frames
import products

from station.journal_reader import JournalReader
from station.manifest import load_manifest
from station.records import Evaluation, Verdict
from station.settings import Settings
from station.settings_file import load_settings
from tests.ports import free_port
from tests.running_station import ROOT, RunningStation, station
from tests.waiting import wait_until

PRODUCT = products.BLADE_8
LINE, PROOF = 96, 200
"""Pictures that the line takes, and pictures that set the limits; of both every second one is defective."""
LINE_SEED, PROOF_SEED = 8201, 8202
PROMISE = ("--max-escape", "0.1", "--max-reject", "0.1")
"""As loose as 200 pictures can prove."""
SHARE_RIGHT = 0.97
"""Of the parts that were judged wrongly before, after the loop; what is kept from training as well."""
CHALLENGE_FAULT = 32
STEPS, BATCH = 150, 16
"""Of training, and pins in each."""
LONG_S, START_S = 3600.0, 120.0


class Site:
    """The clean folder of a new user: configuration, recipes, models."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.folder = folder
        self.config = folder / "config.yaml"
        self.recipe = folder / "recipes" / PRODUCT.name / "recipe.yaml"
        self.new_model = folder / "models" / PRODUCT.name / "manifest.json"
        (folder / "run/station/hot").mkdir(parents=True)
        shipped = folder / "models/pins-tiny"
        shipped.mkdir(parents=True)
        for file in ("manifest.json", "text-F16.gguf", "mmproj-F16.gguf"):
            shutil.copy(ROOT / "models/pins-tiny" / file, shipped)

    def configure(self) -> None:
        """Change in config.yaml what the documents name, the recipe; and the ports, which others may use."""
        text = (ROOT / "config.yaml").read_text()
        for old, new in (
            ("calibration/recipes/pins-27/recipe.yaml", str(self.recipe.relative_to(self.folder))),
            ("port: 5020", f"port: {free_port()}"), (":5556", f":{free_port()}"), (":5557", f":{free_port()}"),
        ):  # fmt: skip
            assert old in text, old
            text = text.replace(old, new)
        self.config.write_text(text)

    @property
    def settings(self) -> Settings:
        """The configuration as it is now."""
        return load_settings(self.config)

    def station(self, *words: str | Path, code: int = 0) -> str:
        """Run a verb with this configuration; it must end with `code`. Return what it printed."""
        ended = station([*words, "--config", self.config], LONG_S)
        must(ended.returncode == code, f"station {' '.join(map(str, words))}: {ended.stdout}{ended.stderr}")
        return ended.stdout

    def judged(self, prefix: str, pictures: Mapping[str, Path], *, must_pass: bool) -> dict[str, Verdict]:
        """Start the station, show it the pictures after its challenge, and return the verdict of each."""

        def is_challenged(plc: dict[str, int]) -> bool:
            return bool(plc["Online"]) or (not must_pass and plc["FaultCode"] == CHALLENGE_FAULT)

        with RunningStation(self.config, until=is_challenged, start_s=START_S) as running:
            for name, path in pictures.items():
                running.drop(f"{prefix}{name}", path.read_bytes())
            return wait_until(lambda: self._verdicts(prefix, list(pictures)), LONG_S)

    def _verdicts(self, prefix: str, names: Sequence[str]) -> dict[str, Verdict]:
        """Return the verdict of every picture, nothing while one has none."""
        time.sleep(0.5)  # the journal is the worker's: it is asked twice a second, not two hundred times
        newest = JournalReader(self.settings.journal.path).last(2 * len(names))
        found = {one.image.name.removeprefix(prefix): one for one in newest if one.image.name.startswith(prefix)}
        return found if len(found) == len(names) else {}


def must(is_so: object, what: str) -> None:
    """End with an error unless it is so."""
    if not is_so:
        raise SystemExit(f"NOT AS IT MUST BE: {what}")


def python(*words: str | Path) -> None:
    """Run a script of the project."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "models")))
    ended = subprocess.run([sys.executable, *map(str, words)], env=os.environ | {"PYTHONPATH": path}, check=False)
    must(ended.returncode == 0, " ".join(map(str, words)))


def labels(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a set's labels.csv."""
    with (folder / "labels.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


class Loop:
    """The steps, in the order of `run`; what was measured is in `found`."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.line, self.proof = site.folder / "drawn/line", site.folder / "drawn/proof"
        self.learn, self.measure = site.folder / "training/learn", site.folder / "training/measure"
        self.before: dict[str, Verdict] = {}
        self.found: dict[str, object] = {}
        self._began = time.monotonic()

    def run(self) -> None:
        """Go through every step."""
        for step in (self.draw, self.judge, self.override, self.train, self.promote, self.judge_again, self.roll_back):
            step()
            sys.stdout.write(f"{time.monotonic() - self._began:6.0f} s  {step.__name__}  {json.dumps(self.found)}\n")
            sys.stdout.flush()
        self.found["minutes"] = round((time.monotonic() - self._began) / 60, 1)

    def draw(self) -> None:
        """Draw the golden picture, what the line takes, and what the limits are set with."""
        for folder, count, seed in ((self.line, LINE, LINE_SEED), (self.proof, PROOF, PROOF_SEED)):
            drawn = ("--product", PRODUCT.name, "--out", folder, "--count", str(count), "--seed", str(seed))
            python(ROOT / "models/draw_frames.py", *drawn)
        self.rows = labels(self.line)
        self.truth = {row["image"]: row["evaluation"] for row in self.rows}
        self.pictures = {name: self.line / name for name in self.truth}
        cv2.imwrite(str(self.site.folder / "golden.png"), draw_frames.golden_frame(product=PRODUCT))

    def judge(self) -> None:
        """Teach, start the station and show it the parts."""
        golden, grid = self.site.folder / "golden.png", f"{PRODUCT.design.rows}x{PRODUCT.design.columns}"
        words = ("teach", golden, "--pins", str(PRODUCT.pins), "--grid", grid, "--out", self.site.recipe.parent)
        must(station(words, LONG_S).returncode == 0, "station teach")
        self.site.configure()
        self.config_before = self.site.config.read_bytes()
        self.before = self.site.judged("", self.pictures, must_pass=False)
        must(all(one.evaluation is not Evaluation.OK for one in self.before.values()), "nothing is OK yet")
        self.found["right before"] = self._right(self.before)

    def override(self) -> None:
        """Say of every part what it is, and collect."""
        for row in self.rows:
            bad = zip(row["defect_position"].split(";"), row["defect_mode"].split(";"), strict=True)
            is_good = row["evaluation"] == Evaluation.OK
            pins = () if is_good else [word for pin, mode in bad for word in ("--pin", f"{pin}={mode}")]
            self.site.station("override", row["image"], "passed" if is_good else "defective", *pins)
        self.site.station("collect", self.learn, "--to-measure", self.measure)
        self.found["parts to learn from"] = len(labels(self.learn))

    def train(self) -> None:
        """Train on the CPU, export, compare with the active release."""
        out = self.site.folder / "training" / PRODUCT.name
        python(ROOT / "models/train_lora.py", "--set", self.learn, "--recipe", self.site.recipe, "--out", out,
               "--name", PRODUCT.name, "--steps", str(STEPS), "--batch", str(BATCH), "--device", "cpu",
               "--config", self.site.config, "--evaluate", self.measure)  # fmt: skip
        shutil.copytree(out / "release", self.site.new_model.parent)
        must(json.loads(self.site.new_model.with_name("gate.json").read_text())["is_better"], "the gate says better")
        must(": better" in self.site.station("model", "list"), "model list shows the better release")
        report = json.loads((out / "comparison/evaluation.json").read_text())
        rates = [model["rates"]["judgement right"] for model in report["models"]]
        self.found["right by the model alone, kept from training"] = [(one["k"], one["n"]) for one in rates]

    def promote(self) -> None:
        """Make the new release the active one and set its limits."""
        self.site.station("model", "promote", self.site.new_model)
        must(self.site.settings.model == self.site.new_model, "config.yaml names the new release")
        self.site.station("calibrate", "thresholds", self.proof, *PROMISE, "--write")
        self.site.station("check")
        certificate = json.loads(self.site.recipe.with_name("certificate.json").read_text())
        must(certificate["verified"] != "broken", "the verifying parts keep the promise")
        self.found["OK limit held down by probes"] = len(certificate["evidence"]["challenged"])

    def judge_again(self) -> None:
        """Show the station the same parts; its challenge must pass."""
        after = self.site.judged("again-", self.pictures, must_pass=True)
        new = load_manifest(self.site.new_model).ref
        must(all(one.model == new for one in after.values()), "the new release judges")
        wrong = {name for name, one in self.before.items() if one.evaluation != self.truth[name]}
        apart = {row["image"].partition(".")[0] for row in labels(self.measure)}
        wrong_apart = {name for name in wrong if self.before[name].job_id in apart}
        self.found |= {
            "right after": self._right(after),
            "wrong before, right after": self._right(after, wrong),
            "of these kept from training": self._right(after, wrong_apart),
        }
        right, of = self._right(after, wrong)
        must(right >= SHARE_RIGHT * of, f"of {of} wrong verdicts {right} are right now")
        released = [name for name, one in after.items() if one.evaluation is Evaluation.OK]
        must({self.truth[name] for name in released} == {"OK"}, "no defective part is said OK")

    def roll_back(self) -> None:
        """Go back; the old release must answer what it did."""
        self.site.station("model", "rollback")
        must(self.site.config.read_bytes() == self.config_before, "rollback gives config.yaml its old bytes")
        self.site.recipe.with_name("recipe.yaml.before").replace(self.site.recipe)
        few = dict(list(self.pictures.items())[:10])
        for name, one in self.site.judged("back-", few, must_pass=False).items():
            must(one.model == self.before[name].model, "the old release judges again")
            must(answers(one) == answers(self.before[name]), f"it answers what it did of {name}")

    def _right(self, verdicts: Mapping[str, Verdict], of: Collection[str] | None = None) -> tuple[int, int]:
        """Return how many of the pictures `of` have the right evaluation, and how many they are."""
        names = verdicts if of is None else of
        return sum(verdicts[name].evaluation == self.truth[name] for name in names), len(names)


def answers(verdict: Verdict) -> list[tuple[str, float]]:
    """Return what the model said of each pin."""
    return [(pin.pin_id, round(pin.p_defect, 5)) for region in verdict.regions for pin in region.pins]


def main() -> None:
    """Go through the loop and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "run/loop")
    arguments = parser.parse_args()
    loop = Loop(Site(arguments.out.absolute()))
    loop.run()
    text = json.dumps(loop.found, indent=1) + "\n"
    (loop.site.folder / "loop.json").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
