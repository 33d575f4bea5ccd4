"""What the PLC's commands 8 and 9 do: `station model promote | rollback`, through the same gate.

In: the path of config.yaml, read anew each time. Out: None, or why not as the code that the PLC sees; the log says the
rest. Promoted is the one release that was measured as better than the active one: a PLC cannot say which.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from station.errors import StationError
from station.model_releases import Change, Hindrance, ReleaseError, better_release, promote, rollback
from station.outputs.plc_orders import CommandCode, Refusal
from station.settings import Settings
from station.settings_file import load_settings
from station.worker.model_change import Way

logger = logging.getLogger(__name__)

BY = "plc"
"""Who did it, in models.jsonl."""

_REFUSALS = {
    Hindrance.NOT_BETTER: Refusal.NO_BETTER_MODEL,
    Hindrance.SEVERAL: Refusal.SEVERAL_BETTER_MODELS,
    Hindrance.NOTHING_BEFORE: Refusal.NO_EARLIER_MODEL,
    Hindrance.DAMAGED: Refusal.MODEL_DAMAGED,
    Hindrance.NOT_WRITABLE: Refusal.CONFIGURATION_NOT_WRITABLE,
}


def ways(config: Path) -> Mapping[CommandCode, Way]:
    """Return what each command does."""
    return {
        CommandCode.PROMOTE_MODEL: partial(_change, config, _promote),
        CommandCode.ROLLBACK_MODEL: partial(_change, config, partial(rollback, by=BY)),
    }


def _promote(settings: Settings) -> Change:
    return promote(settings, better_release(settings), by=BY)


def _change(config: Path, way: Callable[[Settings], Change]) -> Refusal | None:
    try:
        change = way(load_settings(config))
    except StationError as error:
        refusal = _REFUSALS[error.hindrance] if isinstance(error, ReleaseError) else Refusal.CHANGE_FAILED
        logger.warning("The PLC's change of the model was refused (WarningCode %d): %s", refusal, error)
        return refusal
    logger.warning("The PLC made %s the active release; before: %s.", change.manifest, change.before)
    return None
