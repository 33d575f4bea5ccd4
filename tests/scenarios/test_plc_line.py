"""Whatever goes wrong, every part is acted on once, and none passes without its own OK."""

from pathlib import Path

import pytest

from station.outputs.plc_rules import Step
from station.outputs.plc_state import BEAT_MS
from tests import network_namespace
from tests.network_namespace import Namespace
from tests.plc_line import CABLE_KINDS, KINDS, PROXY_KINDS, STEPS, Line, running_line

THREE_BEATS_MS = 3 * BEAT_MS + 100
"""The last is for the PLC's own scan."""


def run(line: Line, faults: list[tuple[str, Step]]) -> None:
    for kind, step in [("none", Step.IDLE), *faults, ("none", Step.IDLE)]:
        line.settle()
        line.cycle(kind, step)
    assert line.accepted >= 2
    assert max(line.seen_lost_ms) <= THREE_BEATS_MS


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_whatever_goes_wrong_no_part_is_acted_on_twice_or_passed_for_another(tmp_path: Path) -> None:
    kinds = (*KINDS, *PROXY_KINDS)
    with running_line(tmp_path, seed=1) as line:
        run(line, [(kind, STEPS[k % len(STEPS)]) for k, kind in enumerate(kinds)])


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.skipif(bool(network_namespace.why_not()), reason=network_namespace.why_not())
def test_a_pulled_cable_rejects_and_a_cable_put_back_passes(tmp_path: Path) -> None:
    with Namespace() as cable, running_line(tmp_path, 1, cable) as line:
        run(line, [(kind, step) for kind in CABLE_KINDS for step in (Step.TRIGGER, Step.RESULT)])
