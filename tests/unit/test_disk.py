"""A disk has no room when blocks or inodes run short, when it is read-only, and when it cannot be asked."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from station.disk import DiskRoom, problem_of


def set_disk(monkeypatch: pytest.MonkeyPatch, **found: int) -> None:
    sound = {"f_flag": 0, "f_bavail": 500, "f_blocks": 1000, "f_favail": 500, "f_files": 1000}
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(**(sound | found)))


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ({}, ""),
        ({"f_bavail": 20}, ""),
        ({"f_bavail": 19}, "room"),
        ({"f_favail": 19}, "files"),
        ({"f_files": 0, "f_favail": 0}, ""),
        ({"f_flag": os.ST_RDONLY}, "read-only"),
    ],
)
def test_what_is_wrong_is_said(
    found: dict[str, int], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_disk(monkeypatch, **found)
    problem = problem_of(tmp_path)
    assert (word in problem) if word else not problem


def test_a_folder_that_is_gone_has_no_room(tmp_path: Path) -> None:
    assert "cannot be asked" in problem_of(tmp_path / "gone")


def test_the_system_is_not_asked_in_every_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_disk(monkeypatch)
    room = DiskRoom(tmp_path)
    assert not room.problem
    set_disk(monkeypatch, f_bavail=0)
    assert not room.problem
