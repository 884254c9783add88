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
            answer = _answer(reading)
            counts[label, 10 if answer is None else answer] += 1
        return counts


def evaluate_pictures(network: Network, folder: Path) -> Outcome:
    """Read every picture below a folder.

    Raises:
        UserError: if there are none, or one does not tell its label.
    """
    if not folder.is_dir():
        raise UserError(f"--pictures {folder}: there is no such folder")
    files = pictures_in([str(folder)])
    if files == [str(folder)]:
        raise UserError(f"--pictures {folder}: {NO_PICTURES}")
    labels = labels_of(files)
    return Outcome(list(read_pictures(network, files)), labels)


def labels_of(files: Sequence[str]) -> list[int]:
    """From the folder, if it is named by a digit, or else from the name, if it begins with one."""
    labels = []
    for file in map(Path, files):
        label = file.parent.name if file.parent.name in set("0123456789") else file.name[0]
        if label not in "0123456789":
            raise UserError(f"{file}: shows which digit? Its name should begin with it, or its folder be named by it")
        labels.append(int(label))
    return labels


def told(outcome: Outcome, folder: Path) -> str:
    total, wrong = len(outcome.labels), outcome.wrong
    low, high = wilson_interval(1 - len(wrong) / total, total)
    lines = [
        f"{folder}: {how_many(total, 'picture')}",
        f"accuracy   {1 - len(wrong) / total:.2%}  (95 % interval {low:.2%} to {high:.2%})",
        "",
        matrix(outcome.confusion),
    ]
    for reading, label in wrong:
        read = reading.digit is not None
        answer = "was taken for {} ({:.1%})".format(*reading.top[0]) if read else f"was not read: {reading.error}"
        lines.append(f"wrong: {reading.file}: {label} {answer}")
    return "\n".join(lines)


def _answer(reading: Reading) -> int | None:
    return None if reading.digit is None else reading.top[0][0]
