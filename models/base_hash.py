"""Hashes the base's files beside the conversion, which reads them in another order."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from direct_file import DirectFile, aligned

_BLOCK_BYTES = 8 * 2**20


class BaseHash:
    """A thread that hashes files, one after the other."""

    def __init__(self, files: set[Path]) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._jobs = [self._pool.submit(_hash, file) for file in sorted(files)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def finish(self) -> list[dict[str, object]]:
        """Return name, sha256 and bytes of each file. Raises OSError."""
        return [job.result() for job in self._jobs]


def _hash(file: Path) -> dict[str, object]:
    digest, block, size = hashlib.sha256(), aligned(_BLOCK_BYTES), 0
    with DirectFile(file) as stream:
        while count := stream.read(block, size, _BLOCK_BYTES)[1]:
            digest.update(block[:count])
            size += count
    return {"file": file.name, "sha256": digest.hexdigest(), "bytes": size}
