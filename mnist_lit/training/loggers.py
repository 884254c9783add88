"""The switches of `conf/logger` → Lightning loggers."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnist_lit.config import LoggerSection
from mnist_lit.extras import check_installed

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from mnist_lit.data.datamodule import DigitDataModule

EXTRAS = ("mlflow", "wandb")


def check_extras(switches: LoggerSection) -> None:
    """Raises UserError if a tracker is on whose package is not installed."""
    for extra in EXTRAS:
        if getattr(switches, extra):
            check_installed(extra, f"logger.{extra}=true")


def build_loggers(
    switches: LoggerSection,
    folder: Path,
    data: "DigitDataModule",
    options: dict[str, Any],
    resumed_at: int | None = None,
) -> "list[Logger]":
    """TensorBoard and metrics.csv go on where the run goes on: what they hold of later steps than `resumed_at` is going
    to be logged again. The trackers begin a run of their own with each resumption; `options` are logged to them."""
    from mnist_lit.dashboards.logger import TensorBoard
    from mnist_lit.training.metrics_csv import MetricsCSV

    loggers: list[Logger] = []
    if switches.tensorboard:
        tensorboard = TensorBoard(folder, batch_size=data.batch_size, train_size=len(data.splits.train))
        if resumed_at is not None:
            tensorboard.forget_after(resumed_at)
        loggers.append(tensorboard)
    if switches.csv:
        metrics = MetricsCSV(folder / "metrics.csv")
        if resumed_at is not None:
            metrics.forget_after(resumed_at or -1)
        loggers.append(metrics)
    if switches.mlflow:
        from lightning.pytorch.loggers import MLFlowLogger

        uri = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///outputs/mlruns.db")
        loggers.append(MLFlowLogger("mnist-lit", run_name=folder.name, tracking_uri=uri))
        loggers[-1].log_hyperparams(options)
    if switches.wandb:
        from lightning.pytorch.loggers import WandbLogger

        offline = os.environ.get("WANDB_MODE", "offline") == "offline"
        loggers.append(WandbLogger(project="mnist-lit", name=folder.name, save_dir=folder, offline=offline))
        loggers[-1].log_hyperparams(options)
    return loggers


@contextmanager
def trackers_finished(switches: LoggerSection) -> Iterator[None]:
    """W&B's run is the process's, and the next job of a sweep would go on with it."""
    try:
        yield
    finally:
        if switches.wandb:
            import wandb

            wandb.finish()
