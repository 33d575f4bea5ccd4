"""Does a model fit into this machine's memory beside what runs? Asked before one is loaded that nobody waits for.

In: a manifest; out: in words why it does not fit, or nothing. Only the machine's own memory is looked at: how much a
GPU has left is found out by loading, and then said by llama.cpp.
"""

from pathlib import Path

from station.manifest import Manifest

MEMINFO = Path("/proc/meminfo")
SHARE, PROCESS_BYTES = 1.25, 256 * 1024 * 1024
"""A loaded model needs this share of its files, with its context, and its process this much besides."""


def needed_bytes(manifest: Manifest) -> int:
    """Return about how much memory the release takes when it is loaded."""
    return int(SHARE * (manifest.text.size_bytes + manifest.mmproj.size_bytes)) + PROCESS_BYTES


def shortage(manifest: Manifest) -> str:
    """Return why the release does not fit into the memory that is free now; empty: it does, or nobody can tell."""
    free, needed = free_bytes(), needed_bytes(manifest)
    if free is None or needed <= free:
        return ""
    return f"{manifest.ref.name} needs about {needed / 2**20:.0f} MiB of memory, {free / 2**20:.0f} MiB are free."


def free_bytes() -> int | None:
    """Return what the kernel says could be taken without swapping; None where it does not say."""
    try:
        lines = MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith("MemAvailable:")), None)
    return int(found[1]) * 1024 if found else None
