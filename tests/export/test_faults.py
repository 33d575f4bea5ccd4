"""Every planted fault ends the export with its own error and code 1, and nothing has a final name."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adapter
import export_gguf
import gguf_stream
import numpy as np
import pytest
from checked_json import ExportError

from tests.export import tiny_pixtral
from tests.export.conftest import Bench
from tests.export.tiny_pixtral import write_json, write_safetensors

PREFIX = "base_model.model.model."
Q_PROJ = f"{PREFIX}language_model.layers.0.self_attn.q_proj"


def refused(bench: Bench, code: str, said: str, **order: Any) -> None:
    """The export is refused with this code and text, in this process and by the command line."""
    with pytest.raises(ExportError, match=code) as caught:
        bench.export(**order)
    assert caught.value.code == code
    assert said in str(caught.value)
    assert nothing_released(bench)


def nothing_released(bench: Bench) -> bool:
    return not bench.out.exists() or not {
        path.name for path in bench.out.iterdir() if path.suffix in (".gguf", ".json") and path.stem != "export-state"
    }


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    write_json(path, data)


def test_the_command_ends_with_1_and_one_line(bench: Bench) -> None:
    (bench.adapter / "adapter_model.safetensors").unlink()
    ended = bench.run()
    assert ended.returncode == 1
    assert ended.stderr.startswith("export: E01: ")
    assert "Traceback" not in ended.stderr
    assert nothing_released(bench)


def test_an_adapter_in_a_bin_file(bench: Bench) -> None:
    (bench.adapter / "adapter_model.safetensors").rename(bench.adapter / "adapter_model.bin")
    refused(bench, "E01", "adapter_model.bin")


def test_something_that_is_no_lora(bench: Bench) -> None:
    edit(bench.adapter / "adapter_config.json", lambda data: data.update(peft_type="LOHA"))
    refused(bench, "E01", "peft_type")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lora_bias", True), ("bias", "all"), ("layer_replication", [[0, 1]]), ("target_parameters", ["x"]),
        ("trainable_token_indices", [5]), ("use_qalora", True), ("use_bdlora", {"a": 1}),
        ("alora_invocation_tokens", [3]), ("fan_in_fan_out", True), ("arrow_config", {"top_k": 2}),
        ("kasa_config", {"beta": 1}), ("monteclora_config", {"num_samples": 8}), ("of_a_later_version", {"x": 1}),
        ("init_lora_weights", "pissa"), ("init_lora_weights", "pissa_niter_4"), ("init_lora_weights", "olora"),
        ("init_lora_weights", "loftq"), ("init_lora_weights", ["corda"]),
    ],
)  # fmt: skip
def test_a_feature_that_cannot_be_merged_is_refused_by_name(bench: Bench, key: str, value: object) -> None:
    edit(bench.adapter / "adapter_config.json", lambda data: data.update({key: value}))
    refused(bench, "E02", key)


@pytest.mark.parametrize(
    "name",
    ["embed_tokens.lora_embedding_A", "layers.0.self_attn.q_proj.lora_B.bias", "norm.base_layer.bias"],
)
def test_a_tensor_that_cannot_be_merged_is_refused_by_name(bench: Bench, name: str) -> None:
    bench.made.tensors[f"{PREFIX}language_model.{name}"] = np.ones((4, 4), np.float32)
    bench.rewrite()
    refused(bench, "E02", name)


def test_a_vocabulary_of_another_size(bench: Bench) -> None:
    bench.made.tensors["base_model.model.lm_head.weight"] = np.ones((tiny_pixtral.WORDS + 8, 256), np.float32)
    bench.rewrite()
    refused(bench, "E02", "lm_head")


def test_a_without_b(bench: Bench) -> None:
    del bench.made.tensors[f"{Q_PROJ}.lora_B.weight"]
    bench.rewrite()
    refused(bench, "E03", "lora_A or lora_B is missing")


def test_another_rank_than_configured(bench: Bench) -> None:
    edit(bench.adapter / "adapter_config.json", lambda data: data.update(r=16))
    refused(bench, "E03", "rank is 4 and 4, adapter_config.json says 16")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite(bench: Bench, value: float) -> None:
    bench.made.tensors[f"{Q_PROJ}.lora_B.weight"][3, 1] = value
    bench.rewrite()
    refused(bench, "E03", "not finite")


def test_a_module_that_the_base_has_not(bench: Bench) -> None:
    tensors = bench.made.tensors
    for part in ("lora_A", "lora_B"):
        tensors[f"{PREFIX}vision_tower.transformer.layers.9.attention.q_proj.{part}.weight"] = tensors[
            f"{Q_PROJ}.{part}.weight"
        ]
    bench.rewrite()
    refused(bench, "E04", "1 under model.vision_tower.transformer")


def test_one_weight_changed_twice(bench: Bench) -> None:
    tensors = bench.made.tensors
    for part in ("lora_A", "lora_B"):  # the same weight under its older name
        old = f"base_model.model.language_model.model.layers.0.self_attn.q_proj.{part}.weight"
        tensors[old] = tensors[f"{Q_PROJ}.{part}.weight"]
    bench.rewrite()
    refused(bench, "E04", "twice")


def test_a_4_bit_base_by_its_configuration(bench: Bench) -> None:
    edit(bench.base / "config.json", lambda data: data.update(quantization_config={"quant_method": "bitsandbytes"}))
    refused(bench, "E05", "unsloth/Pixtral-12B-2409")


def test_a_4_bit_base_by_its_tensors(bench: Bench) -> None:
    path = bench.base / "model-00001-of-00002.safetensors"
    head = json.dumps({"lm_head.weight.absmax": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(4))
    refused(bench, "E05", "quantized")


def test_a_missing_shard(bench: Bench) -> None:
    (bench.base / "model-00002-of-00002.safetensors").unlink()
    refused(bench, "E06", "model-00002-of-00002.safetensors is missing")


def test_a_missing_shard_without_index(bench: Bench) -> None:
    (bench.base / "model-00002-of-00002.safetensors").unlink()
    (bench.base / "model.safetensors.index.json").unlink()
    refused(bench, "E06", "The base has no")


@pytest.mark.parametrize("keep", [4, 100, 200_000])
def test_a_shard_that_is_cut_off(bench: Bench, keep: int) -> None:
    path = bench.base / "model-00001-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    refused(bench, "E06", "cut off")


def test_tensors_that_overlap(bench: Bench) -> None:
    path = bench.base / "model-00001-of-00002.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    first, second = [name for name in header if name.endswith("norm.weight")][:2]
    header[second]["data_offsets"] = header[first]["data_offsets"]
    head = json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + data[8 + length :])
    refused(bench, "E06", "overlaps another tensor")


def test_mistrals_own_format(bench: Bench) -> None:
    for path in bench.base.glob("model*"):
        path.unlink()
    (bench.base / "consolidated.safetensors").write_bytes(b"")
    refused(bench, "E06", "Mistral's own format")


def test_the_base_model_where_the_instruct_model_was_trained(bench: Bench) -> None:
    edit(bench.base / "config.json", lambda data: data.update(_name_or_path="unsloth/Pixtral-12B-Base-2409"))
    refused(bench, "E06", "trained on pixtral-12b-2409")


def test_an_adapter_of_a_base_with_other_sizes(bench: Bench) -> None:
    bench.made.tensors[f"{Q_PROJ}.lora_A.weight"] = np.ones((4, 512), np.float32)
    bench.rewrite()
    refused(bench, "E03", "the base has (256, 256)")


@pytest.mark.parametrize(
    ("half", "key", "value"),
    [
        (None, "projector_hidden_act", "relu"), (None, "vision_feature_layer", -2), (None, "model_type", "mistral3"),
        (None, "spatial_merge_size", 2), ("text_config", "sliding_window", 4096), ("vision_config", "rope_theta", 1e6),
        ("vision_config", "hidden_act", "gelu"), ("vision_config", "model_type", "clip_vision_model"),
    ],
)  # fmt: skip
def test_what_llama_cpp_would_compute_otherwise(bench: Bench, half: str | None, key: str, value: object) -> None:
    edit(bench.base / "config.json", lambda data: (data[half] if half else data).update({key: value}))
    refused(bench, "E07", key)


def test_a_tokenizer_that_does_not_fit_the_embedding(bench: Bench) -> None:
    edit(bench.base / "tokenizer.json", lambda data: data["model"]["vocab"].pop("er"))
    refused(bench, "E08", "tokens, the embedding")


def test_another_number_for_the_end_of_a_row(bench: Bench) -> None:
    def swap(data: dict[str, Any]) -> None:
        words = data["model"]["vocab"]
        words["[IMG_BREAK]"], words["!"] = words["!"], words["[IMG_BREAK]"]
        data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] != "[IMG_BREAK]"]

    edit(bench.base / "tokenizer.json", swap)
    refused(bench, "E08", "[IMG_BREAK]")


def test_an_adapter_trained_with_another_tokenizer(bench: Bench) -> None:
    other = tiny_pixtral.tokenizer()
    other["model"]["merges"].reverse()
    write_json(bench.adapter / "tokenizer.json", other)
    refused(bench, "E08", "merges")


def test_an_adapter_whose_tokenizer_writes_merges_the_older_way(bench: Bench) -> None:
    same = tiny_pixtral.tokenizer()
    same["model"]["merges"] = [" ".join(pair) for pair in same["model"]["merges"]]
    write_json(bench.adapter / "tokenizer.json", same)
    assert export_gguf.make_plan(export_gguf.Order(bench.base, bench.adapter, bench.out, "tiny"))


def test_a_template_without_braces(bench: Bench) -> None:
    (bench.adapter / "chat_template.jinja").write_text("mistral-v3-tekken")
    refused(bench, "E08", "no Jinja braces")


@pytest.mark.usefixtures("unloaded")
def test_the_adapters_own_template_is_taken(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    (bench.adapter / "chat_template.jinja").write_text("{{ mine }}")
    bench.export()
    assert "the chat template is the adapter's" in capsys.readouterr().err
    assert b"{{ mine }}" in (bench.out / "text-F16.gguf").read_bytes()


def test_a_value_too_large_for_f16(bench: Bench) -> None:
    bench.made.tensors[f"{Q_PROJ}.lora_B.weight"][:] = 1e6
    bench.rewrite()
    refused(bench, "E09", "does not fit into F16")


def test_vision_is_required_and_was_not_trained(make_bench: Callable[..., Bench]) -> None:
    refused(make_bench("language only"), "E10", "does not train the vision tower", expect_vision="required")


def test_vision_is_required_and_was_left_at_zero(bench: Bench) -> None:
    for name, values in bench.made.tensors.items():
        if "vision_tower" in name and "lora_B" in name:
            values[:] = 0
    bench.rewrite()
    refused(bench, "E10", "does not train the vision tower", expect_vision="required")


def test_vision_is_forbidden_and_was_trained(bench: Bench) -> None:
    refused(bench, "E10", "trains the vision tower", expect_vision="forbidden")


@pytest.mark.parametrize("target", [["q_proj", "v_proj"], r".*(language|vision).*\.(q_proj|v_proj)"])
@pytest.mark.parametrize("layout", ["4.51", "4.57"])
def test_vision_keys_that_were_dropped_from_the_file(
    make_bench: Callable[..., Bench], target: object, layout: str
) -> None:
    bench = make_bench("all", layout)
    bench.made.tensors = {
        name: values for name, values in bench.made.tensors.items()
        if "vision_tower" not in name and (".q_proj." in name or ".v_proj." in name)
    }  # fmt: skip
    bench.made.config["target_modules"] = target
    bench.rewrite()
    refused(bench, "E10", "target_modules names 6 modules of vision attention")


def test_a_disk_without_room_is_refused_before_work(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("usage", (), {"free": 1000})())
    refused(bench, "E11", "GiB are free")


def test_an_adapter_that_changes_nothing(bench: Bench) -> None:
    for name, values in bench.made.tensors.items():
        if "lora_B" in name:
            values[:] = 0
    bench.rewrite()
    refused(bench, "E12", "changes nothing")


# Faults of the exporter itself, planted where it writes: V1 finds them in the files.

Spoil = Callable[[dict[str, adapter.Change]], dict[str, adapter.Change]]


def vision_lost(changes: dict[str, adapter.Change]) -> dict[str, adapter.Change]:
    return {weight: change for weight, change in changes.items() if not weight.startswith("vision_tower")}


def doubled(changes: dict[str, adapter.Change]) -> dict[str, adapter.Change]:
    return {weight: adapter.Change(**(vars(c) | {"scale": 2 * c.scale})) for weight, c in changes.items()}


def shifted(changes: dict[str, adapter.Change]) -> dict[str, adapter.Change]:
    def other(weight: str) -> str:
        swapped = weight.replace(".layers.0.", ".layers.X.").replace(".layers.1.", ".layers.0.")
        return swapped.replace(".layers.X.", ".layers.1.")

    return {weight: changes.get(other(weight), change) for weight, change in changes.items()}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (vision_lost, "this module's training is lost"),
        (doubled, "the change was scaled by 2"),
        (shifted, "it holds the training of layer"),
    ],
)
def test_v1_finds_training_that_did_not_arrive(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, spoil: Spoil, said: str
) -> None:
    write = gguf_stream.write_files
    monkeypatch.setattr(gguf_stream, "write_files", lambda plans, found, c: write(plans, found, spoil(c)))
    refused(bench, "V1", said)


@pytest.mark.parametrize("recipe", ["all", "mlp only"])
def test_v1_finds_rows_that_were_not_reordered(
    make_bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    monkeypatch.setattr(gguf_stream, "permuted", lambda weight, _: weight)
    said = "not in llama.cpp's order" if recipe == "all" else "was not trained, and is not the base's either"
    refused(make_bench(recipe), "V1", said)


def test_v1_finds_a_fault_in_a_quantized_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write = gguf_stream.write_files
    monkeypatch.setattr(gguf_stream, "write_files", lambda plans, found, c: write(plans, found, vision_lost(c)))
    with pytest.raises(ExportError, match=r"V1: mmproj-Q8_0.gguf: .* training is lost"):
        bench.export("Q8_0", mmproj_type="q8_0")
    assert nothing_released(bench)


def test_v0_finds_a_lost_tensor(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write = gguf_stream.write_files

    def without_row(plans: Any, found: Any, changes: Any) -> Any:
        fewer = {
            path: type(plan)(plan.arch, plan.keys, [e for e in plan.entries if e.name != "v.token_embd.img_break"])
            for path, plan in plans.items()
        }
        return write(fewer, found, changes)

    monkeypatch.setattr(gguf_stream, "write_files", without_row)
    refused(bench, "V0", "v.token_embd.img_break is missing")


def test_v2_says_why_a_pair_does_not_load(bench: Bench) -> None:
    bench.export()
    text = bench.out / "text-F16.gguf"
    with pytest.raises(ExportError, match="V2"):
        export_gguf.load_check.check_loads(text, text)


def test_a_safetensors_file_may_have_any_16_or_32_bit_type(bench: Bench) -> None:
    write_safetensors(bench.adapter / "adapter_model.safetensors", bench.made.tensors, "BF16")
    assert bench.export().exists()
