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
