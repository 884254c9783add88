"""Two runs side by side: what differs, and whether the difference is more than chance."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from mnist_lit.errors import UserError
from mnist_lit.reports.leaderboard import leaderboard
from mnist_lit.reports.runs import Run, UnreadableRun
from mnist_lit.statistics import mcnemar_p, student_t


@dataclass(frozen=True)
class Comparison:
    """`only_first`, `only_second`: test images that one run alone classified right; `seed_std`: the spread that the
    seed makes by itself, over the runs of either configuration, None where no configuration has two seeds, and its
    degrees of freedom."""

    options: dict[str, tuple[Any, Any]]
    only_first: int
    only_second: int
    p: float
    accuracy_difference: float
    seed_std: float | None
    degrees_of_freedom: int

    @property
    def verdict(self) -> str:
        better = "first" if self.accuracy_difference > 0 else "second"
        if self.p >= 0.05:
            return "On these images the two cannot be told apart (McNemar, p ≥ 0.05)."
        sure = f"The {better} run is better on these images (McNemar, p < 0.05)"
        if self.seed_std is None:
            return f"{sure}; whether its configuration is, only several seeds can tell."
        chance = student_t(self.degrees_of_freedom) * sqrt(2) * self.seed_std
        if abs(self.accuracy_difference) <= chance:
            return f"{sure}, but two seeds of one configuration differ as much: this may be the seed's doing."
        return f"{sure}, by more than two seeds of one configuration differ (95 %, Student's t)."


def compare(first: Run, second: Run, others: Iterable[Run] = ()) -> Comparison:
    """`others` are runs to estimate the seeds' spread from: those that share a configuration with either run.

    Raises:
        UserError: if a run is not completed, kept no predictions, or the two were tested on different images.
    """
    for run in (first, second):
        if not run.completed:
            raise UserError(f"{run.folder} is not completed but {run.result['status']}: there is no test to compare")
    try:
        one, two = first.predictions(), second.predictions()
    except UnreadableRun as error:
        raise UserError(f"no predictions to compare: {error}") from error
    if not np.array_equal(one["label"], two["label"]):
        raise UserError("the two runs were not tested on the same images")
    right, also_right = one["prediction"] == one["label"], two["prediction"] == two["label"]
    only_first, only_second = int((right & ~also_right).sum()), int((~right & also_right).sum())
    names = dict.fromkeys((*first.options, *second.options))
    seed_std, degrees_of_freedom = _seed_std(first, second, others)
    return Comparison(
        options={
            name: (first.options.get(name), second.options.get(name))
            for name in names
            if first.options.get(name) != second.options.get(name)
        },
        only_first=only_first,
        only_second=only_second,
        p=mcnemar_p(only_first, only_second),
        accuracy_difference=float(right.mean() - also_right.mean()),
        seed_std=seed_std,
        degrees_of_freedom=degrees_of_freedom,
    )


def _seed_std(first: Run, second: Run, others: Iterable[Run]) -> tuple[float | None, int]:
    """Pooled over the two configurations, where they have been run with several seeds, and its degrees of freedom."""
    everything = {run.folder.resolve(): run for run in (*others, first, second)}
    mine = {first.folder.resolve(), second.folder.resolve()}
    variances, weights = [], []
    for row in leaderboard(everything.values()).rows:
        if row.n > 1 and mine & {run.folder.resolve() for run in row.runs}:
            variances.append(statistics.variance(row.values("test_acc")))
            weights.append(row.n - 1)
    if not weights:
        return None, 0
    return sqrt(sum(v * w for v, w in zip(variances, weights, strict=True)) / sum(weights)), sum(weights)
