"""Files that were mutated at random end in an error message: never in a traceback, never with much memory."""

import copy
import json
import random
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import export_gguf
import gguf_stream
import pytest
from checked_json import ExportError

from tests.export.conftest import Bench

FILES = (
    "base/config.json", "base/tokenizer.json", "base/tokenizer_config.json", "base/preprocessor_config.json",
    "base/model.safetensors.index.json", "base/model-00001-of-00002.safetensors", "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 7, 12, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308, float("inf"), float("nan"),
    "", "x", "\ud800", "F16", "U8", "I64", "(", "(a+)+$", "../../etc/passwd", "a" * 100_000, [], {}, [[]], [1] * 1000,
    {"": ""}, [0, 2**62], "model-00009.safetensors",
)  # fmt: skip
MAX_KIB = 2 * 2**20


def split(path: Path) -> tuple[bytes, bytes]:
    """Return the JSON of a file and what follows it."""
    data = path.read_bytes()
    if path.suffix == ".json":
        return data, b""
    length = int.from_bytes(data[:8], "little")
    return data[8 : 8 + length], data[8 + length :]


def mutated(rng: random.Random, text: bytes, body: bytes, is_json: bool) -> bytes:
    """Return the file with its JSON, its bytes or its length changed."""
    how = rng.randrange(6)
    if how <= 2:
        value = json.loads(text)
        for _ in range(rng.choice((1, 1, 2, 5))):
            mutate_value(rng, value)
        text = json.dumps(value).encode(errors="surrogatepass")
    elif how == 3:
        place = rng.randrange(len(text))
        text = text[:place] + rng.choice((b"", b"[" * 100_000, b"\xff\xfe", b"}", b'"', b"1e999")) + text[place + 3 :]
    length = len(text)
    if how == 4:
        length = rng.choice((0, 1, 7, length - 1, length + 1, 2**31, 2**40, 2**63, 2**64 - 1))
    data = text + body if is_json else length.to_bytes(8, "little") + text + body
    if how == 5:
        spoiled = bytearray(data)
        for _ in range(rng.choice((1, 10, 200))):
            spoiled[rng.randrange(min(len(data), 20_000))] = rng.randrange(256)
        data = bytes(spoiled[: rng.choice((len(data), rng.randrange(len(data))))])
    return data


def mutate_value(rng: random.Random, value: Any) -> None:
    """Replace, remove, double or move one value somewhere in a JSON document."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(value[key], dict | list) and value[key] and rng.random() < 0.8:
            value = value[key]
            continue
        break
    how = rng.randrange(5)
    if how == 0:
        del value[key]
    elif how == 1 and isinstance(value, dict):
        value[rng.choice(("x", f"{key}.absmax", f"{key}{key}", "lm_head.weight", ""))] = value.pop(key)
    elif how == 2 and isinstance(value[key], int) and not isinstance(value[key], bool):
        value[key] += rng.choice((-1, 1, 4, 1024, -(10**6)))
    else:
        value[key] = copy.deepcopy(rng.choice(ODD))  # an odd value may itself be changed later


def attempt(order: export_gguf.Order, *, convert: bool) -> str:
    """Export up to the writing; return the code of the error, or an empty text."""
    try:
        plan = export_gguf.make_plan(order)
        export_gguf.check(order, plan)
        export_gguf.merge(order, plan)
        if convert:
            order.out.mkdir(exist_ok=True)
            paths = (order.out / "text", order.out / "mmproj")
            gguf_stream.write_files(dict(zip(paths, plan.files.values(), strict=True)), plan.found, plan.changes)
    except ExportError as error:
        if len(str(error)) > 2000:
            raise AssertionError("the message is too long to read") from error
        return str(error.code)
    return ""


def fuzz(bench: Bench, tmp_path: Path, seeds: range) -> dict[str, int]:
    """Try each seed; return how often each error came."""
    good = {name: split(tmp_path / name) for name in FILES}
    whole = {name: (tmp_path / name).read_bytes() for name in FILES}
    order = export_gguf.Order(bench.base, bench.adapter, bench.out, "fuzz")
    codes: dict[str, int] = {}
    for seed in seeds:
        rng = random.Random(seed)
        name = rng.choice(FILES)
        path = tmp_path / name
        path.write_bytes(mutated(rng, *good[name], path.suffix == ".json"))
        try:
            code = attempt(order, convert=seed % 10 == 0)
        except Exception as error:
            shutil.copy(path, tmp_path / "failed")
            raise AssertionError(f"seed {seed}, {name}: {error!r}") from error
        codes[code] = codes.get(code, 0) + 1
        path.write_bytes(whole[name])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MAX_KIB
    return codes


def test_300_mutated_files(bench: Bench, tmp_path: Path) -> None:
    codes = fuzz(bench, tmp_path, range(300))
    assert len(codes) > 5, codes


@pytest.mark.export
@pytest.mark.timeout(1800)
def test_10000_mutated_files(make_bench: Callable[..., Bench], tmp_path: Path) -> None:
    codes = fuzz(make_bench("all"), tmp_path, range(1000, 11_000))
    assert sum(codes.values()) == 10_000
    assert len(codes) >= 8, codes
