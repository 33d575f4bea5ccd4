"""Quantizes a GGUF file with llama.cpp, in a process of its own: C++ may end it, the export goes on to say why.

    python models/quantize.py IN.gguf OUT.gguf Q4_K_M

`quantized` is what the exporter calls; run as a program, this file does the work.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gguf
from checked_json import ExportError
from progress import Progress

BITS = {"F16": 16.0, "Q8_0": 8.5, "Q6_K": 6.56, "Q5_K_M": 5.7, "Q4_K_M": 4.85}
"""Bits per weight of the kinds that can be asked for; close enough to plan disk space."""
_PR_SET_PDEATHSIG = 1


def quantized(source: Path, target: Path, kind: str) -> None:
    """Write `target`, durable. Raises ExportError E11 (disk full) or QUANTIZE, leaving no file."""
    expected = round(source.stat().st_size * BITS[kind] / 16)
    progress = Progress(kind, expected)
    command = [sys.executable, str(Path(__file__).resolve()), str(source), str(target), kind]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as child:
        errors: list[str] = []
        os.set_blocking(child.stderr.fileno(), False)
        while child.poll() is None:
            errors.append(_read(child.stderr))
            progress.at(min(expected, target.stat().st_size if target.exists() else 0))
            time.sleep(0.02 if expected < 2**28 else 0.5)
        errors.append(_read(child.stderr))
    if child.returncode != 0:
        target.unlink(missing_ok=True)
        if "No space left" in "".join(errors) or _is_full(target.parent):
            raise ExportError(
                "E11", f"The disk of {target.parent} is full.", "Make room and run the same command again."
            )
        said = " ".join("".join(errors).split())[-300:]
        raise ExportError("QUANTIZE", f"llama.cpp ended with {child.returncode}: {said}", "See what it says.")
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    progress.at(expected)
    progress.end()


def _read(stream: object) -> str:
    try:
        return stream.read() or ""
    except (BlockingIOError, TypeError):  # nothing there yet
        return ""


def _is_full(folder: Path) -> bool:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize < 2**20


def main() -> int:
    """Quantize; llama.cpp says on stderr what it does."""
    import llama_cpp.llama_cpp as llama

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    source, target, kind = sys.argv[1:]
    parameters = llama.llama_model_quantize_default_params()
    parameters.ftype = int(gguf.LlamaFileType[f"MOSTLY_{kind}"])
    parameters.nthread = len(os.sched_getaffinity(0))
    parameters.max_buf_size = 2**28
    return int(llama.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(parameters)))


if __name__ == "__main__":
    sys.exit(main())
