"""Runs side by side: what differs, and whether a difference is statistically significant."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np

from mnist_lit.config.options import comparable, is_compared
from mnist_lit.errors import UserError
from mnist_lit.evaluation.statistics import mcnemar_p, student_t
from mnist_lit.reports.leaderboard import GROUPS, build_leaderboard
from mnist_lit.reports.run_reader import Run, UnreadableRun


@dataclass(frozen=True)
class Pair:
    """Two runs, by their positions from 0. `only_first` and `only_second` count the test images that only this run
    classified correctly. `accuracy_difference` is positive if the first run is better."""

    first: int
    second: int
    only_first: int
    only_second: int
    accuracy_difference: float
    p: float


@dataclass(frozen=True)
class Comparison:
    """`options` maps the name of an option that differs to its value in each run. `seed_std` is the standard deviation
    of the test accuracy over the seeds of a configuration, None if no configuration has two seeds, and
    `degrees_of_freedom` belongs to it."""

    runs: tuple[Run, ...]
    options: dict[str, tuple[Any, ...]]
    pairs: tuple[Pair, ...]
    seed_std: float | None
    degrees_of_freedom: int

    def verdict(self, pair: Pair) -> str:
        if pair.p >= 0.05:
            return "The difference on these images is not significant (McNemar, p ≥ 0.05)."
        better = pair.first if pair.accuracy_difference > 0 else pair.second
        result = f"Run {better + 1} is better on these images (McNemar, p < 0.05)"
        if self.seed_std is None:
            return f"{result}. Run several seeds to see whether its configuration is better too."
        noise = student_t(self.degrees_of_freedom) * sqrt(2) * self.seed_std
        if abs(pair.accuracy_difference) <= noise:
            return f"{result}, but two seeds of one configuration can differ as much: the seed may be the reason."
        return f"{result}, and two seeds of one configuration differ less (95 %, Student's t)."


def compare_runs(runs: Sequence[Run], others: Iterable[Run] = ()) -> Comparison:
    """Two runs with each other, or of more runs the one with the best validation accuracy with each other one.

    `others` are more runs. Those that share a configuration with one of `runs` tell how much the seed changes.

    Raises:
        UserError: if a run is not completed or has no predictions, or if they were tested on different images.
    """
    for run in runs:
        if not run.completed:
            raise UserError(f"{run.folder}: its status is {run.result['status']}. Only completed runs can be compared")
    if len({run.folder.resolve() for run in runs}) < len(runs):
        raise UserError("a run is given twice; name each run once")
    try:
        predictions = [run.read_predictions() for run in runs]
    except UnreadableRun as error:
        raise UserError(f"no predictions to compare: {error}") from error
    labels = predictions[0]["label"]
    for run, found in zip(runs, predictions, strict=True):
        if not np.array_equal(found["label"], labels):
            raise UserError(f"{run.folder}: was not tested on the same images as {runs[0].folder}")
    correct = [found["prediction"] == labels for found in predictions]
    best = 0 if len(runs) == 2 else max(range(len(runs)), key=lambda index: runs[index].result["val_acc"])
    pairs = [_compare_pair(correct, best, other) for other in range(len(runs)) if other != best]
    seed_std, degrees_of_freedom = _estimate_seed_std(runs, others)
    return Comparison(tuple(runs), _find_differences(runs), _adjust_p(pairs), seed_std, degrees_of_freedom)


def _compare_pair(correct: Sequence[np.ndarray], first: int, second: int) -> Pair:
    only_first = int((correct[first] & ~correct[second]).sum())
    only_second = int((~correct[first] & correct[second]).sum())
    difference = float(correct[first].mean() - correct[second].mean())
    return Pair(first, second, only_first, only_second, difference, mcnemar_p(only_first, only_second))


def _adjust_p(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """Holm's correction (1979): with many comparisons one of them is small by chance."""
    adjusted: dict[Pair, Pair] = {}
    largest = 0.0
    for rank, pair in enumerate(sorted(pairs, key=lambda pair: pair.p)):
        largest = max(largest, min(1.0, pair.p * (len(pairs) - rank)))
        adjusted[pair] = replace(pair, p=largest)
    return tuple(adjusted[pair] for pair in pairs)


def _find_differences(runs: Sequence[Run]) -> dict[str, tuple[Any, ...]]:
    """The choices in config groups, and the options. A choice stands for the name or class in its group."""
    choices = {group: tuple(run.choices.get(group) for run in runs) for group in GROUPS}
    different: dict[str, tuple[Any, ...]] = {
        group: values for group, values in choices.items() if _differ(group, values)
    }
    explained = {f"{group}.{name}" for group in different for name in ("name", "_target_")}
    for option in dict.fromkeys(name for run in runs for name in run.options):
        values = tuple(run.options.get(option) for run in runs)
        if _differ(option, values) and option not in explained and is_compared(option):
            different[option] = values
    return different


def _differ(name: str, values: Sequence[Any]) -> bool:
    return len({comparable(name, value) for value in values}) > 1


def _estimate_seed_std(compared: Sequence[Run], others: Iterable[Run]) -> tuple[float | None, int]:
    """Pooled over the configurations, as far as they were run with several seeds; and its degrees of freedom."""
    runs = {run.folder.resolve(): run for run in (*others, *compared)}
    folders = {run.folder.resolve() for run in compared}
    variances, weights = [], []
    for row in build_leaderboard(runs.values()).rows:
        if row.n > 1 and folders & {run.folder.resolve() for run in row.runs}:
            variances.append(statistics.variance(row.values("test_acc")))
            weights.append(row.n - 1)
    if not weights:
        return None, 0
    return sqrt(sum(v * w for v, w in zip(variances, weights, strict=True)) / sum(weights)), sum(weights)
