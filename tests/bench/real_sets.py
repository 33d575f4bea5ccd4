"""Makes labelled sets and taught recipes from the real pictures, as a plant would: nothing here judges.

In: `../shared/data` beside the project, or the folder that REAL_PICTURES names. Out, below a folder of the user's: for
each set a recipe that `station teach` proposed from one golden picture, and labelled sets to measure and to train with.
All pictures of a set are put on one canvas first, so that size and crop tell nothing.
"""

import csv
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from calibration.layout import Known
from calibration.teach import teach
from station.recipe import Recipe
from station.recipe_file import load_recipe

SOURCE = Path(os.environ.get("REAL_PICTURES", Path(__file__).parents[2].parent / "shared/data"))
CONNECTOR_VIEW = (139, 349)
"""Width and height that all pictures of the connector have; what lies farther left is cut off."""
TIP_REACH_PX = 8.0
"""A third of the connector's pitch: tips stand above the fiducials, and bad pictures were taken from elsewhere."""
DIE_CORNERS = ((61.0, 51.5), (574.0, 34.0), (71.5, 591.0))
"""Upper left, upper right, lower left part of the golden tile's 13 x 11 whole ones, as a person clicks them."""
DIE_MARGIN_PX, BOARD_MARGIN_PX = 50, 36
BOARDS_TO_TRAIN = 20
"""The first so many board pairs by name are for training, the others for measuring."""
BOARD_PLACES = ((0, 0), (-24, 0), (0, -24), (-24, -24))
"""Where a board for training lies on its canvas, px from the usual place; half a step of the tiles shows it anew."""
LEAST_SHOWN, LEAST_SHOWN_PX = 0.15, 12
"""Share and number of a defect's pixels that a tile shows when the defect is its own: less of it is a neighbour's."""
CHANGED_LEVELS, EDGE_PX = 100, 3
"""What counts as changed within a defect's box; edges of tracks that lie a little elsewhere are thinner."""
BOARD_MODES = {1: "missing", 2: "short", 3: "deformed", 4: "deformed", 5: "contaminated", 6: "contaminated"}
"""The set's types in the model's words: open, short, mousebite, spur, spurious copper, pin-hole."""

Image = npt.NDArray[np.uint8]
Row = dict[str, str]
Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in px."""


@dataclass(frozen=True)
class RealSet:
    """One taught product with its pictures."""

    name: str
    recipe: Path
    measure: Path
    """Labelled set; never trained with."""
    train: Path | None
    """Labelled set for training on site."""


def read(path: Path) -> Image:
    """Return the picture's pixels, BGR."""
    return np.asarray(cv2.imread(str(path)), np.uint8)


def write_set(folder: Path, pictures: Iterable[tuple[str, Image, Row]]) -> Path:
    """Write a labelled set of (name, pixels, labels)."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = ("image", "evaluation", "part_id", "defect_mode", "defect_position", "population")
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, columns, restval="")
        rows.writeheader()
        for name, pixels, labels in pictures:
            cv2.imwrite(str(folder / name), pixels)
            rows.writerow({"image": name, "population": "real", **labels})
    return folder


def on_canvas(picture: Image, size: tuple[int, int], corner: tuple[int, int]) -> Image:
    """Return the picture with its upper left corner at `corner` of a canvas (width, height); its border goes on."""
    (x, y), (height, width) = corner, picture.shape[:2]
    return np.pad(picture, ((y, size[1] - y - height), (x, size[0] - x - width), (0, 0)), mode="edge")


def label(defects: Sequence[tuple[str, str]], **more: str) -> Row:
    """Return the labels of a picture with (mode, pin id) defects."""
    modes, places = ";".join(mode for mode, _ in defects), ";".join(place for _, place in defects)
    return {"evaluation": "NOT_OK" if defects else "OK", "defect_mode": modes, "defect_position": places, **more}


def by_hand(recipe: Path, before: str, after: str) -> None:
    """Correct a taught recipe as a person would who sees that a set's pictures were not taken from one place."""
    text = recipe.read_text()
    if after not in text:
        assert before in text
        recipe.write_text(text.replace(before, after))


def carrier(out: Path, view: str) -> RealSet:
    """One view of the carrier panel: one pin, taught from one picture with the pin."""
    source = SOURCE / "carrier_pins_arttiwa"
    with (source / "labels.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["view"] == view]
    golden = source / "images" / rows[0]["file"]
    place = (float(rows[0]["pin_x"]), float(rows[0]["pin_y"]))
    teach([golden], Known(1, places=(place,), tile_px=112), out / "recipe")
    pictures = []
    for row in rows[1:]:
        labels = label([("missing", "P1")] if row["state"] == "UP" else [])
        if row["decidable"] == "0":
            labels = {"evaluation": "NOT_DECIDABLE"}
        pictures.append((row["file"], read(source / "images" / row["file"]), labels))
    front = [picture for picture in pictures if picture[2]["evaluation"] != "NOT_DECIDABLE"]
    train = write_set(out / "train", [("golden.jpg", read(golden), label([])), *front])
    return RealSet(out.name, out / "recipe/recipe.yaml", write_set(out / "measure", pictures), train)


def connector(out: Path, train_with: Sequence[str]) -> RealSet:
    """The connector, taught from its picture 01; `train_with`: good and bad pictures that are not measured."""
    source = SOURCE / "connector_pins_visionrd"
    known = json.loads((source / "labels.json").read_text())["images"]
    pictures = {}
    for image in known:
        pixels = read(source / "images" / image["file"])
        shown = np.ascontiguousarray(pixels[: CONNECTOR_VIEW[1], pixels.shape[1] - CONNECTOR_VIEW[0] :])
        bent = [("bent", pin_id_of(pin["slot"])) for pin in image["pins"] if pin["state"] != "good"]
        pictures[image["file"]] = (image["file"], shown, label(bent))
    good = ["01.png", *(name for name in train_with if pictures[name][2]["evaluation"] == "OK")]
    golden = write_set(out / "golden", [pictures[name] for name in good])
    teach([golden / name for name in good], Known(22, grid=(11, 2)), out / "recipe")
    by_hand(out / "recipe/recipe.yaml", "max_residual_px: 1.6", "max_residual_px: 3.0")
    by_hand(out / "recipe/recipe.yaml", "min_score: 0.6\n", f"min_score: 0.6\n  tip_reach_px: {TIP_REACH_PX}\n")
    measure = [picture for name, picture in pictures.items() if name not in {"01.png", *train_with}]
    train = [pictures["01.png"], *(pictures[name] for name in train_with)]
    return RealSet(
        out.name, out / "recipe/recipe.yaml", write_set(out / "measure", measure), write_set(out / "train", train)
    )


def pin_id_of(slot: str) -> str:
    """Return our name of the connector's slot L1..R11."""
    return f"{chr(ord('A') + int(slot[1:]) - 1)}{1 + 'LR'.index(slot[0])}"


def die_field(out: Path) -> RealSet:
    """The field of parts, taught from one tile without defects; the other four are measured."""
    source = SOURCE / "die_array_lcwcharles"
    tiles = json.loads((source / "tiles_labels.json").read_text())
    pictures = []
    for tile in tiles:
        pixels = read(source / "tiles" / tile["file"])
        white = np.pad(pixels, ((DIE_MARGIN_PX,) * 2, (DIE_MARGIN_PX,) * 2, (0, 0)), constant_values=255)
        bad = tile["verdict"] != "passed"
        pictures.append((tile["file"], np.asarray(white, np.uint8), {"evaluation": "NOT_OK" if bad else "OK"}))
    golden = write_set(out / "train", [pictures[0]])
    corners = tuple((x + DIE_MARGIN_PX, y + DIE_MARGIN_PX) for x, y in DIE_CORNERS)
    teach([golden / pictures[0][0]], Known(13 * 11, grid=(13, 11), places=corners), out / "recipe")
    path = out / "recipe/recipe.yaml"
    if "measurement:" not in path.read_text():
        path.write_text(path.read_text() + "measurement: {missing: true}\n")
    return RealSet(out.name, path, write_set(out / "measure", pictures[1:]), golden)


def board_names() -> list[str]:
    """Return the names of all board pairs."""
    return sorted(path.stem for path in (SOURCE / "deeppcb").glob("*.txt"))


def board(out: Path, name: str, moved: tuple[int, int] = (0, 0)) -> RealSet:
    """One board pair, its golden picture covered with tiles; labels name every tile that shows a defect.

    `moved`: px by which both pictures lie elsewhere below the same tiles.
    """
    corner = (BOARD_MARGIN_PX + moved[0], BOARD_MARGIN_PX + moved[1])
    golden, test = (_board_picture(SOURCE / "deeppcb" / f"{name}_{kind}.jpg", corner) for kind in ("temp", "test"))
    out.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(out / "golden.png"), golden)
    if not (out / "recipe/recipe.yaml").exists():
        teach([out / "golden.png"], 64, out / "recipe")
        by_hand(out / "recipe/recipe.yaml", "max_rotation_deg: 10.0", "max_rotation_deg: 1.0")
        by_hand(out / "recipe/recipe.yaml", "max_scale_change: 0.06", "max_scale_change: 0.02")
        # 169 tiles a board: each must be surer to be called defective than one of a few pins.
        by_hand(out / "recipe/recipe.yaml", "not_ok_min_p_defect: 0.5", "not_ok_min_p_defect: 0.9")
    recipe = load_recipe(out / "recipe/recipe.yaml")
    tested = (f"{name}_test.png", test, label(_tiles_with(recipe, golden, test, board_defects(name, corner))))
    # The golden picture is no part of the set for training: beside itself it teaches nothing.
    return RealSet(
        name, out / "recipe/recipe.yaml", write_set(out / "measure", [tested]), write_set(out / "train", [tested])
    )


def boards_to_train(out: Path) -> list[RealSet]:
    """Return the pairs for training, each in every place of BOARD_PLACES with a recipe of its own."""
    return [
        board(out / f"{name}-{number}", name, moved)
        for name in board_names()[:BOARDS_TO_TRAIN]
        for number, moved in enumerate(BOARD_PLACES)
    ]


def _board_picture(path: Path, corner: tuple[int, int]) -> Image:
    picture = read(path)
    return on_canvas(picture, (picture.shape[1] + 2 * BOARD_MARGIN_PX, picture.shape[0] + 2 * BOARD_MARGIN_PX), corner)


def board_defects(name: str, corner: tuple[int, int] = (BOARD_MARGIN_PX, BOARD_MARGIN_PX)) -> list[tuple[str, Box]]:
    """Return (mode, box) of the pair's defects on the canvas; box x0, y0, x1, y1."""
    found, (x, y) = [], corner
    for line in (SOURCE / "deeppcb" / f"{name}.txt").read_text().split("\n"):
        if line.strip():
            x0, y0, x1, y1, kind = map(int, line.split()[:5])
            found.append((BOARD_MODES[kind], (x0 + x, y0 + y, x1 + x, y1 + y)))
    return found


def _tiles_with(
    recipe: Recipe, golden: Image, test: Image, defects: Sequence[tuple[str, Box]]
) -> list[tuple[str, str]]:
    half = recipe.file.pins.tile_px / 2
    pins = [pin for region in recipe.file.regions for pin in region.pins]
    found: list[tuple[str, str]] = []
    for mode, box in defects:
        x, y = _changed(golden, test, box)
        least = max(LEAST_SHOWN_PX, LEAST_SHOWN * len(x))
        shown = [np.count_nonzero((np.abs(x - pin.x) < half) & (np.abs(y - pin.y) < half)) for pin in pins]
        found += [(mode, pin.pin_id) for pin, count in zip(pins, shown, strict=True) if count >= least]
    return found


def _changed(golden: Image, test: Image, box: Box) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return x and y of the pixels within the box that the defect changed."""
    x0, y0, x1, y1 = box
    differs = cv2.absdiff(golden, test)[y0:y1, x0:x1, 0] > CHANGED_LEVELS
    opened = cv2.morphologyEx(differs.astype(np.uint8), cv2.MORPH_OPEN, np.ones((EDGE_PX, EDGE_PX), np.uint8))
    rows, columns = np.nonzero(opened if opened.any() else differs)
    return columns + x0, rows + y0
