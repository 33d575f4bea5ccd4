"""Every problem of a file people edit is found at once, with file, line, what is expected and a suggestion."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from station.errors import ConfigurationError
from station.settings import MAX_IPC_PATH_BYTES, is_of_this_machine
from station.settings_file import MAX_FILE_BYTES, load_settings, read_yaml

SMALLEST = "station: {name: line-1}\nrecipe: recipe.yaml\nmodel: manifest.json\n"


class Some(BaseModel):
    """A small file."""

    model_config = ConfigDict(extra="forbid")

    text: str = ""
    number: float = Field(default=1.0, ge=0, le=10)
    whole: int = 1
    flag: bool = True
    names: tuple[str, ...] = ()


def read(tmp_path: Path, text: str) -> Some:
    path = tmp_path / "some.yaml"
    path.write_text(text)
    return read_yaml(path, Some).value


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text)
    return [problem.removeprefix(f"{tmp_path}/some.yaml:") for problem in caught.value.problems]


def config_problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    return [problem.removeprefix(f"{tmp_path}/config.yaml:") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("written", "number"), [("1e-5", 1e-5), ("1E+0", 1.0), (".5", 0.5), ("5.", 5.0), ("+2", 2.0), ("-0", 0.0)]
)
def test_numbers_are_those_of_yaml_1_2(tmp_path: Path, written: str, number: float) -> None:
    assert read(tmp_path, f"number: {written}").number == number


@pytest.mark.parametrize("word", ["12:30", "1_000", "0x1F", "2024-01-31", "None", "e5"])
def test_what_yaml_1_1_took_for_numbers_and_dates_is_text(tmp_path: Path, word: str) -> None:
    assert read(tmp_path, f"text: {word}").text == word


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "y", "n", "Yes", "NO", "True", "FALSE"])
def test_a_bare_word_that_may_mean_a_boolean_is_refused(tmp_path: Path, word: str) -> None:
    assert problems(tmp_path, f"flag: {word}") == [f"1: flag: found {word}; write true or false."]
    (problem,) = problems(tmp_path, f"text: {word}")
    assert f'put it in quotes: "{word}"' in problem
    assert len(problems(tmp_path, f"names: [a, {word}]")) == 1
    assert problems(tmp_path, f"whole: {word}") == [f"1: whole: found {word}; expected a whole number (default 1)."]


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_quoted_word_is_text(tmp_path: Path, quote: str) -> None:
    assert read(tmp_path, f"text: {quote}no{quote}").text == "no"


@pytest.mark.parametrize("word", ["y", "n", "on"])
def test_a_word_may_be_the_name_of_a_key(tmp_path: Path, word: str) -> None:
    (problem,) = problems(tmp_path, f"{word}: 1")
    assert "unknown key" in problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('whole: "5"', "Write it without quotes."),
        ("text: 5", 'Put it in quotes: "5".'),
        ("whole: 1.0", "expected a whole number"),
        ("flag: 1", "expected true or false"),
        ("whole: true", "expected a whole number"),
        ("number: 11", "expected a number from 0 to 10 (default 1.0)"),
        ("number: .nan", "expected a number the station can count with"),
        ("number: -.inf", "expected a number the station can count with"),
        ("number: 1e999", "expected a number the station can count with"),
        ("whole: 007", 'write the number without leading zeros, or text in quotes: "007"'),
        (f"number: {'9' * 5000}", "expected a number the station can count with"),
        (f"whole: {'9' * 50}", "expected a whole number"),
        ("number:", "found nothing"),
        ("names: a", "expected a list"),
        ("names: {a: 1}", "found a section; expected a list"),
        ("nubmer: 1", 'Did you mean "number"? Known here: text, number, whole, flag, names.'),
        ("? [a, b]\n: 1", "a key must be one word"),
    ],
)
def test_a_problem_says_what_is_expected_and_suggests(tmp_path: Path, text: str, said: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert said in problem


def test_all_problems_are_said_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "whole: x\n\nflag: on\ntext: a\ntext: b\nnumber: 99\nwrong: 1\n"
    found = problems(tmp_path, text)
    assert [problem.split(": ")[:2] for problem in found] == [
        ["1", "whole"],
        ["3", "flag"],
        ["4", "text"],
        ["6", "number"],
        ["7", "wrong"],
    ]
    assert "written twice, in line 4 and in line 5" in found[2]


@pytest.mark.parametrize("text", ["a: &x 1\nb: 2", "a: 1\nb: *x", "a: !!python/object:os.system 1", "a: &x [*x]"])
def test_anchors_aliases_and_tags_are_refused(tmp_path: Path, text: str) -> None:
    assert all("is not allowed here" in problem for problem in problems(tmp_path, text))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"a:\n\tb: 1", ":2: not valid YAML: found character '\\t' that cannot start any token. Use spaces"),
        (b"a: [1", ":1: not valid YAML"),
        (b"a: 1\n---\nb: 1", ":2: not valid YAML"),
        (b"a: 1\nb: \xff", ":2: not UTF-8 text"),
        (b"a: \x00", ":1: not valid YAML"),
        (b"[" * 5000, ":1: nested deeper than 20 levels"),
        (b"x" * (MAX_FILE_BYTES + 1), ": larger than"),
        (b"", ":1: whole file: found nothing; expected a section with text"),
        (b"- a", ":1: whole file: found a list of 1; expected a section"),
    ],
)
def test_a_file_that_is_not_plain_yaml_is_refused_with_its_line(tmp_path: Path, raw: bytes, said: str) -> None:
    path = tmp_path / "some.yaml"
    path.write_bytes(raw)
    with pytest.raises(ConfigurationError) as caught:
        read_yaml(path, Some)
    assert f"some.yaml{said}" in caught.value.problems[0]


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load_settings(tmp_path / "nowhere.yaml")


def test_paths_are_resolved_against_the_folder_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yaml").write_text(SMALLEST + "capture: {spool: /elsewhere}\n")
    monkeypatch.chdir(tmp_path)
    settings = load_settings(Path("config.yaml"))
    assert settings.config_path == tmp_path / "config.yaml"
    assert settings.recipe == tmp_path / "recipe.yaml"
    assert settings.capture.hot_folder == tmp_path / "run/station/hot"
    assert settings.capture.spool == Path("/elsewhere")
    assert settings.queue.endpoint == f"ipc://{tmp_path}/run/station/jobs.ipc"
    assert settings.outputs.archive.folder == tmp_path / "run/station/archive"


def test_the_hash_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(SMALLEST)
    before = load_settings(path).config_sha256
    path.write_text(SMALLEST + "# more\n")
    assert load_settings(path).config_sha256 != before


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:5556", "tcp://192.168.0.5:5556", "tcp://[::]:5556"])
def test_an_endpoint_open_to_the_network_is_known_as_such(tmp_path: Path, endpoint: str) -> None:
    (tmp_path / "config.yaml").write_text(f'{SMALLEST}outputs: {{publisher: {{endpoint: "{endpoint}"}}}}')
    assert not is_of_this_machine(load_settings(tmp_path / "config.yaml").outputs.publisher.endpoint)


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1", "tcp://127.0.0.1:0", "tcp://127.0.0.1:70000", "udp://x:1"])
def test_an_endpoint_that_is_none_is_refused(tmp_path: Path, endpoint: str) -> None:
    (problem,) = config_problems(tmp_path, f'{SMALLEST}queue: {{endpoint: "{endpoint}"}}')
    assert "expected" in problem


def test_a_name_instead_of_an_address_is_refused(tmp_path: Path) -> None:
    (problem,) = config_problems(tmp_path, f'{SMALLEST}queue: {{endpoint: "tcp://localhost:5555"}}')
    assert "use 127.0.0.1" in problem


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:5558", "tcp://127.8.0.1:1", "tcp://[::1]:65535"])
def test_loopback_endpoints_are_accepted(tmp_path: Path, endpoint: str) -> None:
    (tmp_path / "config.yaml").write_text(f'{SMALLEST}queue: {{endpoint: "{endpoint}"}}')
    assert load_settings(tmp_path / "config.yaml").queue.endpoint == endpoint
    assert is_of_this_machine(endpoint)


def test_a_socket_path_longer_than_the_system_allows_is_refused_with_a_way_out(tmp_path: Path) -> None:
    (problem,) = config_problems(tmp_path, f"{SMALLEST}queue: {{endpoint: ipc://{'x' * MAX_IPC_PATH_BYTES}}}")
    assert problem.startswith("4: queue.endpoint: ")
    assert "tcp://127.0.0.1:5555" in problem


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ('outputs: {publisher: {endpoint: "tcp://127.0.0.1:5557"}}', "snapshot_endpoint", "publisher.endpoint"),
        ("outputs: {modbus_server: {port: 5556}}", "publisher.endpoint", "modbus_server.port"),
        ('outputs: {modbus_server: {port: 5557, host: "0.0.0.0"}}', "snapshot_endpoint", "modbus_server.port"),
        ('outputs: {modbus_server: {port: 5557, host: "::"}}', "snapshot_endpoint", "modbus_server.port"),
        ("queue: {endpoint: 'tcp://127.0.0.1:5020'}", "modbus_server.port", "queue.endpoint"),
    ],
)
def test_what_the_worker_listens_on_needs_ports_of_its_own(tmp_path: Path, text: str, first: str, second: str) -> None:
    (problem,) = config_problems(tmp_path, f"{SMALLEST}{text}")
    assert first in problem.partition(" is that of ")[0]
    assert second in problem.partition(" is that of ")[2]


@pytest.mark.parametrize(
    "text",
    [
        "outputs: {modbus_server: {port: 5556, enabled: false}}",
        "outputs: {modbus_server: {port: 5556}, publisher: {enabled: false}}",
        'outputs: {modbus_server: {port: 5556, host: "192.168.1.5"}}',
    ],
)
def test_the_same_port_is_fine_where_nothing_meets(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(SMALLEST + text)
    load_settings(tmp_path / "config.yaml")


def test_folders_must_stand_outside_each_other(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "config.yaml").read_text()
    for old, new in (
        ("hot_folder: run/station/hot", "hot_folder: run/station/spool"),
        ("folder: run/station/archive", "folder: run/station/hot/old"),
    ):
        path = tmp_path / "config.yaml"
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(ConfigurationError, match="needs a folder of its own"):
            load_settings(path)
