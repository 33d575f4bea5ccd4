"""Does a shadow delay the line? `python -m tests.bench.shadow --shadow MANIFEST [--parts 25]`.

The station as processes with the shipped model, one good part every 0.8 s; in turn without and with the other release
in the shadow. Prints the times of the verdicts and what the shadow kept up with.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from station.journal_reader import JournalReader
from station.records import Verdict
from station.status import shadow_report
from tests.model.test_challenge import RECIPE, configured
from tests.running_station import RunningStation
from tests.waiting import wait_until

EVERY_S = 0.8
TURNS = 4
PICTURE = (RECIPE / "challenge/good-1.jpg").read_bytes()


def picture(number: int) -> bytes:
    """Return the good part with other bytes each time: zeros after its end."""
    return PICTURE + bytes(number + 1)


def measure(folder: Path, parts: int, shadow: Path | None) -> str:
    """Return a line of figures of one station."""
    config = configured(folder)
    if shadow:
        config.write_text(json.dumps(json.loads(config.read_text()) | {"shadow": str(shadow.absolute())}))
    with RunningStation(config, start_s=100) as running:
        if shadow:
            running.drop("first.jpg", picture(parts))
            wait_until(lambda: shadow_report(running.settings).judged, 90)
        for number in range(parts):
            running.drop(f"part-{number}.jpg", picture(number))
            time.sleep(EVERY_S)
        verdicts = wait_until(lambda: _of_parts(folder, parts), 60)
        report = shadow_report(running.settings)
    total = np.quantile([verdict.ms.total for verdict in verdicts], [0.5, 0.9, 1.0])
    kept_up = f"; shadow judged {report.judged}, {report.agreed} alike, dropped {report.dropped}" if shadow else ""
    return f"{len(verdicts)} verdicts: p50 {total[0]:.0f}, p90 {total[1]:.0f}, max {total[2]:.0f} ms{kept_up}"


def _of_parts(folder: Path, parts: int) -> list[Verdict]:
    """Return the verdicts when there is one for every part."""
    found = JournalReader(folder / "journal.sqlite").last(2 * parts)
    found = [verdict for verdict in found if verdict.image.name.startswith("part-")]
    return found if len(found) == parts else []


def main() -> None:
    """Measure in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shadow", type=Path, required=True, help="manifest.json of the release in the shadow")
    parser.add_argument("--parts", type=int, default=25)
    given = parser.parse_args()
    for turn in range(TURNS):
        shadow = given.shadow if turn % 2 else None
        with tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), given.parts, shadow)
        sys.stdout.write(f"{'with shadow' if shadow else 'alone'}: {found}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
