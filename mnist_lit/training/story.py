"""What a run says before it trains and after it is tested."""

import logging
import shlex
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.model_summary import ModelSummary
from rich import box as boxes
from rich.panel import Panel
from rich.table import Table
from torch import nn

from mnist_lit.config import TrainConfig
from mnist_lit.data.datamodule import DigitDataModule
from mnist_lit.models import DigitClassifier
from mnist_lit.statistics import wilson_interval
from mnist_lit.training.console import rendered
from mnist_lit.training.devices import device_name, why_this_device
from mnist_lit.training.profiling import PROFILE

log = logging.getLogger(__name__)


def opening(config: TrainConfig, folder: Path, model: DigitClassifier, data: DigitDataModule, trainer: Trainer) -> None:
    if reason := getattr(config.data, "fallback_reason", None):
        log.warning(warning_box("NOT MNIST: training on scikit-learn's 1,797 small digits instead", reason))
    device, splits = trainer.strategy.root_device, data.splits
    log.info(f"run     {short(folder)}")
    log.info(f"device  {device_name(device)}: {why_this_device(config.trainer.accelerator, device)}")
    log.info(
        f"data    {data.name}: {len(splits.train):,} to train on, {len(splits.val):,} to validate, "
        f"{len(splits.test):,} to test; {data.steps_per_epoch:,} batches of {data.batch_size} an epoch"
    )
    log.info(rendered(layers(model)))


def layers(model: DigitClassifier) -> Table:
    """The network layer by layer: the shape of a batch behind each, and its parameters."""
    summary = ModelSummary(model, max_depth=-1)
    table = Table(box=boxes.SIMPLE_HEAD)
    table.add_column("layer")
    table.add_column("a batch becomes")
    table.add_column("parameters", justify="right")
    table.add_row("input", _shape(model.example_input_array.shape), "")
    shapes = dict(zip(summary.layer_names, summary.out_sizes, strict=True))
    leaves = [(name, module) for name, module in model.network.named_modules() if not list(module.children())]
    for name, module in leaves:
        shape = shapes.get(f"network.{name}" if name else "network", "?")
        count = sum(parameter.numel() for parameter in module.parameters())
        table.add_row(_layer(module), _shape(shape), f"{count:,}" if count else "")
    table.add_section()
    table.add_row(model.output, "", f"{model.parameter_count:,}")
    return table


def ending(folder: Path, result: dict[str, Any]) -> None:
    low, high = wilson_interval(result["test_acc"], result["data"]["test_size"])
    table = Table(box=boxes.ROUNDED, show_header=False, title="Tested once, with the best checkpoint")
    table.add_row("test accuracy", f"{result['test_acc']:.2%}  (95 % interval {low:.2%} to {high:.2%})")
    table.add_row(
        "validation accuracy",
        f"{result['val_acc']:.2%}  (epoch {result['best_epoch']} of {result['epochs']})",
    )
    fallback = "  NOT MNIST, which could not be had" if result["data"]["fallback"] else ""
    table.add_row("data", f"{result['data']['name']}, {result['data']['test_size']:,} test images{fallback}")
    table.add_row("parameters", f"{result['params']:,}")
    table.add_row("time", f"{result['fit_seconds']:.1f} s for {result['global_step']:,} steps")
    table.add_row("speed", f"{result['train_samples_per_second']:,.0f} samples a second, validation aside")
    log.info(rendered(table))
    log.info(f"run folder   {short(folder)}")
    if (folder / PROFILE).exists():
        log.info(f"profile      {short(folder / PROFILE)}")
    log.info(f"dashboards   tensorboard --logdir {shlex.quote(str(short(folder)))}")


def short(path: Path) -> Path:
    """As one would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def warning_box(title: str, text: str) -> str:
    return rendered(Panel(text, title=title, box=boxes.HEAVY, padding=(0, 1)))


def _layer(module: nn.Module) -> str:
    kernel = getattr(module, "kernel_size", None)
    size = "" if kernel is None else f" {_shape(kernel if isinstance(kernel, tuple) else (kernel, kernel))}"
    return type(module).__name__ + size


def _shape(sizes: Any) -> str:
    return " × ".join(str(size) for size in sizes) if not isinstance(sizes, str) else sizes
