"""Kill -9, cut cable, reset connections, slow PLC: every part is acted on once, and none passes without its own OK."""

from pathlib import Path

import pytest

from tests.plc_line import KINDS, running_line


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_whatever_goes_wrong_no_part_is_acted_on_twice_or_passed_for_another(tmp_path: Path) -> None:
    with running_line(tmp_path, seed=1) as line:
        for kind in ("none", *KINDS, "none"):
            line.settle()
            line.cycle(kind)
    assert line.accepted >= 2
    assert max(line.seen_lost_ms) < 700
