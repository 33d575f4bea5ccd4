"""Which model judges changes only for one that was found better, in one step, written down, and can be taken back."""

import json
import shutil
from pathlib import Path

import pytest

from station.check import check
from station.errors import ConfigurationError
from station.finding import Finding, Level
from station.manifest import load_manifest
from station.model_orders import ways
from station.model_releases import Gate, changes, promote, releases, rollback, set_shadow, write_gate
from station.outputs.plc_orders import CommandCode, Refusal
from station.settings_file import load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return config.yaml of a station with two releases: `old` is active, `new` is another one."""
    for name in ("old", "new"):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        data = json.loads((ROOT / "models/pins-tiny/manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(data | {"name": name}))
        for file in ("text-F16.gguf", "mmproj-F16.gguf"):
            shutil.copyfile(ROOT / "models/pins-tiny" / file, folder / file)
    recipe = ROOT / "calibration/recipes/pins-27/recipe.yaml"
    path = tmp_path / "config.yaml"
    path.write_text(f"station:\n  name: test\nrecipe: {recipe}\n# kept\nmodel: models/old/manifest.json\n")
    return path


def manifest(config: Path, name: str) -> Path:
    return config.parent / "models" / name / "manifest.json"


def compared(config: Path, *, is_better: bool, active: str = "old") -> None:
    sha256 = [load_manifest(manifest(config, name)).ref.sha256 for name in ("new", active)]
    reasons = () if is_better else ("escapes: 1 of 9, the active release 0",)
    gate = Gate(sha256[0], sha256[1], "pins-27", "set", "0" * 64, is_better, reasons, "2026-01-01T00:00:00+00:00")
    write_gate(manifest(config, "new"), gate)


def active_name(config: Path) -> str:
    return load_settings(config).model.parent.name


def test_a_release_that_was_not_compared_or_is_not_better_is_refused(config: Path) -> None:
    with pytest.raises(ConfigurationError, match="was not compared"):
        promote(load_settings(config), manifest(config, "new"))
    compared(config, is_better=False)
    with pytest.raises(ConfigurationError, match="escapes: 1 of 9"):
        promote(load_settings(config), manifest(config, "new"))
    compared(config, is_better=True, active="new")
    with pytest.raises(ConfigurationError, match="another release"):
        promote(load_settings(config), manifest(config, "new"))
    assert active_name(config) == "old"
    assert changes(load_settings(config)) == []


def test_a_better_release_is_promoted_and_taken_back(config: Path) -> None:
    compared(config, is_better=True)
    before = config.read_bytes()
    promote(load_settings(config), manifest(config, "new"))
    assert active_name(config) == "new"
    assert "# kept\n" in config.read_text()
    assert [release.is_active for release in releases(load_settings(config))] == [True, False]
    rollback(load_settings(config))
    assert config.read_bytes() == before
    lines = changes(load_settings(config))
    assert [line.action for line in lines] == ["promote", "rollback"]
    assert lines[0].sha256 == lines[1].before_sha256 == load_manifest(manifest(config, "new")).ref.sha256


def test_a_damaged_release_is_not_promoted(config: Path) -> None:
    compared(config, is_better=True)
    file = manifest(config, "new").with_name("text-F16.gguf")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigurationError, match="not the exported file"):
        promote(load_settings(config), manifest(config, "new"))
    assert active_name(config) == "old"


def test_without_a_change_there_is_nothing_to_go_back_to(config: Path) -> None:
    with pytest.raises(ConfigurationError, match="no change led"):
        rollback(load_settings(config))


def test_a_journal_that_was_cut_off_is_read_as_far_as_it_goes(config: Path) -> None:
    compared(config, is_better=True)
    promote(load_settings(config), manifest(config, "new"))
    with (config.parent / "models.jsonl").open("ab") as journal:
        journal.write(b'{"at_utc":"20')
    assert len(changes(load_settings(config))) == 1
    rollback(load_settings(config))
    assert active_name(config) == "old"
    assert [line.action for line in changes(load_settings(config))] == ["promote", "rollback"]


def command(config: Path, code: CommandCode) -> Refusal | None:
    """Do what the PLC's command does."""
    return ways(config)[code]()


def test_the_plcs_commands_go_through_the_same_gate(config: Path) -> None:
    assert command(config, CommandCode.PROMOTE_MODEL) is Refusal.NO_BETTER_MODEL
    compared(config, is_better=False)
    assert command(config, CommandCode.PROMOTE_MODEL) is Refusal.NO_BETTER_MODEL
    assert command(config, CommandCode.ROLLBACK_MODEL) is Refusal.NO_EARLIER_MODEL
    assert (active_name(config), changes(load_settings(config))) == ("old", [])

    compared(config, is_better=True)
    assert command(config, CommandCode.PROMOTE_MODEL) is None
    assert active_name(config) == "new"
    assert command(config, CommandCode.ROLLBACK_MODEL) is None
    assert active_name(config) == "old"
    assert [(line.action, line.by) for line in changes(load_settings(config))] == [
        ("promote", "plc"),
        ("rollback", "plc"),
    ]


def test_the_plc_cannot_choose_among_several_or_take_a_damaged_one(config: Path) -> None:
    compared(config, is_better=True)
    shutil.copytree(manifest(config, "new").parent, manifest(config, "other").parent)
    assert command(config, CommandCode.PROMOTE_MODEL) is Refusal.SEVERAL_BETTER_MODELS
    shutil.rmtree(manifest(config, "other").parent)
    file = manifest(config, "new").with_name("mmproj-F16.gguf")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert command(config, CommandCode.PROMOTE_MODEL) is Refusal.MODEL_DAMAGED
    file.unlink()
    assert command(config, CommandCode.PROMOTE_MODEL) is Refusal.MODEL_DAMAGED
    assert active_name(config) == "old"


def test_where_the_worker_may_not_write_the_configuration_the_plc_changes_nothing(config: Path) -> None:
    compared(config, is_better=True)
    (config.parent / "models.jsonl").mkdir()  # nobody, not even root, can write a line there
    assert command(config, CommandCode.PROMOTE_MODEL) is Refusal.CONFIGURATION_NOT_WRITABLE
    assert active_name(config) == "old"
    config.write_text("station: [")
    assert command(config, CommandCode.PROMOTE_MODEL) is Refusal.CHANGE_FAILED


def test_a_shadow_is_named_in_the_configuration_and_taken_away(config: Path) -> None:
    set_shadow(load_settings(config), manifest(config, "new"))
    assert load_settings(config).shadow == manifest(config, "new")
    assert "# kept\nmodel: models/old/manifest.json\nshadow: models/new/manifest.json\n" in config.read_text()
    set_shadow(load_settings(config), None)
    assert load_settings(config).shadow is None
    assert active_name(config) == "old"


def test_a_shadow_must_be_another_release_and_whole_and_fit_into_memory(config: Path) -> None:
    before = config.read_text()
    with pytest.raises(ConfigurationError, match="is the active release"):
        set_shadow(load_settings(config), manifest(config, "old"))
    data = json.loads(manifest(config, "new").read_text())
    data["text"]["bytes"] = 2**50
    manifest(config, "new").write_text(json.dumps(data))
    with pytest.raises(ConfigurationError, match="MiB of memory"):
        set_shadow(load_settings(config), manifest(config, "new"))
    data["text"]["bytes"] = 1
    manifest(config, "new").write_text(json.dumps(data))
    with pytest.raises(ConfigurationError, match="not the exported file"):
        set_shadow(load_settings(config), manifest(config, "new"))
    assert config.read_text() == before


def test_the_check_warns_of_a_shadow_that_cannot_judge(config: Path) -> None:
    set_shadow(load_settings(config), manifest(config, "new"))
    assert shadow_finding(config).level is Level.OK
    manifest(config, "new").write_text("{")
    found = shadow_finding(config)
    assert (found.level, "not JSON" in found.found) == (Level.WARN, True)


def shadow_finding(config: Path) -> Finding:
    return next(finding for finding in check(config) if finding.what == "shadow")
