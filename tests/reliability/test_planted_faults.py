"""The suite proves itself: each planted fault must be found by the counts that the other tests rely on."""

import time
from pathlib import Path

import pytest

from tests.reliability.changes import PLANTED
from tests.reliability.results import FORM, count, record
from tests.reliability.rig import BROKEN, EMPTY, GOOD, ForkServer, Rig, visible
from tests.waiting import wait_until

KINDS = (GOOD, BROKEN, EMPTY)
CHOSEN = list(PLANTED) if FORM != "reduced" else ["ack_before_commit"]


def found(rig: Rig, fault: str) -> str:
    """Return what is wrong after a worker was killed before a commit and capture after an ack; empty if nothing."""
    patience_s = 3 if fault in PLANTED else 60  # without a fault all is done at last, however busy the machine

    def change(service: str) -> tuple[str, ...]:
        return (fault,) if PLANTED.get(fault) == service else ()

    proofs = {name: rig.folder / f"{fault}-{name}" for name in ("capture", "worker")}
    rig.start("capture", change=change("capture"), point=f"ack-taken:3:{proofs['capture']}")
    for number in range(9):
        rig.deliver(KINDS[number % 3])
    end_s = time.monotonic() + patience_s
    while list(visible(rig.hot)) and time.monotonic() < end_s:
        time.sleep(0.01)
    rig.start("worker", change=change("worker"), point=f"verdict-begun:2:{proofs['worker']}")
    for name in ("worker", "capture"):
        end_s = time.monotonic() + patience_s
        while not proofs[name].exists() and time.monotonic() < end_s:
            time.sleep(0.01)
        rig.kill(name)
        rig.start(name, change=change(name))
    try:
        rig.settle(3 * patience_s)
    except AssertionError:
        return "never done"
    return "; ".join(rig.problems())


@pytest.mark.timeout(1200)
def test_without_a_fault_nothing_is_found(server: ForkServer, memory: Path) -> None:
    for trial in range(count(1, 10)):
        with Rig(server, memory / str(trial)) as rig:
            assert not found(rig, "none")
            assert wait_until(rig.is_done)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", CHOSEN)
def test_a_planted_fault_is_found(fault: str, server: ForkServer, memory: Path) -> None:
    with Rig(server, memory) as rig:
        seen = found(rig, fault)
    assert seen
    record(f"planted: {fault.replace('_', ' ')}", 1, "found", found=seen.split(";")[0][:60].replace("|", "/"))
