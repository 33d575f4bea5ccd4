"""No sequence makes the PLC's rules pass a part that its own picture did not prove good.

STATION_PLC_STEPS sets the number of steps; `make plc-acceptance` makes the long run.
"""

import os
import random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from station.outputs import handshake, plc_rules
from station.outputs.handshake_state import Handshake
from station.records import Failure, TriggerRef, Verdict
from station.worker.pairing import Pairing
from tests.plc_world import World

_judged, _paired = handshake.judged, Pairing._paired


def _shows_everything(before: Handshake, verdict: Verdict) -> Handshake:
    if verdict.trigger is not None and verdict.trigger not in before.open_triggers:
        before = msgspec.structs.replace(before, open_triggers=(*before.open_triggers, verdict.trigger))
    return _judged(before, verdict)


def _forgets_hashes(self: Pairing, job_id: str, sha256: str, captured_ns: int | None) -> TriggerRef | Failure:
    self._hashes.clear()
    return _paired(self, job_id, sha256, captured_ns)


def _pairs_at_any_time(self: Pairing, job_id: str, sha256: str, captured_ns: int | None) -> TriggerRef | Failure:
    for pair in reversed(self._pairs):
        pair.job_ids.append(job_id)
        return pair.trigger
    return _paired(self, job_id, sha256, captured_ns)


STEPS = int(os.environ.get("STATION_PLC_STEPS", "3000"))
LENGTH = 120


@pytest.mark.timeout(120 + STEPS // 20)
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


PLANTED: dict[str, tuple[int, *tuple[tuple[Any, str, Any], ...]]] = {
    "a verdict of a trigger that was given up is shown, and the PLC looks at OK alone": (
        220,
        (handshake, "judged", _shows_everything),
        (plc_rules, "why_no_pass", lambda _program, shown, _now_ms: "" if shown["OK"] else "no"),
    ),
    "pictures are not compared with the last ones": (38, (Pairing, "_paired", _forgets_hashes)),
    "any picture belongs to the newest trigger": (26, (Pairing, "_paired", _pairs_at_any_time)),
}
"""Name -> a seed with which it is found, and what is put in whose place."""


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the test above would prove nothing."""
    seed, *faults = PLANTED[name]
    walk(seed)
    for target, attribute, fault in faults:
        monkeypatch.setattr(target, attribute, fault)
    with pytest.raises(AssertionError, match="passed with the picture of"):
        walk(seed)


def walk(seed: int) -> None:
    """Let things happen at random."""
    rng = random.Random(seed)
    world = World(rng, plc_window_ms=rng.choice((80, 300, 600, 2000)))
    for _ in range(LENGTH):
        world.act(rng.randrange(len(World.ACTIONS)))


def test_when_all_is_well_good_parts_pass_and_bad_ones_do_not() -> None:
    """Or the test above would prove nothing."""
    world = World(random.Random(1), plc_window_ms=2000)
    for _ in range(400):
        world.new_part()
        world.run()
    assert world.accepted > 20
    assert world.rejected > 50
