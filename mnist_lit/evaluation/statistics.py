"""What a test says: confidence intervals, a test of significance, and which classes are confused. Imports no torch.

`import scipy.stats` takes 0.4 s. So two formulas that are needed after each run and in each report do without it.
"""

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from mnist_lit import DIGITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # slow to import, and text does not need it


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """95 % confidence interval of a proportion `share` in n trials (Wilson 1927)."""
    z = 1.959964
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return center - half, center + half


def student_t(degrees_of_freedom: int) -> float:
    """Half the width of a 95 % interval, in standard errors (Student 1908)."""
    from scipy.special import stdtrit  # the function behind scipy.stats.t.ppf

    return float(stdtrit(degrees_of_freedom, 0.975))


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value for "both classifiers have the same error rate" (McNemar 1947, binomial form).

    The arguments count the images that only the first, or only the second, classified correctly.
    """
    from scipy.stats import binomtest

    discordant = only_first + only_second
    return float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Counts [10, 10]: rows are the true classes, columns the predictions."""
    return np.bincount(10 * labels.astype(int) + predictions, minlength=100).reshape(10, 10)


def format_confusion_matrix(counts: np.ndarray, classes: Sequence[str] = DIGITS) -> str:
    """Counts [10, 10] as lines of text. An eleventh column counts the images without an answer."""
    columns = [*(_shorten(name, 5) for name in classes), "none"][: counts.shape[1]]
    width = max(6, *(len(column) + 1 for column in columns))
    head = "truth \\ answer" + "".join(f"{column:>{width}}" for column in columns)
    rows = [
        f"{_shorten(name, 12):>14}" + "".join(f"{n or '·':>{width}}" for n in row)
        for name, row in zip(classes, counts, strict=True)
    ]
    return "\n".join([head, *rows])


def format_class_table(counts: np.ndarray, classes: Sequence[str] = DIGITS) -> str:
    """Recall, precision and F1 of each class, from counts [10, 10]."""
    names = [_shorten(name, 12) for name in classes]
    width = max(5, *map(len, names))
    lines = [f"{'digit' if tuple(classes) == DIGITS else 'class':>{width}}  images  recall  precision      F1"]
    for name, correct, images, predicted in zip(names, counts.diagonal(), counts.sum(1), counts.sum(0), strict=True):
        recall, precision = correct / max(1, images), correct / max(1, predicted)
        f1 = 2 * correct / max(1, images + predicted)
        lines.append(f"{name:>{width}}{images:>8,}{recall:>8.2%}{precision:>11.2%}{f1:>8.2%}")
    return "\n".join(lines)


def draw_confusion_matrix(
    axes: "Axes", counts: np.ndarray, classes: Sequence[str] = DIGITS, fontsize: float = 8
) -> None:
    """Only mistakes are colored. Next to the large numbers of the diagonal they would all look white."""
    mistakes = counts.astype(float)
    np.fill_diagonal(mistakes, 0)
    axes.imshow(mistakes, cmap="Reds", vmin=0, vmax=max(1.0, mistakes.max()))
    for truth, prediction in zip(*counts.nonzero(), strict=True):
        dark = truth != prediction and mistakes[truth, prediction] > 0.6 * mistakes.max()
        color = "#888" if truth == prediction else "white" if dark else "black"
        axes.text(prediction, truth, counts[truth, prediction], ha="center", va="center", size=fontsize, color=color)
    axes.set_xticks(range(10), classes, rotation=90 if max(map(len, classes)) > 3 else 0, parse_math=False)
    axes.set_yticks(range(10), classes, parse_math=False)
    axes.tick_params(labelsize=fontsize, length=0)
    axes.grid(False)
    axes.set_xlabel("prediction", size=fontsize)
    axes.set_ylabel("truth", size=fontsize)


def _shorten(name: str, length: int) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def ensemble_accuracy(probabilities: Sequence[np.ndarray], labels: np.ndarray) -> float:
    """The accuracy of several networks together: the mean of their probabilities, each [n, 10], decides."""
    return float((np.mean(probabilities, axis=0).argmax(1) == labels).mean())
