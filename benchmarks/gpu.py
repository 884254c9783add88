"""What a GPU makes of it: absolute figures of one card, and the same card used kernel by kernel."""

import csv
import math
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from benchmarks import plain_lightning
from benchmarks.product import config_of, run, run_in
from benchmarks.rounds import Row, medians, ratio, spread, take_turns
from benchmarks.versus import accuracy, mnist_root
from mnist_lit.models import DigitClassifier

NOTES = """\
# Speed on a GPU

Written by `python -m benchmarks gpu`. The first run of a process sets CUDA up and does not count. A *run* is a whole
one, as in [results.md](results.md); *plain Lightning* too is what it is there, on this card; *kernel by kernel* is the
same run with `trainer.steps_per_execution=1`: one batch a call, and no CUDA graph.
"""


def gpu(rounds: int, quick: bool, accelerator: str = "gpu") -> list[Row]:
    run("experiment=speedrun", f"trainer={accelerator}", "seed=1000")
    models = ("mlp_4x64", "cnn")[: 1 if quick else None]
    rows = speedrun(1 if quick else 10, accelerator)
    for model in models:
        rows += samples_a_second(model, rounds, accelerator)
    return rows + [same_losses(model, accelerator) for model in models]


def speedrun(seeds: int, accelerator: str) -> list[Row]:
    results = [run("experiment=speedrun", f"trainer={accelerator}", f"seed={seed}") for seed in range(seeds)]
    seconds = [result["fit_seconds"] for result in results]
    return [
        accuracy(results),
        Row(
            "its fit",
            median(seconds),
            0.15,
            at_most=True,
            unit="s",
            detail=f"{min(seconds):.3f} to {max(seconds):.3f} s",
        ),
    ]


def samples_a_second(model: str, rounds: int, accelerator: str) -> list[Row]:
    overrides = overrides_of(model, accelerator)
    theirs = partial(plain_lightning.train_one_epoch, mnist_root(), 64, config_of(*overrides), accelerator)
    seconds = take_turns(
        {
            "plain Lightning": theirs,
            "kernel by kernel": lambda: run(*overrides, "trainer.steps_per_execution=1")["fit_seconds"],
            "run": lambda: run(*overrides)["fit_seconds"],
        },
        rounds,
    )
    return [
        Row(
            f"samples a second against *{name}*: {model}, batch 64",
            ratio(seconds[name], seconds["run"]),
            goal,
            at_most=False,
            detail=f"{spread(seconds[name], seconds['run'])}; {medians(seconds)}",
        )
        for name, goal in (("plain Lightning", 10), ("kernel by kernel", None))
    ]


class Witness(Callback):
    """Whether the steps were replayed, which a run does not tell."""

    replayed = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, DigitClassifier)
        self.replayed = pl_module.replayed_steps is not None and pl_module.replayed_steps.replay is not None


def same_losses(model: str, accelerator: str) -> Row:
    """Means over ten steps, of the first hundred: later a difference in rounding has grown."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        graph, replayed = first_losses(*overrides_of(model, accelerator))
        eager, _ = first_losses(*overrides_of(model, accelerator), "trainer.steps_per_execution=1")
    return Row(
        f"{model}, batch 64: the graph's training loss against that of one kernel after the other, largest deviation",
        max(abs(a / b - 1) for a, b in zip(graph, eager, strict=True)) if replayed else math.inf,
        1e-4,
        at_most=True,
        unit="",
        detail=f"{graph[0]:.4f} in steps 1 to 10, {graph[-1]:.4f} in steps 91 to 100",
        reason="" if replayed else "no graph was recorded; a warning on the terminal says why",
    )


def first_losses(*overrides: str) -> tuple[list[float], bool]:
    witness = Witness()
    with tempfile.TemporaryDirectory() as folder:
        run_in(Path(folder), *overrides, "trainer.log_every_n_steps=10", watchers=[witness])
        with (Path(folder) / "metrics.csv").open() as file:
            losses = [float(row["train_loss"]) for row in csv.DictReader(file) if row["train_loss"]]
    return losses[:10], witness.replayed


def overrides_of(model: str, accelerator: str) -> list[str]:
    ours = ["data.fallback=null", f"trainer={accelerator}", "scheduler=none", f"model={model}"]
    return [*ours, "data.batch_size=64", "trainer.max_epochs=1"]
