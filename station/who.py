"""Who gave an order at this machine, for the records: overrides, certificates, changes of the model."""

import getpass
import os


def who() -> str:
    """Return the person's login name, also behind sudo; their number where the system knows no name."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # KeyError until Python 3.12
        return str(os.getuid())
