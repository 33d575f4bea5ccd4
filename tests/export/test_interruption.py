"""An export that was killed goes on where it was; a full disk ends it with E11. Neither leaves a release."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import export_gguf
import gguf_stream
import pytest

from station.manifest import load_manifest, verify
from tests.export.conftest import ROOT, Bench

KILL = """
import os, signal, sys
sys.path.insert(0, {models!r})
import export_gguf, gguf_stream, release, verify, load_check
from pathlib import Path
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
calls = [0]
def after(count, function):
    def inner(*a, **k):
        calls[0] += 1
        return die() if calls[0] > count else function(*a, **k)
    return inner
{plant}
sys.exit(export_gguf.main({arguments!r}))
"""

POINTS = {
    "plan": "export_gguf.make_plan = die",
    "check": "export_gguf.check = die",
    "merge": "export_gguf.merge = die",
    "convert, at the first row": "gguf_stream.Output.append = die",
    "convert, in the middle": "gguf_stream.Output.append = after(40, gguf_stream.Output.append)",
    "convert, before the file is known": "release.Folder.finish = die",
    "convert, between the two files": "release.Folder.finish = after(1, release.Folder.finish)",
    "quantize": "export_gguf.quantize.quantized = die",
    "quantize, half a file": "export_gguf.quantize.quantized = lambda s, t, k: (Path(t).write_bytes(b'GGUF'), die())",
    "quantize, before the file is known": "release.Folder.finish = after(2, release.Folder.finish)",
    "verify": "verify.check_structure = die",
    "verify, second file": "verify.check_weights = after(1, verify.check_weights)",
    "verify, loading": "load_check.check_loads = die",
    "manifest": "release.Folder.publish = die",
    "manifest, one file has its name": "Path.replace = after(4, Path.replace)",
    "manifest, all but the last": "release.write_text = after(4, release.write_text)",
}


def kill_at(bench: Bench, point: str) -> None:
    arguments = ["--base", str(bench.base), "--adapter", str(bench.adapter), "--out", str(bench.out)]
    arguments += ["--name", "tiny", "--quant", "F16,Q8_0"]
    code = KILL.format(models=str(ROOT / "models"), plant=POINTS[point], arguments=arguments)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL, ended.stderr


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.usefixtures("unloaded")
def test_an_export_killed_anywhere_is_no_release_and_goes_on(bench: Bench, point: str) -> None:
    kill_at(bench, point)
    assert not (bench.out / "manifest.json").exists()
    manifest = bench.export("F16", "Q8_0")
    verify(load_manifest(manifest))
    assert sorted(path.name for path in bench.out.iterdir()) == [
        "SHA256SUMS", "manifest-Q8_0.json", "manifest.json", "mmproj-F16.gguf", "text-F16.gguf", "text-Q8_0.gguf",
    ]  # fmt: skip


def test_what_was_finished_is_not_made_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kill_at(bench, "verify")
    monkeypatch.setattr(gguf_stream, "write_files", None)
    monkeypatch.setattr(export_gguf.quantize, "quantized", None)
    manifest = bench.export("F16", "Q8_0")
    said = capsys.readouterr().err
    assert "convert   skipped: both files are there" in said
    assert "text-Q8_0.gguf skipped: it is there" in said
    assert json.loads(manifest.read_text())["sources"][0]["file"].startswith("model")


@pytest.mark.usefixtures("unloaded")
def test_another_type_is_added_to_a_release_without_converting_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.export("F16")
    monkeypatch.setattr(gguf_stream, "write_files", None)
    verify(load_manifest(bench.export("Q4_K_M", "F16")))


@pytest.mark.usefixtures("unloaded")
def test_a_finished_file_that_was_damaged_is_made_again(bench: Bench) -> None:
    kill_at(bench, "verify")
    path = bench.out / "text-F16.gguf.partial"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    verify(load_manifest(bench.export("F16", "Q8_0")))


@pytest.mark.usefixtures("unloaded")
def test_another_adapter_replaces_the_release(bench: Bench) -> None:
    before = bench.export().read_bytes()
    for name in bench.made.tensors:
        bench.made.tensors[name] *= 0.5
    bench.rewrite()
    manifest = bench.export()
    verify(load_manifest(manifest))
    assert manifest.read_bytes() != before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder on a real file system of 12 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"this machine does not allow to mount a file system: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, leave: int) -> None:
    status = os.statvfs(folder)
    (folder / "other").write_bytes(bytes(status.f_bavail * status.f_frsize - leave))


def test_a_disk_that_is_too_small_is_said_before_work(bench: Bench, small_disk: Path) -> None:
    bench.out = small_disk / "out"
    fill(small_disk, 4_000_000)
    ended = bench.run()
    assert ended.returncode == 1
    assert "export: E11: " in ended.stderr
    assert "GiB are free" in ended.stderr
    assert list(bench.out.iterdir()) == []


@pytest.mark.parametrize("leave", [3_000, 1_500_000, 3_500_000])
def test_a_disk_that_fills_up_while_writing(
    bench: Bench, small_disk: Path, monkeypatch: pytest.MonkeyPatch, leave: int
) -> None:
    bench.out = small_disk / "out"
    fill(small_disk, leave)
    monkeypatch.setattr(export_gguf.checks, "check_disk", lambda *_: None)  # as if it had been empty at the start
    arguments = ["--base", str(bench.base), "--adapter", str(bench.adapter), "--out", str(bench.out)]
    assert export_gguf.main(arguments) == 1
    assert not list(bench.out.glob("*.gguf*"))
    assert not (bench.out / "manifest.json").exists()


def test_a_disk_that_fills_up_while_quantizing(
    bench: Bench, small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.out = small_disk / "out"
    monkeypatch.setattr(export_gguf.checks, "check_disk", lambda *_: None)
    convert = export_gguf.convert

    def convert_and_fill(*parts: object) -> None:
        convert(*parts)
        fill(small_disk, 100_000)

    monkeypatch.setattr(export_gguf, "convert", convert_and_fill)
    arguments = ["--base", str(bench.base), "--adapter", str(bench.adapter), "--out", str(bench.out)]
    assert export_gguf.main([*arguments, "--quant", "Q8_0"]) == 1
    assert "export: E11: " in capsys.readouterr().err
    assert not list(bench.out.glob("*.gguf"))
    (small_disk / "other").unlink()
    monkeypatch.setattr(export_gguf, "convert", convert)
    assert export_gguf.main([*arguments, "--quant", "Q8_0"]) == 0
