"""What a run prints: before it trains, while it trains and after its test."""

import logging
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import rich
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities.model_summary import ModelSummary
from rich import box as boxes
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from torch import nn

from mnist_lit.config import TrainConfig
from mnist_lit.console import plural, render_text, warning_box, wrap_text
from mnist_lit.data.datamodule import DigitDataModule
from mnist_lit.evaluation.statistics import wilson_interval
from mnist_lit.models import DigitClassifier
from mnist_lit.run_folder import PICTURES
from mnist_lit.training.devices import device_name, explain_device, explain_precision
from mnist_lit.training.loggers import hide_password, mlflow_uri
from mnist_lit.training.profilers import PROFILE
from mnist_lit.training.schedulers import describe_schedule, describe_section

log = logging.getLogger(__name__)

LABEL = 11  # columns before the text of a line


def print_start(
    config: TrainConfig, folder: Path, model: DigitClassifier, data: DigitDataModule, trainer: Trainer, *, resumed: bool
) -> None:
    if reason := getattr(config.data, "fallback_reason", None):
        log.warning(warning_box("NOT MNIST: training on scikit-learn's 1,797 small digits instead", reason))
    for label, text in describe_run(config, folder, model, data, trainer, resumed=resumed):
        log.info(wrap_text(text, f"{label:{LABEL}}"))
    log.info(render_text(layer_table(model)))


def describe_run(
    config: TrainConfig, folder: Path, model: DigitClassifier, data: DigitDataModule, trainer: Trainer, *, resumed: bool
) -> Iterator[tuple[str, str]]:
    """(label, text) of each line: what this run trains with."""
    device, splits, steps = trainer.strategy.root_device, data.splits, data.steps_per_epoch
    yield "run", str(relative_path(folder))
    if config.reference:
        yield "article", config.reference.article
    yield "device", f"{device_name(device)}: {explain_device(config.trainer.accelerator, device)}"
    images = f"{len(splits.train):,} training, {len(splits.val):,} validation, {len(splits.test):,} test images"
    yield "data", f"{data.name}: {images}"
    for split, limit in config.trainer.limits.items():
        yield "limited", f"trainer.limit_{split}_batches={limit}"
    yield "loss", describe_section(config.loss)
    yield "optimizer", describe_section(config.optimizer)
    yield "schedule", describe_schedule(config.scheduler, config.optimizer, steps * config.trainer.max_epochs)
    epochs = f"{plural(config.trainer.max_epochs, 'epoch')} of {plural(steps, 'step')}"
    batch = f"{data.batch_size * data.accumulate_grad_batches:,} images a step"
    yield "training", f"{epochs}, {batch}; seed {config.seed}"
    precision, accelerator = config.trainer.precision, config.trainer.accelerator
    yield "precision", explain_precision(precision, trainer.precision, accelerator, model, resumed=resumed)


def layer_table(model: DigitClassifier) -> Table:
    """The network layer by layer: the shape of a batch after it, and its parameters."""
    summary = ModelSummary(model, max_depth=-1)
    table = Table(box=boxes.SIMPLE_HEAD)
    table.add_column("layer")
    table.add_column("output shape")
    table.add_column("parameters", justify="right")
    table.add_row("input", _format_shape(model.example_input_array.shape), "")
    shapes = dict(zip(summary.layer_names, summary.out_sizes, strict=True))
    leaves = [(name, module) for name, module in model.network.named_modules() if not list(module.children())]
    for name, module in leaves:
        shape = shapes.get(f"network.{name}" if name else "network", "?")
        count = sum(parameter.numel() for parameter in module.parameters())
        table.add_row(Text(_format_layer(module)), _format_shape(shape), f"{count:,}" if count else "")
    table.add_section()
    table.add_row("total", "", f"{model.parameter_count:,}")
    return table


def print_end(config: TrainConfig, folder: Path, result: dict[str, Any]) -> None:
    low, high = wilson_interval(result["test_acc"], result["data"]["test_size"])
    table = Table(box=boxes.ROUNDED, show_header=False, title="Tested once, with the best checkpoint")
    table.add_row("test accuracy", f"{result['test_acc']:.2%}  (95 % interval {low:.2%} to {high:.2%})")
    reference = config.reference if result["data"]["name"] == "mnist" else None
    if reference and reference.loop_acc:
        table.add_row("the article's own loop", f"{reference.loop_acc:.2%}")
    if reference and reference.published:
        table.add_row("printed in the article", Text(reference.published))
    table.add_row(
        "validation accuracy", f"{result['val_acc']:.2%}  (epoch {result['best_epoch']} of {result['epochs']})"
    )
    fallback = "  NOT MNIST, which was not available" if result["data"]["fallback"] else ""
    table.add_row("data", Text(f"{result['data']['name']}, {result['data']['test_size']:,} test images{fallback}"))
    for option, limit in result["limited"].items():
        table.add_row("limited", f"{option}={limit}")
    table.add_row("parameters", f"{result['params']:,}")
    table.add_row("time", f"{result['fit_seconds']:.1f} s for {plural(result['global_step'], 'step')}")
    table.add_row("speed", f"{result['train_samples_per_second']:,.0f} images a second, without validation")
    log.info(render_text(table))
    path = relative_path(folder)
    for label, text in (
        ("run", path),
        ("pictures", f"{PICTURES} in this folder"),
        *([("profile", path / PROFILE)] if (folder / PROFILE).exists() else []),
        ("dashboards", f"tensorboard --logdir {shlex.quote(str(path.parent))}"),
        *([("mlflow", describe_mlflow())] if config.logger.mlflow else []),
    ):
        log.info(f"{label:{LABEL}}{text}")


def describe_mlflow() -> str:
    """The address of a server, or the command that starts one."""
    uri = hide_password(mlflow_uri())
    return uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {shlex.quote(uri)}"


def relative_path(path: Path) -> Path:
    """The path as it is typed in this folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _format_layer(module: nn.Module) -> str:
    kernel = getattr(module, "kernel_size", None)
    size = "" if kernel is None else f" {_format_shape(kernel if isinstance(kernel, tuple) else (kernel, kernel))}"
    return type(module).__name__ + size


def _format_shape(sizes: Any) -> str:
    return " × ".join(str(size) for size in sizes) if not isinstance(sizes, str) else sizes


class RunProgress(ProgressBar):
    """A bar that counts optimizer steps, a line for each epoch and, with `print_every_n_steps`, lines between them.

    Without a terminal there is no bar."""

    def __init__(self, steps_per_epoch: int, *, bar: bool = True, print_every_n_steps: int | None = None) -> None:
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self.bar = bar
        self.print_every_n_steps = print_every_n_steps
        self._bar: Progress | None = None
        self._epoch_started = 0.0

    def disable(self) -> None:
        """Lightning calls this in all ranks but the first: they print nothing."""
        for hook in ("on_train_start", "on_train_batch_end", "on_train_epoch_end"):
            setattr(self, hook, lambda *_: None)

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        log.info(_format_metrics("untrained", trainer.callback_metrics) + "  (guessing gets about 10 %)")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_started = time.perf_counter()  # a run resumed within an epoch starts no epoch
        cast(DigitClassifier, pl_module).steps.meter.print_every_n_steps = self.print_every_n_steps
        console = rich.get_console()
        if console.is_terminal and self.bar:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                TaskProgressColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[metrics]}"),
                TimeRemainingColumn(compact=True),
                console=console,
                transient=True,
            )
            done = trainer.global_step % self.steps_per_epoch
            self._bar.add_task(_format_epoch(trainer), total=self.steps_per_epoch, completed=done, metrics="")
            self._bar.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_started = time.perf_counter()
        if self._bar:
            self._bar.reset(self._bar.task_ids[0], description=_format_epoch(trainer))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        meter = cast(DigitClassifier, pl_module).steps.meter
        for step, metrics in meter.take_printed():
            in_epoch = _count((step - 1) % self.steps_per_epoch + 1, self.steps_per_epoch)
            log.info(f"{_format_epoch(trainer)}  step {in_epoch}  {_format_training(metrics)}")
        if self._bar:
            text = _format_training(meter.epoch.means())
            self._bar.update(self._bar.task_ids[0], advance=batch.steps, metrics=text)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        train = cast(DigitClassifier, pl_module).steps.meter.epoch.means()
        line = _format_metrics(_format_epoch(trainer), trainer.callback_metrics | train)
        log.info(f"{line}  {time.perf_counter() - self._epoch_started:5.1f} s")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_bar()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop_bar()

    def _stop_bar(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


def _format_epoch(trainer: Trainer) -> str:
    return f"epoch {_count(trainer.current_epoch + 1, trainer.max_epochs)}"


def _count(number: int, total: int | None) -> str:
    return f"{number:{len(str(total))}}/{total}"


def _format_training(metrics: Mapping[str, Any]) -> str:
    return f"loss {metrics['train_loss']:.4f}  acc {metrics['train_acc']:.2%}"


def _format_metrics(label: str, metrics: Mapping[str, Any]) -> str:
    """One line for an epoch, which fits 80 columns."""
    parts = [
        f"{part} loss {metrics[f'{part}_loss']:.4f} acc {metrics[f'{part}_acc']:6.2%}"
        for part in ("train", "val")
        if f"{part}_loss" in metrics
    ]
    return "  ".join((label, *parts))
