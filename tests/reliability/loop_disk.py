"""A small ext4 of its own in a file, for power cuts and full disks. Needs root and loop devices."""

import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2
"""Nothing more reaches the disk, not even the file system's own journal: as if the power had gone."""


class LoopDisk:
    """An ext4 of `mib` MiB at `folder`; a context manager would hide the cuts, so mount and unmount are called."""

    def __init__(self, image: Path, folder: Path, mib: int, *options: str) -> None:
        self.folder = folder
        self._image = image
        folder.mkdir()
        with image.open("wb") as file:
            file.truncate(mib << 20)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", *options, str(image))

    def mount(self) -> None:
        """Mount it; the file system's journal is replayed.

        Where another mount namespace still holds the disk that was cut, the kernel gives that one again, with what was
        never written in its memory: such a mount refuses to write, and is let go until it is a new one.
        """
        for _ in range(400):
            _run("mount", "-o", "loop", str(self._image), str(self.folder))
            try:
                (self.folder / ".mounted").touch()
                return
            except OSError:
                self.unmount()
                time.sleep(0.05)
        raise OSError(f"{self._image} is still held by another mount namespace")

    def remount(self, option: str) -> None:
        """Make it read-only (`ro`) or writable (`rw`)."""
        _run("mount", "-o", f"remount,{option}", str(self.folder))

    def unmount(self) -> None:
        """Unmount it, as soon as the processes that were killed have let go of it."""
        for _ in range(400):
            with suppress(OSError):
                _run("umount", str(self.folder))
                return
            time.sleep(0.005)
        try:
            _run("umount", str(self.folder))
        except OSError as error:
            raise OSError(f"{error}; held by {list(_holders(self.folder)) or 'nobody in /proc'}") from error

    def cut(self) -> float:
        """Cut the power. Returns time.monotonic() from before: what was promised since is undecided."""
        handle = os.open(self.folder, os.O_DIRECTORY)
        began_s = time.monotonic()
        fcntl.ioctl(handle, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        os.close(handle)
        return began_s


def why_not(folder: Path) -> str:
    """Return why there can be no such disk here, empty if there can."""
    if os.geteuid() != 0:
        return "needs root: mount and the ext4 shutdown call"
    if not shutil.which("mkfs.ext4"):
        return "mkfs.ext4 is missing: apt install e2fsprogs"
    disk = LoopDisk(folder / "try.ext4", folder / "try", 8)
    try:
        disk.mount()
    except OSError as error:
        return f"a loop device cannot be mounted here: {error}"
    try:
        disk.cut()
    except OSError as error:
        return f"this kernel's ext4 cannot be shut down: {error}"
    finally:
        disk.unmount()
    return ""


def _holders(folder: Path) -> Iterator[str]:
    """Yield who has a file or its working folder below `folder`."""
    for link in (*Path("/proc").glob("[0-9]*/fd/*"), *Path("/proc").glob("[0-9]*/cwd")):
        with suppress(OSError):
            if (target := link.readlink()).is_relative_to(folder):
                yield f"process {link.parts[2]} ({Path('/proc', link.parts[2], 'comm').read_text().strip()}): {target}"


def _run(*command: str) -> None:
    """Run it to its end. Raises OSError with what it said."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
