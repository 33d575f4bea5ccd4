"""Who holds a lock is found without touching it."""

import fcntl
import os
from pathlib import Path

from station.locks import holder


def test_the_holder_of_a_lock_is_named_until_it_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "journal.lock"
    assert holder(path) is None
    with path.open("wb") as file:
        assert holder(path) is None
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holder(path) == os.getpid()
    assert holder(path) is None
