"""Malformed pictures of more than a hundred kinds: never OK, never the end of capture, and the next one is judged."""

import time
from pathlib import Path

import psutil
import pytest

from station.records import Evaluation
from tests.reliability.corpus import harmless, refused
from tests.reliability.results import check_time, record
from tests.reliability.rig import GOOD, ForkServer, Rig

MOST_GROWTH = 20_000_000


@pytest.mark.timeout(600)
def test_no_malformed_picture_is_ok_or_ends_capture(server: ForkServer, memory: Path) -> None:
    kinds = dict(refused())
    odd = dict(harmless())
    assert len(kinds) >= 100
    with Rig(server, memory) as rig:
        rig.start()
        capture = psutil.Process(rig.services["capture"].pid)
        worker = rig.services["worker"].pid
        sizes, kind_of = [], {}
        for _ in range(2):  # the first round fills caches and pools
            for kind, data in {**kinds, **odd}.items():
                kind_of[rig.deliver("odd" if kind in odd else "malformed", data=data)] = kind
            rig.settle(120)
            sizes.append(capture.memory_info().rss)
        began_s = time.monotonic()
        rig.deliver(GOOD)
        rig.settle()
        assert rig.services["worker"].pid == worker
        assert capture.is_running()
        passed = {
            kind_of[verdict.image.name]
            for verdict in rig.verdicts()
            if verdict.image.name in kind_of and verdict.evaluation is Evaluation.OK
        }
        assert passed <= set(odd), passed - set(odd)
        # Files without a byte are waited for, so that others overtake them.
        problems = [line for line in rig.problems() if "is odd and OK" not in line and "order" not in line]
        assert not problems, problems[:20]
        growth = sizes[1] - sizes[0]
        assert growth < MOST_GROWTH
        assert rig.verdicts()[-1].evaluation is Evaluation.OK
        check_time(time.monotonic() - began_s, 5)
    record(
        "malformed pictures",
        2 * len(kinds),
        ">= 100 kinds, none OK, RSS growth < 20 MB, the next good one OK",
        kinds=len(kinds),
        odd_kinds=len(odd),
        ok=0,
        growth_mb=round(growth / 1e6, 1),
    )
