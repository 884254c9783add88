"""Connected regions and distances in a picture of two colours, in numpy alone."""

import numpy as np


def label_regions(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Regions of True in mask [h, w], corners count as touching → labels [h, w], 0 outside and 1 to n, and n.

    Works on the runs of each row: neighbouring runs are joined until nothing changes.
    """
    height, width = mask.shape
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    if not len(rows):
        return np.zeros(mask.shape, np.int32), 0
    line = width + 2
    first = np.searchsorted(rows * line + ends, (rows + 1) * line + starts)
    behind = np.searchsorted(rows * line + starts, (rows + 1) * line + ends, side="right")
    counts = np.maximum(behind - first, 0)
    above = np.repeat(np.arange(len(rows)), counts)
    below = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - first, counts)
    roots = _joined(len(rows), above, below)
    names = np.unique(roots, return_inverse=True)[1] + 1
    edges = np.zeros((height, width + 1), np.int32)
    edges[rows, starts] = names
    edges[rows, ends] -= names.astype(np.int32)
    return np.cumsum(edges, axis=1)[:, :width], int(names.max())


def _joined(size: int, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The smallest member of each one's group, when every pair (one[i], other[i]) is in the same group."""
    roots = np.arange(size)
    while True:
        least = np.minimum(roots[one], roots[other])
        before = roots.copy()
        np.minimum.at(roots, roots[one], least)
        np.minimum.at(roots, roots[other], least)
        roots = roots[roots]
        if np.array_equal(before, roots):
            return roots


def distance_to(mask: np.ndarray, reach: int) -> np.ndarray:
    """Euclidean distance [h, w] of each pixel to the nearest True, in pixels, `reach` at most."""
    squared = np.where(mask, 0.0, float(reach**2)).astype(np.float32)
    for _ in range(2):  # along the columns, then along the rows
        nearest = squared.copy()
        for step in range(1, reach):
            np.minimum(nearest[step:], squared[:-step] + step**2, out=nearest[step:])
            np.minimum(nearest[:-step], squared[step:] + step**2, out=nearest[:-step])
        squared = nearest.T
    return np.sqrt(squared)
