"""What was drawn with four tools is read alike; whatever a file holds, the answer is shapes or a message."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibration import shapes_file
from calibration.shapes import MOST_SHAPES, Shape, turned
from calibration.shapes_file import read_shapes
from station.errors import ConfigurationError

WIDTH, HEIGHT = 800, 600
NAME = "good.png"
FILES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Box = tuple[str, float, float, float, float]
"""label, left, top, right, bottom."""


def labelme(boxes: Sequence[Box]) -> str:
    drawn: list[object] = [
        {
            "label": label,
            "points": [[left, top], [right, bottom]],
            "group_id": None,
            "shape_type": "rectangle",
            "flags": {},
        }
        for label, left, top, right, bottom in boxes
    ]
    about = {"imagePath": NAME, "imageData": "aGVsbG8=", "imageHeight": HEIGHT, "imageWidth": WIDTH}
    return json.dumps({"version": "5.5.0", "flags": {}, "shapes": drawn, **about})


def coco(boxes: Sequence[Box]) -> str:
    labels = list(dict.fromkeys(label for label, *_ in boxes))
    drawn = [
        {
            "id": number, "image_id": 7, "category_id": labels.index(label) + 1, "iscrowd": 0,
            "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
            "segmentation": [],
        }
        for number, (label, left, top, right, bottom) in enumerate(boxes)
    ]  # fmt: skip
    images = [
        {"id": 6, "file_name": "other.png", "width": 10, "height": 10},
        {"id": 7, "file_name": f"images/{NAME}", "width": WIDTH, "height": HEIGHT, "license": 1},
    ]
    categories = [{"id": number, "name": label, "supercategory": ""} for number, label in enumerate(labels, 1)]
    return json.dumps({"info": {}, "licenses": [], "images": images, "annotations": drawn, "categories": categories})


def segmented(polygons: str) -> str:
    """Return a COCO file with one shape of these polygons and no box."""
    return (
        coco([("A1", 1, 1, 2, 2)])
        .replace('"bbox"', '"b"')
        .replace('"segmentation": []', f'"segmentation": [{polygons}]')
    )


def cvat(boxes: Sequence[Box]) -> str:
    drawn = "".join(
        f'<box label={quoteattr(label)} source="manual" occluded="0" xtl="{left}" ytl="{top}"'
        f' xbr="{right}" ybr="{bottom}" z_order="0"><attribute name="a">b</attribute></box>'
        for label, left, top, right, bottom in boxes
    )
    drawn = f'<tag label="t" source="manual"></tag>{drawn}'
    image = f'<image id="0" name="{NAME}" width="{WIDTH}" height="{HEIGHT}">{drawn}</image>'
    meta = "<meta><job><labels><label><name>A1</name></label></labels></job></meta>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{image}</annotations>\n'


def yolo(boxes: Sequence[Box], folder: Path) -> str:
    labels = list(dict.fromkeys(label for label, *_ in boxes))
    (folder / "data.yaml").write_text(
        "names:\n" + "".join(f"  {k}: {json.dumps(one, ensure_ascii=False)}\n" for k, one in enumerate(labels))
    )
    return "".join(
        f"{labels.index(label)} {(left + right) / 2 / WIDTH:.9f} {(top + bottom) / 2 / HEIGHT:.9f}"
        f" {(right - left) / WIDTH:.9f} {(bottom - top) / HEIGHT:.9f}\n"
        for label, left, top, right, bottom in boxes
    )


WRITERS: dict[str, Callable[[Sequence[Box], Path], str]] = {
    "labelme": lambda boxes, _: labelme(boxes),
    "coco": lambda boxes, _: coco(boxes),
    "cvat": lambda boxes, _: cvat(boxes),
    "yolo": yolo,
}


def read(folder: Path, content: str | bytes, name: str = "regions") -> tuple[Shape, ...]:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return read_shapes(folder / name, NAME, (WIDTH, HEIGHT))


def message(folder: Path, content: str | bytes) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(folder, content)
    (problem,) = caught.value.problems
    assert len(problem) < 600
    return problem


words = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12)
boxes = st.lists(
    st.tuples(words, st.floats(0, 700), st.floats(0, 500), st.floats(1, 90), st.floats(1, 90)).map(
        lambda one: (one[0], one[1], one[2], one[1] + one[3], one[2] + one[4])
    ),
    min_size=1,
    max_size=9,
)


@pytest.mark.parametrize("writer", WRITERS)
@FILES
@given(drawn=boxes)
def test_boxes_come_back_as_they_were_drawn(tmp_path: Path, writer: str, drawn: list[Box]) -> None:
    found = read(tmp_path, WRITERS[writer](drawn, tmp_path))
    assert [one.label for one in found] == [label for label, *_ in drawn]
    for one, (_, *sides) in zip(found, drawn, strict=True):
        assert (one.left, one.top, one.right, one.bottom) == pytest.approx(tuple(sides), abs=1e-5)


TURNED = turned(100, 200, 180, 240, 30)


@pytest.mark.parametrize(
    "content",
    [
        cvat([("A1", 100, 200, 180, 240)]).replace(' z_order="0"', ' rotation="30.0" z_order="0"'),
        coco([("A1", 100, 200, 180, 240)]).replace(
            '"iscrowd": 0', '"attributes": {"occluded": false, "rotation": 30.0}'
        ),
        json.dumps({"shapes": [{"label": "A1", "shape_type": "oriented_rectangle", "points": TURNED}]}),
        json.dumps({"shapes": [{"label": "A1", "points": TURNED}]}),
        cvat([]).replace(
            "</image>", f'<polygon label="A1" points="{";".join(f"{x},{y}" for x, y in TURNED)}"/></image>'
        ),
        "0 " + " ".join(f"{x / WIDTH:.9f} {y / HEIGHT:.9f}" for x, y in TURNED),
        segmented(str([value for corner in TURNED for value in corner])),
    ],
    ids=["cvat", "coco", "labelme", "labelme old", "cvat polygon", "yolo obb", "coco polygon"],
)
def test_a_turned_box_becomes_the_upright_box_around_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "classes.txt").write_text("A1\n")
    (one,) = read(tmp_path, content)
    assert one.label == "A1"
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    assert one.middle == pytest.approx((139.5, 219.5), abs=1e-4)
    assert one.right - one.left == pytest.approx(80 * cos + 40 * sin, abs=1e-4)
    assert one.bottom - one.top == pytest.approx(80 * sin + 40 * cos, abs=1e-4)


def test_points_circles_and_ellipses_have_their_middle(tmp_path: Path) -> None:
    point = {"label": "A1", "shape_type": "point", "points": [[10.5, 20.5]]}
    circle = {"label": "A2", "shape_type": "circle", "points": [[50, 60], [53, 64]]}
    first, second = read(tmp_path, json.dumps({"shapes": [point, circle]}))
    assert [(one.middle, one.side_px) for one in (first, second)] == [((10, 20), 0), ((49.5, 59.5), 10)]
    drawn = '<points label="A1" points="10.5,20.5"/><ellipse label="A2" cx="50" cy="60" rx="20" ry="5" rotation="90"/>'
    one, other = read(tmp_path, cvat([]).replace("</image>", f"{drawn}</image>"))
    assert one.middle == pytest.approx((10, 20))
    assert (other.right - other.left, other.bottom - other.top) == pytest.approx((10, 40))


ONE = [("A1", 10.0, 10.0, 50.0, 50.0)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "nothing is drawn"),
        ("{}", "neither COCO"),
        ("[]", "not as expected: Expected `object`, got `array`"),
        ('{"shapes": [{"label": 1, "points": []}]}', "Expected `str`, got `int` - at `$.shapes[0].label`"),
        ('{"shapes": [{"label": "a", "points": [[1, NaN]]}]}', "not as expected"),
        ('{"shapes": [{"label": "a", "points": [[1e999, 1], [2, 2], [3, 3]]}]}', "not as expected"),
        (
            '{"shapes": [{"label": "a", "shape_type": "linestrip", "points": [[1, 1], [2, 2]]}]}',
            "'a': a linestrip of 2",
        ),
        ('{"shapes": [{"label": "a", "shape_type": "mask", "points": [[1, 1], [2, 2]]}]}', "'a': a mask of 2 points"),
        (labelme([("A1", 700, 10, 900, 50)]), "'A1' reaches 100 px out of the picture of 800 x 600 px"),
        (labelme(ONE).replace("600", "601"), "is for a picture of 800 x 601 px; this one has 800 x 600 px"),
        (coco(ONE).replace(NAME, "third.png"), "none of its 2 pictures is named good.png; there are 'other.png'"),
        (coco(ONE).replace('"category_id": 1', '"category_id": 5'), "category_id 5 is not in categories"),
        (coco(ONE).replace("40.0, 40.0]", "-40.0, 40.0]"), "bbox has a negative side"),
        (
            coco(ONE).replace('"bbox"', '"no"').replace("[]}", '{"counts": [1], "size": [2]}}'),
            "a mask alone is no region",
        ),
        ("<svg/>", "expected CVAT's <annotations>"),
        ("<annotations", "not XML"),
        ('<annotations><track id="0"/></annotations>', "CVAT for video"),
        (cvat(ONE).replace('xtl="10.0"', 'xtl="ten"'), "xtl: found 'ten'; expected a number"),
        (cvat(ONE).replace('xtl="10.0"', 'xtl="nan"'), "expected places in px"),
        (
            cvat([]).replace("</image>", '<polyline label="a" points="1,2;3,4"/></image>'),
            "'a': a <polyline> is no region",
        ),
        (cvat([]).replace("</image>", '<polygon label="a" points="1,2;3"/></image>'), "expected x,y;x,y"),
        ("0 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1 0.1\n", "regions:2: class 1 has no name; 1 are known"),
        ("0 0.5 0.5 0.1 0.1 0.9\n", "regions:1: expected class x y width height"),
        ("0 320 240 100 100\n", "regions:1: expected places as shares"),
        ("0 nan 0.5 0.1 0.1\n", "regions:1: expected places as shares"),
        ("hello world\n", "regions:1: no YOLO line"),
        (b"\xff\xd8\xff\xe0 a picture", "not a text file in UTF-8"),
        ("0 .1 .1 .1 .1\n" * (MOST_SHAPES + 1), "more than 999 shapes"),
    ],
)
def test_what_cannot_be_imported_is_named(tmp_path: Path, content: str | bytes, expected: str) -> None:
    (tmp_path / "classes.txt").write_text("A1\n")
    assert expected in message(tmp_path, content)


def test_the_names_of_yolo_classes_are_asked_for(tmp_path: Path) -> None:
    labels = tmp_path / "labels" / "train"
    labels.mkdir(parents=True)
    assert "put classes.txt" in message(labels, "0 0.5 0.5 0.1 0.1")
    (tmp_path / "data.yaml").write_text("train: images\nnc: 2\nnames: [pin, A2]\n")
    assert read(labels, "1 0.5 0.5 0.1 0.1")[0].label == "A2"
    (tmp_path / "data.yaml").write_text("kpt_shape: [1, 2]\nnames: [pin]\n")
    assert "keypoints" in message(labels, "0 0.5 0.5 0.1 0.1")
    (tmp_path / "data.yaml").write_text("names: pin\n")
    assert "names: expected a list" in message(labels, "0 0.5 0.5 0.1 0.1")


LAUGHS = '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><annotations><version>&b;</version></annotations>'
OUTSIDE = '<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotations>&a;</annotations>'


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (LAUGHS, "has a document type"),
        (OUTSIDE, "has a document type"),
        ("<annotations>" + "<a>" * 100_000, "nested deeper"),
        ("[" * 100_000, "not as expected"),
        ('{"shapes": ' + "[" * 100_000, "not as expected"),
        ('{"x": ' + "[" * 100_000 + "]" * 100_000 + ', "shapes": []}', "not as expected"),
        ("0 " + "0.5 " * 100_000, "expected numbers only"),
        ("0\n" * 1_000_000, "more than 999 shapes"),
        (segmented("[1,1,1,1,1,1]," * 1000 + "[1,1,1,1,1,1]"), "length <= 999"),
        (segmented(f"[{'1,' * 30_000}1]"), "length <= 20000"),
    ],
    ids=(
        "laughs,outside,deep xml,deep json,deep shapes,deep unknown,long line,many lines,many polygons,many corners"
    ).split(","),
)
def test_a_hostile_file_is_refused(tmp_path: Path, content: str, expected: str) -> None:
    assert expected in message(tmp_path, content)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes_file, "MAX_BYTES", 2**20)
    assert "has more than 1 MiB" in message(tmp_path, labelme(ONE) + " " * 2**20)


def test_a_list_of_names_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(b"pin\n" + b" " * 2**20)
    assert "classes.txt: is larger than any list of names" in message(tmp_path, "0 0.5 0.5 0.1 0.1")


@FILES
@given(data=st.binary(max_size=300))
def test_any_bytes_give_a_message(tmp_path: Path, data: bytes) -> None:
    for start in (b"", b"<annotations>", b'{"shapes": ', b'{"images": [], "annotations": '):
        message(tmp_path, start + data)


@pytest.mark.parametrize("writer", WRITERS)
@FILES
@given(data=st.data())
def test_a_damaged_file_gives_shapes_or_a_message(tmp_path: Path, writer: str, data: st.DataObject) -> None:
    whole = WRITERS[writer]([*ONE, ("B1", 60.0, 60.0, 90.0, 90.0)], tmp_path).encode()
    place = data.draw(st.integers(0, len(whole)))
    removed = data.draw(st.integers(0, 12))
    put_in = data.draw(st.sampled_from([b"", b"-", b"9", b"null", b'"', b"<", b"e99", b"\x00", b"\xff", b"[]"]))
    (tmp_path / "damaged").write_bytes(whole[:place] + put_in + whole[place + removed :])
    try:
        found = read_shapes(tmp_path / "damaged", NAME, (WIDTH, HEIGHT))
    except ConfigurationError:
        return
    assert all(0 <= one.left <= one.right <= WIDTH and 0 <= one.top <= one.bottom <= HEIGHT for one in found)


GLOBOX = """
from globox import Annotation, AnnotationSet, BoundingBox
boxes = [("A1", 10.25, 20.5, 50.75, 61.0), ("pin two", 110.25, 20.0, 150.0, 60.0)]
drawn = [BoundingBox(label=label, xmin=x, ymin=y, xmax=right, ymax=end) for label, x, y, right, end in boxes]
written = AnnotationSet([Annotation("good.png", image_size=(800, 600), boxes=drawn)])
written.save_coco("coco/good.json", auto_ids=True)
written.save_cvat("cvat/good.xml")
written.save_labelme("labelme")
written.save_yolo_v5("yolo", label_to_id={"A1": 0, "pin two": 1})
"""


def test_what_another_library_writes_is_read(tmp_path: Path) -> None:
    pytest.importorskip("globox", reason="globox is not installed: pip install -e .[oracle]")
    files = [tmp_path / name for name in ("coco/good.json", "cvat/good.xml", "labelme/good.json", "yolo/good.txt")]
    for file in files:
        file.parent.mkdir()
    (tmp_path / "yolo/classes.txt").write_text("A1\npin two\n")
    # Its threads outlive the writing: in a process of its own.
    subprocess.run([sys.executable, "-c", GLOBOX], cwd=tmp_path, check=True, timeout=25)
    for file in files:
        first, second = read_shapes(file, NAME, (WIDTH, HEIGHT))
        assert (first.label, second.label) == ("A1", "pin two")
        assert (first.left, first.top, first.right, first.bottom) == pytest.approx((10.25, 20.5, 50.75, 61.0))
        assert (second.left, second.top, second.right, second.bottom) == pytest.approx((110.25, 20.0, 150.0, 60.0))
