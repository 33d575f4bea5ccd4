"""Hashes the base's files beside the conversion, at its pace: what it reads was just read or is about to be.

So each file comes from the disk once, though two threads read it.
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Condition
from typing import Self

_BLOCK_BYTES = 2 * 2**20
_AHEAD_BYTES = 2**30
"""How far the hash may be ahead of the conversion; it stays in the page cache of a small machine."""


class BaseHash:
    """A thread that hashes files."""

    def __init__(self, files: set[Path]) -> None:
        self._allowed, self._hashed, self._moved = _AHEAD_BYTES, 0, Condition()
        self._pool = ThreadPoolExecutor(1)
        self._jobs = [self._pool.submit(self._hash, file) for file in sorted(files)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._allow(float("inf"))
        self._pool.shutdown(cancel_futures=True)

    def keep_up_with(self, count: int) -> None:
        """Say that the conversion is further by so many bytes."""
        self._allow(count)

    def finish(self) -> list[dict[str, object]]:
        """Return name, sha256 and bytes of each file. Raises OSError."""
        self._allow(float("inf"))
        return [job.result() for job in self._jobs]

    def _allow(self, count: float) -> None:
        with self._moved:
            self._allowed += count
            self._moved.notify()

    def _hash(self, file: Path) -> dict[str, object]:
        digest, block, size = hashlib.sha256(), memoryview(bytearray(_BLOCK_BYTES)), 0
        with file.open("rb", buffering=0) as stream:
            while count := stream.readinto(block):
                digest.update(block[:count])
                size += count
                with self._moved:
                    self._hashed += count
                    self._moved.wait_for(lambda: self._hashed <= self._allowed)
        return {"file": file.name, "sha256": digest.hexdigest(), "bytes": size}
