"""A labelled set is read whole or not at all, and only what is labelled is held against a verdict."""

from pathlib import Path

import pytest

from station.errors import ConfigurationError
from station.labels import Label, differences, read_labels
from station.records import Evaluation
from tests.verdicts import make_region, make_verdict


def labelled(folder: Path, text: str, pictures: tuple[str, ...] = ("a.png", "b.png")) -> Path:
    for name in pictures:
        (folder / name).write_bytes(b"")
    (folder / "labels.csv").write_text(text)
    return folder


def problems(folder: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read_labels(folder)
    return caught.value.problems


def test_all_columns_are_read(tmp_path: Path) -> None:
    text = (
        "image,part_id,evaluation,region_id,pin_count,defect_mode,defect_position\n"
        "a.png,P1,NOT_OK,left,27,bent;short,A1; A2\n"
        "b.png,,OK,,,none,none\n"
    )
    assert read_labels(labelled(tmp_path, text)) == (
        Label("a.png", Evaluation.NOT_OK, "P1", "left", 27, ("bent", "short"), ("A1", "A2")),
        Label("b.png", Evaluation.OK),
    )


def test_a_study_names_station_set_up_and_recapture(tmp_path: Path) -> None:
    text = "image,evaluation,part_id,station,set_up,recapture\na.png,OK,P1,left,day,2\nb.png,OK,P1,,day,3\n"
    first, second = read_labels(labelled(tmp_path, text))
    assert (first.station, first.set_up, first.recapture) == ("left", "day", "2")
    assert second.station is None


def test_two_columns_are_enough(tmp_path: Path) -> None:
    assert read_labels(labelled(tmp_path, "image,evaluation\na.png,OK\n")) == (Label("a.png", Evaluation.OK),)


def test_all_problems_are_said_with_their_line(tmp_path: Path) -> None:
    text = "image,evaluation,pin_count\nnowhere.png,OK,3\na.png,PASS,many\n../x.png,OK,\n"
    found = problems(labelled(tmp_path, text))
    assert [problem.removeprefix(f"{tmp_path}/labels.csv:").split(":")[:2] for problem in found] == [
        ["2", " image"],
        ["3", " evaluation"],
        ["3", " pin_count"],
        ["4", " image"],
    ]


def test_missing_and_unknown_columns_are_said(tmp_path: Path) -> None:
    text = "\n".join(problems(labelled(tmp_path, "image,verdict\na.png,OK\n")))
    assert "column evaluation is missing" in text
    assert "unknown column verdict" in text


@pytest.mark.parametrize("text", ["", "image,evaluation\n"])
def test_an_empty_set_is_refused(tmp_path: Path, text: str) -> None:
    assert problems(labelled(tmp_path, text))


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in problems(tmp_path)[0]


DEFECTIVE = make_verdict(evaluation=Evaluation.NOT_OK, regions=(make_region(ng=("A2", "B1")),))


@pytest.mark.parametrize(
    "label",
    [
        Label("a.png", Evaluation.NOT_OK),
        Label("a.png", Evaluation.NOT_OK, pin_count=8, defect_modes=("short", "bent"), defect_positions=("B1", "A2")),
        Label("a.png", Evaluation.NOT_OK, region_id="pins", defect_modes=("bent",)),
    ],
)
def test_a_verdict_that_is_as_labelled_has_no_differences(label: Label) -> None:
    assert differences([label], DEFECTIVE) == []


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (Label("a.png", Evaluation.OK), "OK expected"),
        (Label("a.png", Evaluation.NOT_OK, pin_count=7), "7 pins expected"),
        (Label("a.png", Evaluation.NOT_OK, defect_modes=("missing",)), "missing expected"),
        (Label("a.png", Evaluation.NOT_OK, defect_positions=("A2",)), "at A2 expected"),
        (Label("a.png", Evaluation.NOT_OK, region_id="other"), "NOT_OK expected"),
    ],
)
def test_what_differs_is_said(label: Label, said: str) -> None:
    assert differences([label], DEFECTIVE) == [said]


def test_the_labels_of_all_regions_count() -> None:
    labels = [Label("a.png", Evaluation.NOT_OK, region_id="pins"), Label("a.png", Evaluation.OK, pin_count=8)]
    assert differences(labels, DEFECTIVE) == ["OK expected"]
