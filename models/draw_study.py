"""Draws a study for `station msa`: each part again and again, in set-ups with their own lamp, as a labelled set.

    python models/draw_study.py --out DIR --parts 50 --set-ups 3 --recaptures 3 --seed 1

A third of the parts is good, a third just past the limit, a third clearly bad. Between two recaptures the part lies
elsewhere; focus, motion, noise and JPEG quality change. Between two set-ups the lamp changes too.
"""

import argparse
import csv
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

import numpy as np
import render
from draw_frames import LIMIT_SEVERITY, draw_frame, draw_pose, draw_scene, encode_jpeg

SEVERITIES = (None, LIMIT_SEVERITY, 0.7)
"""Of a part's defect, in turn; None: a good part."""


def draw_study(folder: Path, parts: int, set_ups: int, recaptures: int, seed: int) -> None:
    """Write pictures and labels.csv into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lamps = [render.draw_light(np.random.default_rng([seed, 0, number]), 1) for number in range(set_ups)]
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        columns = "image,evaluation,part_id,set_up,recapture,pin_count,defect_mode,defect_position,population"
        writer.writerow(columns.split(","))
        for part in range(1, parts + 1):
            severity = SEVERITIES[part % len(SEVERITIES)]
            rng = np.random.default_rng([seed, part])
            scene, answer = draw_scene(rng, 0 if severity is None else 1, severity)
            for set_up, lamp in enumerate(lamps, 1):
                for recapture in range(1, recaptures + 1):
                    name = f"part-{part:03d}-lamp-{set_up}-{recapture}.jpg"
                    frame = draw_frame(rng, scene, draw_pose(rng), lamp=lamp)
                    (folder / name).write_bytes(encode_jpeg(rng, frame))
                    known = [answer.pin_count, ";".join(answer.modes), ";".join(answer.positions), "drawn"]
                    place = [f"part-{part:03d}", f"lamp-{set_up}", recapture]
                    writer.writerow([name, answer.evaluation, *place, *known])


def main() -> None:
    """Draw the study that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", type=int, default=50)
    parser.add_argument("--set-ups", type=int, default=3)
    parser.add_argument("--recaptures", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    draw_study(arguments.out, arguments.parts, arguments.set_ups, arguments.recaptures, arguments.seed)


if __name__ == "__main__":
    main()
