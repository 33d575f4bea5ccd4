"""What all verbs share: the application, its options and exit codes, reading the configuration, logging."""

import logging
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from station.settings import Settings

T = TypeVar("T")

FAILED = 1
WRONG_CONFIGURATION = 2
RESTART = 75
"""Of a service that wants to be started anew at once; sysexits.h: try again."""

app = typer.Typer(
    help="Edge inspection station: pictures of parts in, verdicts at the PLC and on ZeroMQ out.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The station's configuration.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
CONFIG = Path("config.yaml")


def settings_of(config: Path) -> "Settings":
    """Return the checked configuration. Raises ConfigurationError."""
    from station.settings_file import load_settings

    return load_settings(config)


def show(found: T, print_it: Callable[[T], None], *, as_json: bool) -> None:
    """Print what a verb found: as JSON for programs, else by `print_it` for people."""
    from station.json_text import as_text

    if as_json:
        typer.echo(as_text(found))
    else:
        print_it(found)


def stop_on_signal(*more: signal.Signals) -> threading.Event:
    """Return an event that SIGTERM (systemd), SIGINT (Ctrl-C) and `more` set.

    SIGHUP does nothing else: a changed configuration is checked first, see ExecReload in systemd/.
    """
    stop = threading.Event()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT, *more):
        signal.signal(number, lambda _number, _frame: stop.set())
    return stop


def start_log() -> None:
    """Log to stderr, not without end; under systemd without time, because journald adds its own."""
    from station.log_limit import LogLimit

    time = "%(asctime)s " if sys.stderr.isatty() else ""
    handler = logging.StreamHandler()
    handler.addFilter(LogLimit())
    logging.basicConfig(level=logging.INFO, format=f"{time}%(levelname)s %(name)s: %(message)s", handlers=[handler])


def quiet() -> None:
    """Keep libraries from talking between the lines: what matters is in the findings and errors."""
    logging.disable(logging.ERROR)


def numbers_of(text: str, option: str, separator: str = ",") -> list[int]:
    """Return whole numbers above 0 from a list as 1,4,9."""
    parts = text.split(separator)
    if not all(part.isascii() and part.isdigit() and 0 < int(part) < 100_000 for part in parts):
        raise typer.BadParameter(f"found {text!r}; expected whole numbers above 0, as 1{separator}4", param_hint=option)
    return [int(part) for part in parts]


def pair_of(text: str, option: str) -> tuple[int, int]:
    """Return the two whole numbers of a size as 256x256."""
    numbers = numbers_of(text, option, "x")
    if len(numbers) != 2:
        raise typer.BadParameter(f"found {text!r}; expected width x height, as 256x256", param_hint=option)
    return numbers[0], numbers[1]
