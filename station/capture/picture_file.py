r"""Reads a picture file once: its bytes, size and hash. No symbolic link is followed, no pipe is waited for.

In: a path or an open file descriptor. Out: a PictureFile, or OSError for the caller to map. Knows nothing of pictures.
"""

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from station.records import ImageRef

CHUNK_BYTES = 4 * 1024 * 1024
OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: opening a pipe without a writer must not hang the station."""


@dataclass(frozen=True)
class PictureFile:
    """A picture file that was read once."""

    image: ImageRef
    data: bytes
    """Empty when the file is larger than the limit; it was hashed all the same."""


def read_path(path: Path, max_file_bytes: int) -> PictureFile:
    """Return the regular file at `path`. Raises OSError, also when it is a link, pipe or folder."""
    file = os.open(path, OPEN_FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return read_open(file, path.name, max_file_bytes)
    finally:
        os.close(file)


def read_open(file: int, name: str, max_file_bytes: int) -> PictureFile:
    """Return the file behind the descriptor, read from where it stands to the end. Raises OSError."""
    digest, size_bytes, chunks = hashlib.sha256(), 0, []
    while chunk := os.read(file, CHUNK_BYTES):
        digest.update(chunk)
        size_bytes += len(chunk)
        if size_bytes <= max_file_bytes:
            chunks.append(chunk)
    data = b"".join(chunks) if size_bytes <= max_file_bytes else b""
    return PictureFile(ImageRef(name=shown_name(name), sha256=digest.hexdigest(), size_bytes=size_bytes), data)


def nothing_read(name: str) -> ImageRef:
    """Return the reference to a file of which nothing could be read."""
    return ImageRef(name=shown_name(name), sha256=hashlib.sha256(b"").hexdigest(), size_bytes=0)


def shown_name(name: str) -> str:
    r"""Return the file name as valid Unicode; bytes that are not UTF-8 are shown as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
