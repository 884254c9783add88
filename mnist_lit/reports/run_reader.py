"""Read runs and searches back from their folders, and select runs. Imports neither torch nor Optuna."""

import csv
import json
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mnist_lit import DIGITS
from mnist_lit.config.options import flatten, is_compared
from mnist_lit.errors import UserError
from mnist_lit.run_folder import CONFIG, DAMAGED, METRICS, PREDICTIONS, RESULT, SWEEP, UNFINISHED, find_old_format

STUDY = "study.json"  # in the folder of a search
RESULTS = ("val_acc", "test_acc", "test_loss", "params", "fit_seconds", "train_samples_per_second")
COMPARISONS = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge,
}  # fmt: skip


class UnreadableRun(UserError):
    """A folder looks like a run's but cannot be read. The message names the file and the reason."""


@dataclass(frozen=True)
class Run:
    """`result` is the content of result.json. `options` is the config with flat names: `optimizer.lr` → 0.001."""

    folder: Path
    result: dict[str, Any]
    options: dict[str, Any]

    def __repr__(self) -> str:
        accuracy = f", test_acc {self.result['test_acc']:.2%}" if "test_acc" in self.result else ""
        return f"Run({self.folder}: {self.result.get('status')}{accuracy})"

    @property
    def completed(self) -> bool:
        return bool(self.result["status"] == "completed")

    @property
    def choices(self) -> dict[str, str]:
        """What was chosen in each config group: `optimizer` → `adam`."""
        return dict(self.result.get("choices") or {})

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the ten classes. Runs that did not record them were trained on digits."""
        classes = self.options.get("data.classes")
        return tuple(map(str, classes)) if isinstance(classes, list) and len(classes) == 10 else DIGITS

    @property
    def sweep(self) -> Path | None:
        """The folder of the grid or search that the run belongs to."""
        return next((parent for parent in self.folder.parents if (parent / SWEEP).exists()), None)

    @property
    def number(self) -> int | None:
        """The number of the job or trial, with which the folder's name begins."""
        number = self.folder.name.partition("_")[0]
        return int(number) if self.sweep and number.isdecimal() else None

    @property
    def started(self) -> float:
        """Seconds since 1970. Of a run that did not record it, it is when the run was last heard of."""
        try:
            return datetime.fromisoformat(str(self.result.get("started"))).timestamp()
        except ValueError:
            return (self.folder / RESULT).stat().st_mtime

    @property
    def limited(self) -> dict[str, Any]:
        """The `trainer.limit_…` options of a run that did not use all images."""
        return dict(self.result.get("limited") or {})

    @property
    def is_preset(self) -> bool:
        """Whether it is a preset on MNIST without a change, so that the figures of its article are about it."""
        given = {text.lstrip("+~").partition("=")[0] for text in self.result.get("overrides") or ()}
        changed = {name for name in given - {"experiment", "seed", "trainer"} if is_compared(name)}
        return self.options.get("data.name") == "mnist" and not changed

    @property
    def tags(self) -> list[str]:
        return [str(tag) for tag in self.result.get("tags") or ()]

    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        """(step, value) of each metric that was logged; nothing if the file is missing or damaged."""
        curves: dict[str, list[tuple[int, float]]] = defaultdict(list)
        try:
            with (self.folder / METRICS).open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    for name, value in row.items():
                        if value and name != "step" and isfinite(float(value)):
                            curves[name].append((int(row["step"]), float(value)))
        except (OSError, ValueError, KeyError, TypeError, csv.Error):
            return {}
        return dict(curves)

    def read_predictions(self) -> dict[str, np.ndarray]:
        """`label`, `prediction`, `confidence`, each [n], and `probabilities` [n, 10], in the order of the test set.
        Runs of earlier versions have no `probabilities`.

        Raises:
            UnreadableRun: if the run has no file of predictions, or a damaged one.
        """
        path = self.folder / PREDICTIONS
        try:
            with np.load(path, allow_pickle=False) as file:
                required = ("label", "prediction", "confidence")
                return {name: file[name] for name in (*required, *(set(file.files) & {"probabilities"}))}
        except DAMAGED as error:
            raise UnreadableRun(f"{path}: {error}") from error


def find_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """All runs below a folder, the newest last, and one line for each folder that cannot be read."""
    runs, problems = [], []
    for path in sorted(folder.rglob(RESULT), key=lambda path: (path.stat().st_mtime, path)):
        try:
            runs.append(read_run(path.parent))
        except UnreadableRun as problem:
            problems.append(str(problem))
    return runs, problems


def read_run(folder: Path) -> Run:
    """Raises UnreadableRun, which names the file, if a file is missing or incomplete, or does not come from a run."""
    result = _read_mapping(folder / RESULT, json.loads)
    if result.get("status") in UNFINISHED and not (folder / CONFIG).exists():
        return Run(folder, result, {})  # it failed before it could write its config
    config = _read_mapping(folder / CONFIG, _load_yaml)
    if problem := _find_problem(result):
        raise UnreadableRun(f"{folder / RESULT}: {problem}")
    if reason := find_old_format(folder, config):
        raise UnreadableRun(reason)
    options = flatten(config)
    if "precision" in result:
        options["trainer.precision"] = result["precision"]  # `auto` is not the same on all machines
    return Run(folder, result, options)


def read_search(folder: Path) -> dict[str, Any] | None:
    """The record of the search in a folder; None if there is none that can be read."""
    try:
        search = json.loads((folder / STUDY).read_text(encoding="utf-8"))
        _ = [search[key] for key in ("objectives", "importances", "trials")]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(search)


def filter_runs(runs: Iterable[Run], conditions: Iterable[str]) -> list[Run]:
    """The runs that meet all conditions: `model=cnn`, `lr<0.1`, `val_acc>=0.98`, `tags=lecture`, `status!=failed`.

    Raises:
        UserError: if a condition cannot be read, or if no run has what it names.
    """
    kept = list(runs)
    for condition in conditions:
        match = re.fullmatch(r"\s*([\w.]+)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*", condition)
        if not match:
            raise UserError(f"--filter {condition}: should be NAME=VALUE, with =, !=, <, >, <= or >=: model=cnn")
        name, sign, text = match.groups()
        known = [run for run in kept if find_candidates(run, name)]
        if kept and not known:
            raise UserError(f"--filter {condition}: {explain_unknown_name(kept, name)}")
        kept = [run for run in known if _is_met(find_value(run, name, "--filter"), sign, text)]
    return kept


def _is_met(value: Any, sign: str, text: str) -> bool:
    if isinstance(value, list) and sign in ("=", "!=") and not text.startswith("["):  # tags
        return (text in map(str, value)) == (sign == "=")
    try:
        wanted: Any = yaml.safe_load(text)
        if isinstance(value, int | float) and not isinstance(value, bool):
            wanted = float(text)  # YAML reads 1e-3 as text
        elif isinstance(value, str) and isinstance(wanted, date):
            wanted = text  # and 2026-11-20 as a date
        return bool(COMPARISONS[sign](value, wanted)) or (sign == "=" and str(value) == text)
    except (TypeError, ValueError, yaml.YAMLError):
        return sign == "!="


def find_value(run: Run, name: str, option: str) -> Any:
    """What the run has of this name: a result, a choice in a config group, or an option, also without its section.
    None if it has nothing of this name.

    Raises:
        UserError: if it has options of this name in several sections.
    """
    found = find_candidates(run, name)
    if len(found) > 1:
        raise UserError(f"{option} {name}: is one of {', '.join(found)}; write the whole name")
    return next(iter(found.values()), None)


def find_candidates(run: Run, name: str) -> dict[str, Any]:
    """Whole name → value. A name without its section can stand for options of several sections."""
    for values in (run.result | {"tags": run.tags}, run.choices, run.options):
        if name in values and not isinstance(values[name], dict):
            return {name: values[name]}
    return {key: value for key, value in run.options.items() if key.endswith(f".{name}")}


def explain_unknown_name(runs: Sequence[Run], name: str) -> str:
    known = list(dict.fromkeys(key for run in runs for key in (*RESULTS, "status", "tags", *run.choices, *run.options)))
    near = get_close_matches(name, [*known, *(key.rpartition(".")[2] for key in known)], n=1)
    hint = f"did you mean {near[0]}?" if near else "for example model, optimizer.lr or val_acc"
    return f"no run has {name}; {hint}"


def parse_since(text: str) -> float:
    """`3d`, `12h`, `2026-11-20` or `2026-11-20T14:30` as seconds since 1970. Raises UserError if it is none of them."""
    try:
        if match := re.fullmatch(r"(\d+)([dh])", text):
            hours = int(match[1]) * (24 if match[2] == "d" else 1)
            return (datetime.now() - timedelta(hours=hours)).timestamp()
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise UserError(f"--since {text}: should be like 3d, 12h, 2026-11-20 or 2026-11-20T14:30") from None


def _find_problem(result: dict[str, Any]) -> str | None:
    status = result.get("status")
    if status not in ("completed", *UNFINISHED):
        return f"status is {status!r}, so this is not the result of a run"
    if status != "completed":
        return None
    if wrong := [name for name in (*RESULTS, "seed") if not isinstance(result.get(name), int | float)]:
        return f"{', '.join(wrong)} should be a number"
    if not isinstance(result.get("data"), dict) or not isinstance(result["data"].get("test_size"), int):
        return "data.test_size should be a number"
    if not all(isinstance(result.get(name), int) for name in ("global_step", "epochs")):
        return "global_step and epochs should be numbers"
    return None


def _read_mapping(path: Path, load: Callable[[str], Any]) -> dict[str, Any]:
    try:
        content = load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UnreadableRun(f"{path}: {reason}") from error
    if not isinstance(content, dict):
        raise UnreadableRun(f"{path}: should hold a mapping of names to values")
    return content


def _load_yaml(text: str) -> Any:
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
