"""A large file written from front to back and hashed on the way, so that it is never read again for its hash.

Where the file system can, data goes to the disk past the page cache: copying 25 GB into it takes a core nearly as long
as the disk needs for it, and drives out the base, which is read meanwhile.
"""

import contextlib
import errno
import hashlib
import mmap
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from direct_file import SECTOR_BYTES, is_direct, set_direct

_BLOCK_BYTES = 8 * 2**20
_BLOCKS = 4


class Output:
    """A file being written. Used by one thread; hashing and writing have a thread each."""

    def __init__(self, path: Path) -> None:
        self.size, self._digest = 0, hashlib.sha256()
        self._file = _open(path)
        self._hasher, self._writer = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._blocks = [mmap.mmap(-1, _BLOCK_BYTES) for _ in range(_BLOCKS)]
        self._filled, self._number = 0, 0
        self._jobs: deque[tuple[Future, Future]] = deque()

    def append(self, data: memoryview) -> None:
        """Add bytes at the end. Raises OSError of any byte before them."""
        while data:
            count = min(len(data), _BLOCK_BYTES - self._filled)
            self._blocks[self._number % _BLOCKS][self._filled : self._filled + count] = data[:count]
            self._filled, data = self._filled + count, data[count:]
            if self._filled == _BLOCK_BYTES:
                self._pass_on()

    def align(self, step: int) -> None:
        """Add zeros up to a multiple of `step`."""
        self.append(memoryview(bytes(-(self.size + self._filled) % step)))

    def finish(self) -> str:
        """Make the file durable; return its sha256. Raises OSError."""
        self._pass_on()
        while self._jobs:
            self._wait()
        os.ftruncate(self._file, self.size)
        os.fsync(self._file)
        return self._digest.hexdigest()

    def close(self) -> None:
        """End the threads and close the file, whole or not."""
        for pool in (self._hasher, self._writer):
            pool.shutdown(cancel_futures=True)
        os.close(self._file)

    def _pass_on(self) -> None:
        """Hash and write the filled block; go on in the next when that one is free."""
        block, count = self._blocks[self._number % _BLOCKS], self._filled
        padded = -(-count // SECTOR_BYTES) * SECTOR_BYTES
        hashed = self._hasher.submit(self._hash, block, count)
        self._jobs.append((hashed, self._writer.submit(self._write, block, padded, self.size)))
        self.size, self._filled, self._number = self.size + count, 0, self._number + 1
        if len(self._jobs) == _BLOCKS:
            self._wait()

    def _wait(self) -> None:
        for job in self._jobs.popleft():
            job.result()

    def _hash(self, block: mmap.mmap, count: int) -> None:
        with memoryview(block) as view:
            self._digest.update(view[:count])

    def _write(self, block: mmap.mmap, count: int, place: int) -> None:
        done = 0
        with memoryview(block) as view:
            while done < count:
                try:
                    done += os.pwrite(self._file, view[done:count], place + done)
                except OSError as error:
                    if error.errno != errno.EINVAL or not is_direct(self._file):
                        raise
                    set_direct(self._file, on=False)  # this disk has larger sectors


def _open(path: Path) -> int:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    with contextlib.suppress(OSError):  # the file system cannot
        set_direct(file, on=True)
    return file
