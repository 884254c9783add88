"""Runs that differ in nothing but the seed become one row; each data set's rows are ranked by validation accuracy."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from math import sqrt
from typing import Any

from mnist_lit.reports.runs import Run
from mnist_lit.statistics import student_t, wilson_interval

NOT_THE_EXPERIMENT = (  # options that change where, how fast or how loudly a run works, not what it computes
    "seed", "data.root", "data.mirrors", "data.fallback", "data.fallback_reason", "trainer.steps_per_execution",
    "trainer.log_every_n_steps", "trainer.profiler", "checkpoint.every_seconds",
)  # fmt: skip
NOT_THE_EXPERIMENT_PREFIXES = ("logger.", "callbacks.", "reference.")
GROUPS = ("data", "model", "loss", "optimizer", "scheduler", "trainer")


@dataclass(frozen=True)
class Row:
    """All completed runs of one configuration. A seed that was run again counts once, as it was run last: the same
    number twice says nothing about the spread."""

    runs: tuple[Run, ...]

    @property
    def seeds(self) -> dict[int, Run]:
        return {run.result["seed"]: run for run in self.runs}

    @property
    def n(self) -> int:
        return len(self.seeds)

    def values(self, name: str) -> list[float]:
        return [float(run.result[name]) for run in self.seeds.values()]

    def mean(self, name: str) -> float:
        return statistics.fmean(self.values(name))

    def std(self, name: str) -> float | None:
        """Sample standard deviation over the seeds; None for a single run."""
        return statistics.stdev(self.values(name)) if self.n > 1 else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the test accuracy: Student's t over the seeds; of a single run, Wilson's over its images."""
        mean, std = self.mean("test_acc"), self.std("test_acc")
        if std is None:
            return wilson_interval(mean, self.runs[0].result["data"]["test_size"])
        half = student_t(self.n - 1) * std / sqrt(self.n)
        return max(0.0, mean - half), min(1.0, mean + half)

    @property
    def options(self) -> dict[str, Any]:
        return self.runs[0].options

    @property
    def data(self) -> str:
        return str(self.options.get("data.name"))

    @property
    def choices(self) -> dict[str, str]:
        return self.runs[0].choices

    @property
    def published(self) -> str | None:
        return self.options.get("reference.published")

    @property
    def reference(self) -> float | None:
        return self.options.get("reference.loop_acc")

    @property
    def command(self) -> str:
        return str(self.runs[0].result.get("command", ""))


@dataclass(frozen=True)
class Leaderboard:
    """`columns` are the options in which the rows differ: name → the value of a row. Rows of one data set stand
    together: accuracies on several do not compare."""

    rows: tuple[Row, ...]
    columns: dict[str, Callable[[Row], Any]]
    unfinished: tuple[Run, ...]
    problems: tuple[str, ...]

    @cached_property
    def usual(self) -> dict[str, Any]:
        """Of each column the value that more than half of the rows have, if there is one."""
        found = {}
        for name, value in self.columns.items():
            values = {repr(value(row)): value(row) for row in self.rows}
            commonest, count = Counter(repr(value(row)) for row in self.rows).most_common(1)[0]
            if 2 * count > len(self.rows):
                found[name] = values[commonest]
        return found

    @property
    def ranked(self) -> list[tuple[int, Row]]:
        """Each row after its rank among those of its data set, from 1."""
        ranks: dict[str, count[int]] = defaultdict(lambda: count(1))
        return [(next(ranks[row.data]), row) for row in self.rows]


def leaderboard(runs: Iterable[Run], problems: Sequence[str] = ()) -> Leaderboard:
    """Ranked by mean validation accuracy, because the test set chooses nothing."""
    groups: dict[str, list[Run]] = defaultdict(list)
    unfinished = []
    for run in runs:
        if run.completed:
            groups[_identity(run)].append(run)
        else:
            unfinished.append(run)
    rows = [Row(tuple(group)) for group in groups.values()]
    rows.sort(key=lambda row: (row.data, row.mean("val_acc")), reverse=True)  # mnist before digits, the best first
    return Leaderboard(tuple(rows), _columns(rows), tuple(unfinished), tuple(problems))


def _experiment(run: Run) -> dict[str, Any]:
    return {
        name: value
        for name, value in run.options.items()
        if name not in NOT_THE_EXPERIMENT and not name.startswith(NOT_THE_EXPERIMENT_PREFIXES)
    }


def _identity(run: Run) -> str:
    return repr([*sorted(_experiment(run).items()), run.choices.get("experiment")])


def _columns(rows: Sequence[Row]) -> dict[str, Callable[[Row], Any]]:
    """The preset where it varies; a config group's choice where the preset does not explain it; an option where
    neither does."""
    columns: dict[str, Callable[[Row], Any]] = {}

    def add(name: str, value: Callable[[Row], Any], *explained_by: str) -> None:
        seen: dict[tuple[str | None, ...], set[str]] = defaultdict(set)
        for row in rows:
            seen[tuple(row.choices.get(group) for group in explained_by)].add(repr(value(row)))
        if any(len(values) > 1 for values in seen.values()):
            columns[name] = value

    add("experiment", lambda row: row.choices.get("experiment"))
    for group in GROUPS:
        add(group, lambda row, group=group: row.choices.get(group), "experiment")  # type: ignore[misc]
    for name in dict.fromkeys(option for row in rows for option in _experiment(row.runs[0])):
        group = name.split(".")[0]
        add(name, lambda row, name=name: row.options.get(name), "experiment", group)  # type: ignore[misc]
    return columns
