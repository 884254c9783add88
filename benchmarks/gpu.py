"""Measures the speed on one GPU, with CUDA graphs and kernel by kernel."""

import csv
import math
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks.measurement import Row, compare, take_turns
from benchmarks.plain_lightning import train_one_epoch
from benchmarks.runner import find_mnist_root, run_training, run_training_in
from benchmarks.training_speed import compute_mean_accuracy
from mnist_lit.models import DigitClassifier
from mnist_lit.run_folder import METRICS
from tests.configs import compose_config

ACCELERATOR = "gpu"
NOTES = """\
# Speed on a GPU

Written by `python -m benchmarks gpu`. The first run of a process initializes CUDA and does not count. *run* and *plain
Lightning* are the same as in [results.md](results.md), but on this GPU. *kernel by kernel* is the same run with
`trainer.steps_per_execution=1`: one batch per call and no CUDA graph.
"""


def measure_gpu(rounds: int, quick: bool) -> list[Row]:
    """A run on one GPU: accuracy, time, samples per second, and the same losses without CUDA graphs."""
    run_training("experiment=speedrun", f"trainer={ACCELERATOR}", "seed=1000")
    models = ("mlp_4x64", "cnn")[: 1 if quick else None]
    rows = measure_speedrun(1 if quick else 10)
    for model in models:
        rows += measure_samples_per_second(model, rounds)
    return rows + [compare_losses(model) for model in models]


def measure_speedrun(seeds: int) -> list[Row]:
    results = [run_training("experiment=speedrun", f"trainer={ACCELERATOR}", f"seed={seed}") for seed in range(seeds)]
    seconds = [result["fit_seconds"] for result in results]
    detail = f"{min(seconds):.3f} to {max(seconds):.3f} s"
    return [
        compute_mean_accuracy(results),
        Row("fit time of experiment=speedrun", median(seconds), 0.15, unit="s", detail=detail),
    ]


def measure_samples_per_second(model: str, rounds: int) -> list[Row]:
    overrides = build_overrides(model)
    theirs = partial(train_one_epoch, find_mnist_root(), 64, compose_config(*overrides), ACCELERATOR)
    seconds = take_turns(
        {
            "plain Lightning": theirs,
            "kernel by kernel": lambda: run_training(*overrides, "trainer.steps_per_execution=1")["fit_seconds"],
            "run": lambda: run_training(*overrides)["fit_seconds"],
        },
        rounds,
    )
    return [
        compare(
            f"samples per second relative to *{name}*: {model}, batch 64",
            seconds[name],
            seconds["run"],
            goal,
            at_most=False,
            seconds=seconds,
        )
        for name, goal in (("plain Lightning", 10), ("kernel by kernel", None))
    ]


class ReplayCheck(Callback):
    """Records whether a run replays its steps with a CUDA graph. The result of a run does not say this."""

    replayed = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, DigitClassifier)
        replayed = pl_module.steps.replayed
        self.replayed = replayed is not None and replayed.replay is not None


def compare_losses(model: str) -> Row:
    """Compare the mean losses of each ten steps in the first hundred steps. Later, rounding differences grow."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        graph, replayed = read_first_losses(*build_overrides(model))
        eager, _ = read_first_losses(*build_overrides(model), "trainer.steps_per_execution=1")
    return Row(
        f"{model}, batch 64: largest deviation of the training loss between CUDA graph and kernel by kernel",
        max(abs(a / b - 1) for a, b in zip(graph, eager, strict=True)) if replayed else math.inf,
        1e-4,
        unit="",
        detail=f"{graph[0]:.4f} in steps 1 to 10, {graph[-1]:.4f} in steps 91 to 100",
        reason="" if replayed else "the run records no CUDA graph; a warning on the terminal gives the reason",
    )


def read_first_losses(*overrides: str) -> tuple[list[float], bool]:
    check = ReplayCheck()
    with tempfile.TemporaryDirectory() as folder:
        run_training_in(Path(folder), *overrides, "trainer.log_every_n_steps=10", callbacks=[check])
        with (Path(folder) / METRICS).open(encoding="utf-8") as file:
            losses = [float(row["train_loss"]) for row in csv.DictReader(file) if row["train_loss"]]
    return losses[:10], check.replayed


def build_overrides(model: str) -> list[str]:
    ours = ["data.fallback=null", f"trainer={ACCELERATOR}", "scheduler=none", f"model={model}"]
    return [*ours, "data.batch_size=64", "trainer.max_epochs=1"]
