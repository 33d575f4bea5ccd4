"""What the PLC writes: the control block as a record, and what changed from one write to the next. Pure: no I/O."""

from station.records import Record


class Control(Record, frozen=True):
    """The control block, decoded; the fields of `plc_map.CONTROL` in snake case."""

    trigger_enable: bool = False
    trigger: bool = False
    results_ack: bool = False
    buffer_results_enable: bool = False
    clear_fault: bool = False
    set_offline: bool = False
    execute_command: bool = False
    set_user_data: bool = False
    clear_exposure_complete: bool = False
    buffer_clear: bool = False
    plc_heartbeat: int = 0
    command_code: int = 0
    command_argument: int = 0
    trigger_id: int = 0
    inspect_window: int = 0
    """ms; 0: the station's own."""
    serial: str = ""


def rose(before: Control, after: Control, bit: str) -> bool:
    """Return True when this bit went from 0 to 1."""
    return bool(getattr(after, bit)) and not getattr(before, bit)


def fell(before: Control, after: Control, bit: str) -> bool:
    """Return True when this bit went from 1 to 0."""
    return rose(after, before, bit)
