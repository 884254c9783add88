"""A folder of pictures whose digits are known: how many a network reads right, and which it does not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnist_lit.digits.networks import Network
from mnist_lit.digits.read import NO_PICTURES, Reading, pictures_in, read_pictures
from mnist_lit.errors import UserError
from mnist_lit.reports.confusion import matrix
from mnist_lit.statistics import wilson_interval
from mnist_lit.words import how_many


@dataclass(frozen=True)
class Outcome:
    """`readings` are in the files' order, `labels` the digits that they show."""

    readings: list[Reading]
    labels: list[int]

    @property
    def wrong(self) -> list[tuple[Reading, int]]:
        """With the label; what cannot be read is wrong too."""
        return [(r, label) for r, label in zip(self.readings, self.labels, strict=True) if _answer(r) != label]

    @property
    def confusion(self) -> np.ndarray:
        """Counts [10, 11]: row the truth, column the answer, the last one for what could not be read."""
        counts = np.zeros((10, 11), dtype=int)
        for reading, label in zip(self.readings, self.labels, strict=True):
            read = reading.digit is not None
        answer = "was taken for {} ({:.1%})".format(*reading.top[0]) if read else f"was not read: {reading.error}"
        lines.append(f"wrong: {reading.file}: {label} {answer}")

    return "\n".join(lines)


def _answer(reading: Reading) -> int | None:
    return None if reading.digit is None else reading.top[0][0]
