"""Lines and files that a power cut leaves whole, on a real disk."""

import multiprocessing
import os
from pathlib import Path

import msgspec
import pytest

from station.durable_file import append_line, read_lines, write_whole
from station.records import Record


class Line(Record):
    """What these tests write."""

    number: int


DECODER = msgspec.json.Decoder(Line)


def numbers(path: Path) -> list[int]:
    return [line.number for line in read_lines(path, DECODER)]


@pytest.mark.parametrize("is_durable", [True, False])
def test_lines_are_read_in_the_order_they_were_added(tmp_path: Path, *, is_durable: bool) -> None:
    path = tmp_path / "lines.jsonl"
    assert numbers(path) == []
    for number in range(3):
        append_line(path, Line(number), is_durable=is_durable)
    assert numbers(path) == [0, 1, 2]
    assert path.read_bytes().count(b"\n") == 3


@pytest.mark.parametrize("torn", [b'{"number":', b"\xff", b"{}", b'{"number":1}'])
def test_what_a_power_cut_left_unfinished_takes_no_later_line_with_it(
    tmp_path: Path, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "lines.jsonl"
    append_line(path, Line(0))
    with path.open("ab") as file:
        file.write(torn)
    append_line(path, Line(2))
    is_whole = torn == b'{"number":1}'
    assert numbers(path) == ([0, 1, 2] if is_whole else [0, 2])
    assert ("line 2: cannot be read" in caplog.text) is not is_whole


def add_many(path: Path, first: int) -> None:
    for number in range(first, first + 50):
        append_line(path, Line(number), is_durable=False)


def test_processes_that_add_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(add_many, [(path, 0), (path, 1000)])
    assert sorted(numbers(path)) == [*range(50), *range(1000, 1050)]


def test_a_file_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert [left.name for left in tmp_path.iterdir()] == ["file"]


def test_who_may_read_a_file_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"old")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    before = path.stat()
    was = os.umask(0o077)
    try:
        write_whole(path, b"new")
    finally:
        os.umask(was)
    after = path.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


def test_a_disk_that_cannot_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        append_line(tmp_path / "missing" / "lines.jsonl", Line(0))
    with pytest.raises(IsADirectoryError):
        list(read_lines(tmp_path, DECODER))
