"""The thing measured: a whole run as `train.py` makes it, with TensorBoard, CSV, progress bar, checkpoints, validation.

Runs in this process, so that opponents can take turns without paying for the imports again; what a process costs as a
whole is measured by `python -m benchmarks startup`.
"""

import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback

from mnist_lit.config import TrainConfig
from mnist_lit.training.preflight import checked_config
from mnist_lit.training.run import train

PROJECT = Path(__file__).parent.parent
DEFAULTS = ["data.fallback=null", "trainer=cpu", "scheduler=none"]


def config_of(*overrides: str) -> TrainConfig:
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return checked_config(compose("train", list(overrides)))


def run(*overrides: str) -> dict[str, Any]:
    """What result.json holds of a run with these overrides; the run's folder is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        return run_in(Path(folder), *overrides)


def run_in(folder: Path, *overrides: str, watchers: Sequence[Callback] = ()) -> dict[str, Any]:
    rich.reconfigure(force_terminal=True, file=io.StringIO())  # the bar is drawn, though no one sees it
    result = train(config_of(*overrides), folder, {}, watchers=watchers)
    torch.cuda._cached_device_count = None  # the opponents are to be as slow as in a process of their own
    return result


def train_seconds(result: dict[str, Any], epochs: int) -> float:
    """The part of `fit_seconds` that is spent on batches."""
    return epochs * result["data"]["train_size"] / result["train_samples_per_second"]


def environment() -> dict[str, str]:
    """For a child process that is to find this checkout first."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))}
