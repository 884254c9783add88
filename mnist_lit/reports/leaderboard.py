"""One row for all runs that differ only in the seed; one leaderboard for each sweep, presets, single runs."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from mnist_lit.commands import name_program
from mnist_lit.config.options import comparable, compared_options
from mnist_lit.errors import UserError
from mnist_lit.evaluation.statistics import ensemble_accuracy, student_t, wilson_interval
from mnist_lit.reports.run_reader import (
    RESULTS,
    Run,
    UnreadableRun,
    explain_unknown_name,
    find_candidates,
    find_value,
    read_search,
)
from mnist_lit.run_folder import SWEEP

GROUPS = ("data", "model", "loss", "optimizer", "scheduler", "trainer")
BEST_FIRST = "the best val_acc first"  # the order of the rows, unless the user wants another one
LARGEST_FIRST = ("val_acc", "test_acc", "train_samples_per_second")


@dataclass(frozen=True)
class Row:
    """All completed runs of one configuration. If a seed was run again, only its last run counts, because two equal
    results would make the variation look smaller."""

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
        """95 % confidence interval of the test accuracy: Student's t over the seeds. For a single run it is Wilson's
        interval over the test images."""
        mean, std = self.mean("test_acc"), self.std("test_acc")
        if std is None:
            return wilson_interval(mean, self.runs[0].result["data"]["test_size"])
        half = student_t(self.n - 1) * std / sqrt(self.n)
        return max(0.0, mean - half), min(1.0, mean + half)

    @cached_property
    def together(self) -> float | None:
        """The test accuracy of the networks of all seeds together; None for one seed, and without stored answers."""
        if self.n < 2:
            return None
        try:
            answers = [run.read_predictions() for run in self.seeds.values()]
        except UnreadableRun:
            return None
        labels = answers[0]["label"]
        if not all("probabilities" in it and np.array_equal(it["label"], labels) for it in answers):
            return None
        return ensemble_accuracy([it["probabilities"] for it in answers], labels)

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
    def tags(self) -> list[str]:
        return list(dict.fromkeys(tag for run in self.seeds.values() for tag in run.tags))

    @property
    def published(self) -> str | None:
        return self.options.get("reference.published") if self.runs[0].is_preset else None

    @property
    def reference(self) -> float | None:
        return self.options.get("reference.loop_acc") if self.runs[0].is_preset else None

    @property
    def command(self) -> str:
        return str(self.runs[0].result.get("command", ""))


@dataclass(frozen=True)
class Leaderboard:
    """The runs of one group on one data set, the best row first. `columns` maps the name of each option in which rows
    differ to a function that gives its value in a row. `sweep` is the folder of the grid or search, and `search` is the
    record of the search's trials."""

    title: str
    rows: tuple[Row, ...]
    columns: dict[str, Callable[[Row], Any]]
    unfinished: tuple[Run, ...]
    sweep: Path | None = None
    search: dict[str, Any] | None = None
    order: str = BEST_FIRST

    @cached_property
    def usual(self) -> dict[str, Any]:
        """The value that more than half of the rows have, for each column with such a value."""
        usual: dict[str, Any] = {}
        for name, value in self.columns.items():
            values = [value(row) for row in self.rows]
            counts = Counter(comparable(name, it) for it in values)
            for it in values:
                if 2 * counts[comparable(name, it)] > len(values):
                    usual[name] = it
        return usual

    @cached_property
    def headings(self) -> dict[str, str]:
        """The short name of each column, `lr` for `optimizer.lr`, as far as no other column has the same one."""
        short = {name: name.rpartition(".")[2] for name in self.columns}
        counts = Counter(short.values())
        return {name: short[name] if counts[short[name]] == 1 and short[name] != "_target_" else name for name in short}

    @property
    def runs(self) -> list[Run]:
        return [*(run for row in self.rows for run in row.seeds.values()), *self.unfinished]

    @property
    def lesson(self) -> dict[str, str]:
        """The words of the lesson: `shows`, `point` and perhaps `try_next`. Empty if the runs belong to none."""
        found = next((run.options for run in self.runs if "lesson.point" in run.options), {})
        words = {name: found.get(f"lesson.{name}") for name in ("shows", "point", "try_next")}
        return {name: name_program(str(text)) for name, text in words.items() if text}


def build_leaderboard(runs: Iterable[Run], title: str = "", sweep: Path | None = None) -> Leaderboard:
    """Rank by mean validation accuracy: the test set must not choose between configurations."""
    groups: dict[str, list[Run]] = defaultdict(list)
    unfinished = []
    for run in runs:
        if run.completed:
            groups[_configuration(run)].append(run)
        else:
            unfinished.append(run)
    rows = [Row(tuple(group)) for group in groups.values()]
    rows.sort(key=lambda row: row.mean("val_acc"), reverse=True)
    search = read_search(sweep) if sweep else None
    others = [Row((run,)) for run in unfinished if run.options] if sweep else []  # jobs that failed differ, too
    return Leaderboard(title, tuple(rows), _find_columns([*rows, *others]), tuple(unfinished), sweep, search)


def build_leaderboards(runs: Sequence[Run]) -> list[Leaderboard]:
    """A leaderboard for each sweep, one for presets and one for single runs; the one with the newest run first.

    Accuracies on different data sets cannot be compared, and neither can those of runs that were limited to some of
    the images. So these have leaderboards of their own.
    """
    groups: dict[tuple[str, Path | None, str, bool], list[Run]] = defaultdict(list)
    sweeps = {run.sweep: run for run in runs if run.options}
    for run in sorted(runs, key=lambda run: run.started):
        sweep = run.sweep
        known = run if run.options else sweeps.get(sweep, run)  # a run that failed early has no config
        kind = _sweep_kind(known, sweep) if sweep else "Presets" if run.choices.get("experiment") else "Single runs"
        groups[kind, sweep, str(known.options.get("data.name", "no data")), bool(known.limited)].append(run)
    return [
        build_leaderboard(members, _title(kind, sweep, data, limited), sweep)
        for (kind, sweep, data, limited), members in sorted(
            groups.items(), key=lambda item: (not item[0][3], item[1][-1].started), reverse=True
        )
    ]


def _sweep_kind(run: Run, sweep: Path) -> str:
    if lesson := run.choices.get("sweep"):
        return f"sweep={lesson}"
    record = (sweep / SWEEP).read_text(encoding="utf-8")
    return "Search" if record.startswith("search") else "Grid"


def _title(kind: str, sweep: Path | None, data: str, limited: bool) -> str:
    name = f"{kind} {sweep.name}" if sweep else kind
    return f"{name} on {data}{', limited to a part of the images' if limited else ''}"


def sort_rows(boards: Sequence[Leaderboard], name: str) -> list[Leaderboard]:
    """The rows by a result or an option: the best result first, options in ascending order, rows without it last.

    Raises:
        UserError: if no row has it.
    """
    runs = [row.runs[0] for board in boards for row in board.rows]
    if runs and not any(find_candidates(run, name) for run in runs):
        raise UserError(f"--sort {name}: {explain_unknown_name(runs, name)}")

    def key(row: Row) -> tuple[bool, float, str]:
        if name in RESULTS:
            return False, row.mean(name) * (-1 if name in LARGEST_FIRST else 1), ""
        value = find_value(row.runs[0], name, "--sort")
        is_number = isinstance(value, int | float)
        return not is_number, float(value) if is_number else 0.0, str(value)

    return [replace(board, rows=tuple(sorted(board.rows, key=key)), order=f"sorted by {name}") for board in boards]


def _configuration(run: Run) -> str:
    """Equal for runs that belong in one row."""
    options = [(name, comparable(name, value)) for name, value in sorted(_options_but_seed(run).items())]
    return repr([*options, run.choices.get("experiment")])


def _options_but_seed(run: Run) -> dict[str, Any]:
    return {name: value for name, value in compared_options(run.options).items() if name != "seed"}


def _find_columns(rows: Sequence[Row]) -> dict[str, Callable[[Row], Any]]:
    """The preset, the choices in config groups, and the options in which rows differ.

    A preset explains choices and options, and a choice explains the options of its group. So a choice is a column only
    if rows of one preset differ in it, and an option only if rows of one preset and one choice differ in it.
    """
    columns: dict[str, Callable[[Row], Any]] = {}

    def add(name: str, value: Callable[[Row], Any], *explained_by: str) -> None:
        values: dict[tuple[str | None, ...], set[str]] = defaultdict(set)
        for row in rows:
            values[tuple(row.choices.get(group) for group in explained_by)].add(comparable(name, value(row)))
        if any(len(different) > 1 for different in values.values()):
            columns[name] = value

    add("experiment", lambda row: row.choices.get("experiment"))
    for group in GROUPS:
        add(group, lambda row, group=group: row.choices.get(group), "experiment")  # type: ignore[misc]
    for name in dict.fromkeys(option for row in rows for option in _options_but_seed(row.runs[0])):
        group = name.split(".")[0]
        add(name, lambda row, name=name: row.options.get(name), "experiment", group)  # type: ignore[misc]
    return columns or {"model": lambda row: row.choices.get("model")}
