"""Fiducials are spread over the part, and there are as many as it has places with structure."""

import cv2
import numpy as np

from calibration import fiducials


def test_many_equally_good_places_give_as_many_fiducials_spread_over_the_part() -> None:
    picture = np.zeros((400, 400, 3), np.uint8)
    for x in range(40, 400, 40):
        for y in range(40, 400, 40):
            cv2.rectangle(picture, (x, y), (x + 9, y + 14), (200, 200, 200), -1)
    found = fiducials.propose(picture, (20, 20, 360, 360), np.empty((0, 2)), 20.0)
    middles = np.array([(x + width / 2, y + height / 2) for x, y, width, height in found])
    assert len(found) == fiducials.MOST
    assert (np.ptp(middles, axis=0) > 200).all()


def board() -> np.ndarray:
    """Return lines that run on and repeat, with a pad of its own at three places."""
    picture = np.full((400, 400, 3), 255, np.uint8)
    picture[:, ::16], picture[:, 1::16], picture[:, 2::16] = 0, 0, 0
    for x, y in ((80, 90), (300, 110), (180, 310)):
        cv2.circle(picture, (x, y), 14, (0, 0, 0), -1)
    return picture


def test_on_a_board_only_places_that_nothing_near_is_like_are_fiducials() -> None:
    found = fiducials.propose_distinct(board(), (20, 20, 360, 360), 64)
    pads = np.array([(80, 90), (300, 110), (180, 310)])
    assert len(found) >= 3
    for x, y, width, height in found:
        inside = (pads > (x - 14, y - 14)) & (pads < (x + width + 14, y + height + 14))
        assert inside.all(axis=1).any(), "shows lines only: it fits at the next line too"


def test_lines_alone_give_no_distinct_place() -> None:
    lines = np.full((400, 400, 3), 255, np.uint8)
    lines[:, 96:160] = 0
    assert fiducials.propose_distinct(lines, (20, 20, 360, 360), 64) == []
