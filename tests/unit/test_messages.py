"""Acks say where a picture goes."""

import pytest

from station.messages import ack
from station.records import Failure, Reason


@pytest.mark.parametrize("reason", Reason)
def test_only_pictures_that_could_not_be_read_go_to_the_quarantine(reason: Reason) -> None:
    wanted = None
    if reason in {Reason.IMAGE_UNREADABLE, Reason.IMAGE_WRONG_SIZE}:
        wanted = Failure(reason=reason, detail="why")
    assert ack("a", reason, "why").unreadable == wanted
