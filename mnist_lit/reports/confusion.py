"""A confusion matrix as text. Imports no torch."""

import numpy as np


def matrix(counts: np.ndarray) -> str:
    """Counts [10, 10 or 11] as lines: row the truth, column the answer."""
    columns = [*map(str, range(10)), "unread"][: counts.shape[1]]
    width = max(6, *(len(column) + 2 for column in columns))
    head = "truth \\ answer" + "".join(f"{column:>{width}}" for column in columns)
    rows = [f"{digit:>14}" + "".join(f"{n or '·':>{width}}" for n in row) for digit, row in enumerate(counts)]
    return "\n".join([head, *rows])


def per_class(confusion: np.ndarray) -> str:
    """Counts [10, 10] as lines: of each digit's images how many were found, of those called so how many were."""
    lines = ["digit  images  recall  precision      F1"]
    for digit, (right, images, called) in enumerate(
        zip(confusion.diagonal(), confusion.sum(1), confusion.sum(0), strict=True)
    ):
        recall, precision = right / max(1, images), right / max(1, called)
        lines.append(
            f"{digit:>5}{images:>8,}{recall:>8.2%}{precision:>11.2%}{2 * right / max(1, images + called):>8.2%}"
        )
    return "\n".join(lines)
