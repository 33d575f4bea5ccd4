"""The wall clock jumps while pictures flow and services restart: order, deadlines and counts do not care."""

import random
import time
from pathlib import Path

import pytest

from station.records import Reason
from tests.reliability.results import count, record
from tests.reliability.rig import BROKEN, EMPTY, GOOD, ForkServer, Rig

KINDS = (GOOD, BROKEN, EMPTY)
HOUR_S = 3600
JUMPS_S = (HOUR_S, -HOUR_S, 10 * 365 * 24 * HOUR_S, 0, -7, 1, -24 * HOUR_S)


@pytest.mark.timeout(900)
def test_jumps_of_the_clock_change_no_order_and_no_deadline(server: ForkServer, memory: Path) -> None:
    jumps = count(7, 140)
    chance = random.Random(jumps)
    offset = memory / "offset"
    offset.write_text("0")
    change = ("clock", str(offset))
    with Rig(server, memory) as rig:
        rig.start(change=change)
        for jump in range(jumps):
            for _ in range(4):
                rig.deliver(KINDS[len(rig.delivered) % 3])
            written = memory / "offset.new"
            written.write_text(str(JUMPS_S[jump % len(JUMPS_S)]))
            written.rename(offset)
            for _ in range(4):
                rig.deliver(KINDS[len(rig.delivered) % 3])
            if jump % 2:
                victim = chance.choice(("capture", "worker"))
                rig.kill(victim)
                rig.start(victim, change=change)
        rig.check()
        late = [v.image.name for v in rig.verdicts() if v.reason in {Reason.DEADLINE_PASSED, Reason.NO_MODEL}]
        assert not late
        assert len({verdict.job_id for verdict in rig.verdicts()}) == len(rig.delivered)
    record(
        "wall clock jumps, with restarts", jumps, "0 lost, order kept, no deadline fires", pictures=len(rig.delivered)
    )


@pytest.mark.timeout(900)
def test_a_clock_that_is_stepped_all_the_time_changes_no_order_and_no_deadline(
    server: ForkServer, memory: Path
) -> None:
    """No restarts. libfaketime 0.9.10 cannot be used: with it time.sleep of Python 3.11 raises (clock_nanosleep)."""
    steps = count(5, 60)
    offset = memory / "offset"
    offset.write_text("0")
    with Rig(server, memory) as rig:
        rig.start(change=("clock", str(offset)))
        for step in range(steps):
            written = memory / "offset.new"
            written.write_text(str(JUMPS_S[step % len(JUMPS_S)]))
            written.rename(offset)
            end_s = time.monotonic() + 0.5
            while time.monotonic() < end_s:
                rig.deliver(KINDS[len(rig.delivered) % 3])
                time.sleep(0.05)
        rig.check()
        assert len({verdict.created_utc[:4] for verdict in rig.verdicts()}) > 1, "the clock was never stepped"
        late = [v.image.name for v in rig.verdicts() if v.reason in {Reason.DEADLINE_PASSED, Reason.NO_MODEL}]
        assert not late
    record(
        "wall clock stepped twice a second", steps, "0 lost, order kept, no deadline fires", pictures=len(rig.delivered)
    )
