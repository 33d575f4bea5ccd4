"""`export_gguf.py inspect`: what one adapter trained, or two side by side, as text, JSON and a picture."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import export_gguf
import inspect_picture
import numpy as np
import pytest
from PIL import Image

from tests.export import tiny_pixtral
from tests.export.conftest import Bench
from tests.export.tiny_pixtral import Floats

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def two(make_bench: Callable[..., Bench]) -> tuple[Bench, Path]:
    """Return a base with an adapter of everything, and beside it one of the language model alone, older names."""
    bench = make_bench("all")
    other = bench.adapter.with_name("plain")
    tiny_pixtral.write_adapter(other, tiny_pixtral.make_adapter(bench.weights, "language only", "4.51", seed=5))
    return bench, other


def inspected(capsys: Capture, *arguments: object) -> str:
    assert export_gguf.main(["inspect", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def as_json(capsys: Capture, *arguments: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(inspected(capsys, *arguments, "--json"))
    return found


def change_of(bench: Bench, start: str) -> tuple[float, float]:
    """Return the norm of the change of some weights, and their own, from the weights themselves."""
    names = [name for name in bench.made.merged if name.startswith(start)]
    change = sum(float(np.sum((bench.made.merged[name] - bench.weights[name]) ** 2)) for name in names)
    return math.sqrt(change), math.sqrt(sum(float(np.sum(bench.weights[name] ** 2)) for name in names))


def test_groups_of_one_adapter_without_its_base(bench: Bench, capsys: Capture) -> None:
    (one,) = as_json(capsys, bench.adapter)
    states = {name: (group["state"], group["modules"]) for name, group in one["groups"].items()}
    assert states == {
        "vision attention": ("trained", 12), "vision mlp": ("trained", 9), "projector": ("absent", 0),
        "language attention": ("trained", 8), "language mlp": ("trained", 6), "head": ("absent", 0),
    }  # fmt: skip
    assert one["base"] == "pixtral-12b-2409"
    assert one["bytes"] == (bench.adapter / "adapter_model.safetensors").stat().st_size
    assert sum(group["bytes"] for group in one["groups"].values()) == sum(v.nbytes for v in bench.made.tensors.values())
    assert sum(module["parameters"] for module in one["modules"]) == sum(v.size for v in bench.made.tensors.values())
    assert all(module["relative"] is None and module["norm"] > 0 for module in one["modules"])


def test_changes_relative_to_the_base(bench: Bench, capsys: Capture) -> None:
    (one,) = as_json(capsys, bench.adapter, "--base", bench.base)
    change, base = change_of(bench, "vision_tower.transformer.layers")
    vision = [one["groups"][name]["norm"] for name in ("vision attention", "vision mlp")]
    assert math.hypot(*vision) == pytest.approx(change, rel=1e-4)
    layer = [module for module in one["modules"] if module["group"].startswith("vision")]
    assert math.sqrt(sum(module["base_norm"] ** 2 for module in layer)) == pytest.approx(base, rel=1e-4)
    for module in one["modules"]:
        assert module["relative"] == pytest.approx(module["norm"] / module["base_norm"])


@pytest.mark.parametrize("recipe", ["dora", "modules_to_save"])
def test_what_needs_the_base_is_said_with_it_alone(
    make_bench: Callable[..., Bench], capsys: Capture, recipe: str
) -> None:
    bench = make_bench(recipe)
    weight = "language_model.lm_head.weight" if recipe == "modules_to_save" else next(iter(bench.made.merged))
    for arguments, expected in (([], None), (["--base", bench.base], change_of(bench, weight)[0])):
        (one,) = as_json(capsys, bench.adapter, *arguments)
        (module,) = [module for module in one["modules"] if module["weight"] == weight]
        assert module["norm"] == (expected and pytest.approx(expected, rel=1e-4))
        assert one["groups"][module["group"]]["state"] == "trained"


def test_a_group_at_zero_is_untouched(bench: Bench, capsys: Capture) -> None:
    for name, values in bench.made.tensors.items():
        if ".feed_forward." in name and "lora_B" in name:
            values[:] = 0
    bench.rewrite()
    assert " untouched " in next(line for line in inspected(capsys, bench.adapter).splitlines() if "vision mlp" in line)


def test_two_adapters_stand_side_by_side(two: tuple[Bench, Path], capsys: Capture) -> None:
    bench, plain = two
    lines = inspected(capsys, bench.adapter, plain, "--base", bench.base).splitlines()
    assert lines[0].startswith(f"{bench.adapter}: r 4, alpha 8, ")
    assert lines[1].startswith(f"{plain}: r 4, alpha 8, ")
    assert lines[1].endswith("trained on pixtral-12b-2409 in 4 bit")
    head = next(line for line in lines if line.startswith("group"))
    assert lines[lines.index(head) - 1].split() == [str(bench.adapter)[-47:], str(plain)[-47:]]
    assert head.count("state") == 2
    row = next(line for line in lines if line.startswith("vision attention"))
    assert row.split()[2] == "trained"
    assert row.split("%")[1].split() == ["absent", "0", "0", "0.00"]
    row = next(line for line in lines if line.startswith("language mlp"))
    assert row.count("trained") == 2
    assert row.count("%") == 2
    assert head.rindex("state") == next(line for line in lines if line.startswith("language mlp")).rindex("trained")


def test_a_promise_that_the_file_does_not_keep_is_said(two: tuple[Bench, Path], capsys: Capture) -> None:
    bench, plain = two
    settings = json.loads((plain / "adapter_config.json").read_text())
    tiny_pixtral.write_json(plain / "adapter_config.json", settings | {"target_modules": ["q_proj"]})
    said = inspected(capsys, bench.adapter, plain, "--base", bench.base)
    assert "named by target_modules, absent: 3, as vision_tower.transformer.layers.0.attention.q_proj" in said


def test_an_adapter_of_another_base_is_said(bench: Bench, capsys: Capture) -> None:
    for part in ("lora_A", "lora_B"):
        old, new = (f"base_model.model.model.language_model.layers.{n}.mlp.up_proj.{part}.weight" for n in (1, 7))
        bench.made.tensors[new] = bench.made.tensors.pop(old)
    bench.rewrite()
    said = inspected(capsys, bench.adapter, "--base", bench.base)
    assert "not in the base: 1, as language_model.model.layers.7.mlp.up_proj.weight" in said


def bars(picture: Floats, colour: tuple[int, int, int]) -> list[int]:
    """Return the heights of the bars of a colour, from left to right, in pixels."""
    below = picture[70:]  # under the title and the names
    heights = np.all(below == colour, axis=2).sum(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], heights > 0, [0]])))
    return [int(heights[start]) for start in edges[::2]]


def test_the_picture_has_a_bar_for_each_layer_of_each_adapter(
    two: tuple[Bench, Path], tmp_path: Path, capsys: Capture
) -> None:
    bench, plain = two
    path = tmp_path / "changes.png"
    inspected(capsys, bench.adapter, plain, "--base", bench.base, "--plot", path)
    with Image.open(path) as opened:
        picture = np.asarray(opened.convert("RGB"))
    first, second = (bars(picture, colour) for colour in inspect_picture.COLOURS)
    assert len(first) == tiny_pixtral.VISION_LAYERS + tiny_pixtral.LAYERS
    assert len(second) == tiny_pixtral.LAYERS
    change = [change_of(bench, f"vision_tower.transformer.layers.{n}.") for n in range(tiny_pixtral.VISION_LAYERS)]
    change += [change_of(bench, f"language_model.model.layers.{n}.") for n in range(tiny_pixtral.LAYERS)]
    shares = [norm / base for norm, base in change]
    assert first[0] / first[-1] == pytest.approx(shares[0] / shares[-1], abs=0.03)


@pytest.mark.parametrize("arguments", [[], ["a", "b", "c"]])
def test_no_adapter_or_three_end_with_the_usage(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        export_gguf.main(["inspect", *arguments])
    assert ended.value.code == 2
    assert "usage: export_gguf.py inspect" in capsys.readouterr().err


def test_something_that_is_no_adapter_ends_with_1(tmp_path: Path, capsys: Capture) -> None:
    assert export_gguf.main(["inspect", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("export: E01: ")
