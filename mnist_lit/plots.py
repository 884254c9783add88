"""Drawings that both the dashboards and the reports use. Imports no torch."""

import numpy as np
from matplotlib.axes import Axes


def confusion_matrix(labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Counts [10, 10]: row the truth, column the prediction."""
    counts = np.zeros((10, 10), dtype=int)
    np.add.at(counts, (labels.astype(int), predictions.astype(int)), 1)
    return counts


def draw_confusion(axes: Axes, matrix: np.ndarray, fontsize: float = 8) -> None:
    """Colours show the mistakes alone; with the diagonal in, they would drown."""
    mistakes = matrix.astype(float)
    np.fill_diagonal(mistakes, 0)
    axes.imshow(mistakes, cmap="Reds", vmin=0, vmax=max(1.0, mistakes.max()))
    for truth, taken_for in zip(*matrix.nonzero(), strict=True):
        dark = truth != taken_for and mistakes[truth, taken_for] > 0.6 * mistakes.max()
        colour = "#888" if truth == taken_for else "white" if dark else "black"
        axes.text(taken_for, truth, matrix[truth, taken_for], ha="center", va="center", size=fontsize, color=colour)
    axes.set_xticks(range(10))
    axes.set_yticks(range(10))
    axes.tick_params(labelsize=fontsize, length=0)
    axes.grid(False)
    axes.set_xlabel("prediction", size=fontsize)
    axes.set_ylabel("truth", size=fontsize)
