"""Finished runs read back from their folders. Imports no torch."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

UNFINISHED = ("failed", "interrupted", "running", "pruned")
MEASURED = ("test_acc", "test_loss", "val_acc", "params", "fit_seconds", "train_samples_per_second", "seed")


class UnreadableRun(Exception):
    """A folder that looks like a run but cannot be read; the message says which file and why."""


@dataclass(frozen=True)
class Run:
    """`options` is the config, flattened: `optimizer.lr` → 0.001."""

    folder: Path
    result: dict[str, Any]
    options: dict[str, Any]

    @property
    def completed(self) -> bool:
        return bool(self.result["status"] == "completed")

    @property
    def choices(self) -> dict[str, str]:
        return dict(self.result.get("choices") or {})

    def curve(self, metric: str) -> tuple[list[float], list[float]]:
        """(epochs, values) of a metric in metrics.csv; two empty lists if it was not logged."""
        steps, values = [], []
        try:
            with (self.folder / "metrics.csv").open(newline="") as stream:
                for row in csv.DictReader(stream):
                    if row.get(metric):
                        steps.append(float(row["step"]))
                        values.append(float(row[metric]))
        except (OSError, ValueError, KeyError, csv.Error):
            return [], []
        steps_per_epoch = self.result["global_step"] / max(1, self.result["epochs"])
        return [step / steps_per_epoch for step in steps], values

    def predictions(self) -> dict[str, np.ndarray]:
        """`label`, `prediction`, `confidence`, each [n], of the test images in their order.

        Raises:
            UnreadableRun: if the run kept none.
        """
        path = self.folder / "test_predictions.npz"
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in ("label", "prediction", "confidence")}
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise UnreadableRun(f"{path}: {error}") from error


def find_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """All runs below a folder, the latest last, and a line for each that could not be read."""
    runs, problems = [], []
    for path in sorted(folder.rglob("result.json"), key=lambda path: (path.stat().st_mtime, path)):
        try:
            runs.append(read_run(path.parent))
        except UnreadableRun as problem:
            problems.append(str(problem))
    return runs, problems


def read_run(folder: Path) -> Run:
    """Raises UnreadableRun, naming the file, if one is missing, half-written or not a run's."""
    result = _mapping(folder / "result.json", json.loads)
    config = _mapping(folder / "config.yaml", _load_yaml)
    status = result.get("status")
    if status not in ("completed", *UNFINISHED):
        raise UnreadableRun(f"{folder / 'result.json'}: status is {status!r}, so this is not a run's result")
    if status == "completed":
        wrong = [name for name in MEASURED if not isinstance(result.get(name), int | float)]
        if wrong:
            raise UnreadableRun(f"{folder / 'result.json'}: {', '.join(wrong)} should be a number")
        if not isinstance(result.get("data"), dict) or not isinstance(result["data"].get("test_size"), int):
            raise UnreadableRun(f"{folder / 'result.json'}: data.test_size should be a number")
        if not all(isinstance(result.get(name), int) for name in ("global_step", "epochs")):
            raise UnreadableRun(f"{folder / 'result.json'}: global_step and epochs should be numbers")
    return Run(folder, result, dict(_flatten(config)))


def _mapping(path: Path, load: Any) -> dict[str, Any]:
    try:
        content = load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UnreadableRun(f"{path}: {reason}") from error
    if not isinstance(content, dict):
        raise UnreadableRun(f"{path}: holds no mapping")
    return content


def _load_yaml(text: str) -> Any:
    return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _flatten(config: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in config.items():
        flat += _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return flat
