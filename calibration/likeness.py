"""How alike the places of a layout are, and where exactly each one is.

Spots alone do not tell where a field of pins begins: glitter and ribs are spots too. But pins of one line look alike,
with what surrounds them, and the next place beyond the line does not. A pin's exact place is where it looks most like
the others; the tip is where their mean has its spot, as glitter is not in the same place everywhere.
"""

import cv2
import numpy as np
import numpy.typing as npt

from station.capture.registration import peak_offset

REACH, ROOM = 0.36, 0.16
"""In pitches: half the side of what is compared, and how far a place may be off the lattice."""
ROUNDS, EXACT_ROUNDS = 2, 4
TIP_REACH, TIP_NEAR = 0.35, 0.3
"""In pitches: how far the tip may be off the lattice; how much a spot there counts less than one in the middle."""
LEAST_LINE = 4
"""Pins in a line from which its pins are compared with each other; of shorter lines all pins of the field are."""

Grey = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]


def evened(grey: Grey, pitch_px: float) -> Grey:
    """Return the picture with the same brightness and contrast everywhere, at the scale of a pitch."""
    mean = cv2.GaussianBlur(grey, (0, 0), pitch_px / 2)
    spread = np.sqrt(cv2.GaussianBlur((grey - mean) ** 2, (0, 0), pitch_px / 1.5))
    return np.asarray((grey - mean) / (spread + 1.0), np.float32)


def likeness(even: Grey, places: Points, down: Points, pitch_px: float) -> float:
    """Return how alike the places (rows, columns, 2) are: the worst quarter's mean correlation, less what is beyond.

    `even`: of `evened`. `down`: the step from a row to the next. About 0.6 on a field of real pins, 0.3 when it is
    set off by one row.
    """
    rows, columns = places.shape[:2]
    lines = [places[:, column] for column in range(columns)] if rows >= LEAST_LINE else [places.reshape(-1, 2)]
    scores, beyond = [], []
    for line in lines:
        found, typical = _alike(even, line, pitch_px)
        scores.append(found)
        if rows >= LEAST_LINE:
            beyond += [_best(_patch(even, place, pitch_px), typical)[0] for place in (line[0] - down, line[-1] + down)]
    every = np.sort(np.concatenate(scores))
    worst = float(every[: max(1, len(every) // 4)].mean())
    return worst - (0.25 * max(0.0, float(np.mean(beyond))) if beyond else 0.0)


def exact(even: Grey, response: Grey, places: Points, pitch_px: float) -> Points:
    """Return the places (rows, columns, 2) moved onto their tips; `response`: how much each pixel is a spot.

    Each column is a line of pins that look alike; lines shorter than LEAST_LINE are returned as they are.
    """
    if places.shape[0] < LEAST_LINE:
        return places
    lines = [_exact_line(even, response, places[:, column], pitch_px) for column in range(places.shape[1])]
    return np.stack(lines, axis=1)


def _exact_line(even: Grey, response: Grey, line: Points, pitch_px: float) -> Points:
    room, side = max(1, round(ROOM * pitch_px)), 2 * max(2, round(REACH * pitch_px)) + 1
    off = np.zeros_like(line)
    for _ in range(EXACT_ROUNDS):
        cut = [_unit(_square(even, place, side)) for place in line + off]
        total = np.sum(cut, axis=0, dtype=np.float32)
        off = np.array([_offset(_patch(even, place, pitch_px), np.asarray(total - own, np.float32), room)
                        for place, own in zip(line, cut, strict=True)])  # fmt: skip
        off -= np.median(off, axis=0)
    reach = max(2, round(TIP_REACH * pitch_px))
    spot = np.mean([_square(response, place, 2 * reach + 1) for place in line + off], axis=0)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    row, column = np.unravel_index(np.argmax(spot - TIP_NEAR * (x**2 + y**2) / reach**2), spot.shape)
    return np.asarray(line + off + (column - reach, row - reach))


def _offset(patch: Grey, typical: Grey, room: int) -> tuple[float, float]:
    """Return how far (x, y) the patch's best place is off its middle, within a fraction of a pixel."""
    scores = np.asarray(cv2.matchTemplate(patch, typical, cv2.TM_CCOEFF_NORMED), np.float32)
    _, _, _, (x, y) = cv2.minMaxLoc(np.where(np.isfinite(scores), scores, -1))
    return x + peak_offset(scores[y, :], int(x)) - room, y + peak_offset(scores[:, x], int(y)) - room


def most_like(grey: Grey, examples: Points, count: int, side_px: int) -> tuple[Points, npt.NDArray[np.float64]]:
    """Return `count` places (x, y), the examples first, then what is most like their mean; and all their scores.

    `side_px`: side of what is compared; found places are at least that far from each other.
    """
    even = evened(grey, float(side_px))
    typical = np.sum([_unit(_square(even, place, side_px | 1)) for place in examples], axis=0)
    scores = np.full(grey.shape, -1.0, np.float32)
    half = side_px // 2
    inside = cv2.matchTemplate(even, np.asarray(typical, np.float32), cv2.TM_CCOEFF_NORMED)
    scores[half : half + inside.shape[0], half : half + inside.shape[1]] = inside
    found = [tuple(place) for place in examples]
    marks = [float(scores[round(y), round(x)]) for x, y in found]
    for x, y in found:
        _blank(scores, x, y, side_px)
    while len(found) < count:
        row, column = np.unravel_index(int(np.argmax(scores)), scores.shape)
        place = (column + peak_offset(scores[row, :], int(column)), row + peak_offset(scores[:, column], int(row)))
        found.append(place)
        marks.append(float(scores[row, column]))
        _blank(scores, *place, side_px)
    return np.array(found, np.float64), np.array(marks)


def _blank(scores: Grey, x: float, y: float, side_px: int) -> None:
    row, column = round(y), round(x)
    scores[max(0, row - side_px) : row + side_px + 1, max(0, column - side_px) : column + side_px + 1] = -1


def _square(image: Grey, place: Points | tuple[float, float], side: int) -> Grey:
    at = (float(place[0]), float(place[1]))
    return np.asarray(cv2.getRectSubPix(np.asarray(image, np.float32), (side, side), at), np.float32)


def _alike(even: Grey, line: Points, pitch_px: float) -> tuple[npt.NDArray[np.float64], Grey]:
    """Return each place's correlation with the mean of the others, and the mean of all."""
    room = max(1, round(ROOM * pitch_px))
    wide = [_patch(even, place, pitch_px) for place in line]
    cut = [patch[room:-room, room:-room] for patch in wide]
    scores = np.zeros(len(line))
    for _ in range(ROUNDS):
        total = np.sum([_unit(patch) for patch in cut], axis=0, dtype=np.float32)
        for index, patch in enumerate(wide):
            scores[index], (x, y) = _best(patch, total - _unit(cut[index]))
            cut[index] = patch[y : y + cut[index].shape[0], x : x + cut[index].shape[1]]
    return scores, np.sum([_unit(patch) for patch in cut], axis=0, dtype=np.float32)


def _patch(even: Grey, place: Points, pitch_px: float) -> Grey:
    return _square(even, place, 2 * (max(2, round(REACH * pitch_px)) + max(1, round(ROOM * pitch_px))) + 1)


def _unit(patch: Grey) -> Grey:
    return np.asarray(patch / (float(np.linalg.norm(patch - patch.mean())) + 1e-6), np.float32)


def _best(patch: Grey, typical: Grey) -> tuple[float, tuple[int, int]]:
    scores = np.asarray(cv2.matchTemplate(patch, typical, cv2.TM_CCOEFF_NORMED), np.float32)
    _, score, _, (x, y) = cv2.minMaxLoc(np.where(np.isfinite(scores), scores, -1))
    return float(score), (int(x), int(y))
