"""The engine's process with the shipped model and too little memory: it ends, and the worker knows what it ended of."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from station.engine.frames import EngineSpec
from station.recipe_file import load_recipe
from station.wiring import make_inspection
from station.worker.engine_host import EngineHost
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
SPEC = EngineSpec(kind="llama", manifest_path=str(ROOT / "models/pins-tiny/manifest.json"), threads=1, gpu_layers=0)
MISSING_BYTES = 16 << 20

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(120)]


@contextmanager
def engine() -> Iterator[EngineHost]:
    """Yield an engine that was just started."""
    host = EngineHost(SPEC, kill_ms=10_000)
    recipe = load_recipe(ROOT / "calibration/recipes/pins-27/recipe.yaml")
    host.start(make_inspection(recipe).question, time.monotonic_ns())
    try:
        yield host
    finally:
        host.close()


def polled(host: EngineHost) -> EngineHost:
    host.poll(time.monotonic_ns())
    return host


def peak_bytes(pid: int) -> int:
    """Return how much address space a process has had."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmPeak"].split()[0]) << 10


def test_an_engine_that_gets_no_memory_is_not_merely_dead() -> None:
    with engine() as host:
        wait_until(lambda: polled(host).is_ready, 60)
        assert host.pid
        needed_bytes = peak_bytes(host.pid)
        assert not host.is_gpu_lost
    with engine() as host:
        assert host.pid
        limit_bytes = needed_bytes - MISSING_BYTES
        resource.prlimit(host.pid, resource.RLIMIT_AS, (limit_bytes, limit_bytes))
        wait_until(lambda: polled(host).last_failure, 60)
        assert host.is_gpu_lost, host.last_failure
