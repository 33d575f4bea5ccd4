"""Every message between the OPC UA server and the worker, versioned. Pure.

The server is a DEALER that connects, the worker's link a ROUTER that binds. The server greets twice a second and says
whether it wants every picture to be a job; the worker answers with what it is and does. That is a level, not an order:
a restart of either side, or a lost message, is put right by the next greeting, and a server that is silent wants
nothing. Orders are `StartJob`, which is taken once, while it is fresh, and answered at once, and `PrepareRecipe`.
"""

from station.envelope import Envelope
from station.records import Record

VERSION = 1
MAX_MESSAGE_BYTES = 4096
GREET_EVERY_S = 0.5
SILENT_AFTER_S = 3.0
"""Neither side does anything for the other after so long a silence."""
FRESH_FOR_NS = 1_000_000_000
"""An order that is older when the worker sees it is dropped: whoever gave it has given up."""


class Greeting(Record, tag="greeting"):
    """Server -> worker, twice a second."""

    is_continuous: bool
    """Every picture is to be a job."""


class StartJob(Record, tag="start"):
    """Server -> worker: a part is in front of the camera, exactly one picture will follow."""

    request: int
    """Comes back in the answer."""
    serial: str
    measurement: str
    sent_ns: int
    """CLOCK_MONOTONIC of this machine."""


class PrepareRecipe(Record, tag="prepare"):
    """Server -> worker: put this recipe in force."""

    request: int
    recipe_sha256: str


class WorkerStatus(Record, tag="status"):
    """Worker -> server, answer to a greeting."""

    epoch: int
    is_ready: bool
    is_continuous: bool
    """Every picture is a job now."""
    recipe_sha256: str
    """The one in force."""
    config_sha256: str
    is_changing: bool
    """A change of the recipe that the server wanted is under way: not ready is no fault then."""


class JobTaken(Record, tag="taken"):
    """Worker -> server: the trigger is open; its verdict has this epoch and acquisition id."""

    request: int
    epoch: int
    acquisition_id: int


class JobRefused(Record, tag="refused"):
    """Worker -> server: no trigger was opened."""

    request: int
    why: str


class RecipeDone(Record, tag="recipe"):
    """Worker -> server: the recipe is in force, or it is not changed."""

    request: int
    succeeded: bool


class PictureCame(Record, tag="picture"):
    """Worker -> server: the picture of this trigger is complete."""

    epoch: int
    acquisition_id: int


class Mismatch(Record, tag="mismatch"):
    """Worker -> server: pictures and triggers do not match."""


Message = (
    Greeting | StartJob | PrepareRecipe | WorkerStatus | JobTaken | JobRefused | RecipeDone | PictureCame | Mismatch
)

_ENVELOPE: Envelope[Message] = Envelope(
    Message, VERSION, "between OPC UA server and worker", "Both must be of the same release: restart them."
)
encode, decode = _ENVELOPE.encode, _ENVELOPE.decode
