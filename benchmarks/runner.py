"""The program under test: a whole run of `train.py` with TensorBoard, CSV, progress bar, checkpoints and validation.

It runs in this process, so all programs can take turns without new imports. `python -m benchmarks startup` measures a
whole process.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import rich
import torch
from lightning.pytorch import Callback

from mnist_lit.config import IDXData
from mnist_lit.training.run import train
from tests.configs import PROJECT, compose_config

LIBGOMP_DEFAULT = "300000"  # spins before a waiting thread releases its core
DEFAULTS = ["data.fallback=null", "trainer=cpu", "scheduler=none"]


def run_training(*overrides: str) -> dict[str, Any]:
    """Run with these overrides. Return the content of result.json and delete the run folder."""
    with tempfile.TemporaryDirectory() as folder:
        return run_training_in(Path(folder), *overrides)


def run_training_in(folder: Path, *overrides: str, callbacks: Sequence[Callback] = ()) -> dict[str, Any]:
    rich.reconfigure(force_terminal=True, file=io.StringIO())  # draws the progress bar, but not on the terminal
    result = train(compose_config(*overrides), folder, {}, callbacks=callbacks)
    torch.cuda._cached_device_count = None  # the other programs must be as slow as in their own process
    return result


def compute_train_seconds(result: dict[str, Any], epochs: int = 1) -> float:
    """Return the part of `fit_seconds` for the training batches."""
    return epochs * result["data"]["train_size"] / result["train_samples_per_second"]


def build_environment(**variables: str) -> dict[str, str]:
    """Return the environment for a child process. There, this checkout is first on the import path."""
    path = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path} | variables


def run_module(*arguments: str, **variables: str) -> dict[str, float]:
    """Run `python -m …` with these environment variables. Return the JSON that it prints."""
    command, environment = [sys.executable, "-m", *arguments], build_environment(**variables)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    return dict(json.loads(done.stdout))


@cache
def find_mnist_root() -> str:
    """Return the absolute path of the data folder."""
    data = compose_config().data
    assert isinstance(data, IDXData)
    return str(Path(data.root).resolve())
