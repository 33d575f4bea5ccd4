"""The fork server, and a folder in memory: a kill needs no disk, a power cut makes its own."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.rig import ForkServer


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """Return the one fork server."""
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def memory() -> Iterator[Path]:
    """Return an empty folder in memory, where a sync costs nothing."""
    parent = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="station-", dir=parent if parent.is_dir() else None))
    yield folder
    shutil.rmtree(folder)
