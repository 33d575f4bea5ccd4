"""The command line: each verb is in `verbs/`, which imports what it needs when it is used, so that --help is quick.

Exit codes: 0 done, 1 failed while running, 2 bad configuration or arguments, 75 a service that wants to start anew.
Data goes to stdout, messages to stderr.
An error the station raises on purpose is printed as text, never as a traceback.
"""

import errno
import signal
import sys

import typer

from station.errors import ConfigurationError, RestartError, StationError

# isort: off
# Each registers its verbs; --help lists them in this order.
from station.verbs import services, looking, measuring, calibrating, learning, plc  # noqa: F401

# isort: on
from station.verbs.shared import FAILED, RESTART, WRONG_CONFIGURATION, app

__all__ = ["app", "main"]


def main() -> int:
    """Run the command line and return the exit code."""
    try:
        app()
    except ConfigurationError as error:
        _say(error)
        is_disk_fault = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EIO
        return FAILED if is_disk_fault else WRONG_CONFIGURATION  # systemd tries again what may pass by itself
    except StationError as error:
        _say(error)
        return RESTART if isinstance(error, RestartError) else FAILED
    except BrokenPipeError:
        # The reader of stdout, as `head`, has what it wanted. Nothing may be written at exit either.
        sys.stdout = None
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _say(error: StationError) -> None:
    for line in (error.message, error.hint):
        if line:
            typer.echo(line, err=True)


if __name__ == "__main__":
    sys.exit(main())
