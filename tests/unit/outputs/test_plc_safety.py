"""No sequence makes the PLC's rules pass a part that its own picture did not prove good.

STATION_PLC_STEPS sets the number of steps; `make plc-acceptance` makes the long run.
"""

import os
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.plc_world import World

STEPS = int(os.environ.get("STATION_PLC_STEPS", "8000"))
LENGTH = 120


@settings(max_examples=max(1, STEPS // LENGTH), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(0, 2**32),
    st.lists(st.integers(0, len(World.ACTIONS) - 1), min_size=LENGTH, max_size=LENGTH),
    st.sampled_from((80, 300, 600, 2000)),
)
def test_no_sequence_passes_a_part_that_is_not_proven_good(seed: int, actions: list[int], window_ms: int) -> None:
    world = World(random.Random(seed), plc_window_ms=window_ms)
    for action in actions:
        world.act(action)


def test_when_all_is_well_good_parts_pass_and_bad_ones_do_not() -> None:
    """Or the test above would prove nothing."""
    world = World(random.Random(1), plc_window_ms=2000)
    for _ in range(400):
        world.new_part()
        world.run()
    assert world.accepted > 20
    assert world.rejected > 50
