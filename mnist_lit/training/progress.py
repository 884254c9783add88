"""What a person sees while a run trains: a bar that moves, and a line for each epoch that stays."""

import logging
import time
from typing import Any

import rich
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

log = logging.getLogger(__name__)


class RunProgress(ProgressBar):
    """The bar counts mini-batches. Where the output is no terminal there is none, only the lines."""

    def __init__(self, steps_per_epoch: int) -> None:
        super().__init__()
        self.steps_per_epoch = steps_per_epoch
        self._bar: Progress | None = None
        self._epoch_started = 0.0

    def disable(self) -> None:
        """Lightning's word to the ranks that are not the first: they print nothing."""
        self.on_train_start = self.on_train_epoch_end = lambda *_: None  # type: ignore[method-assign]

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        log.info(
            f"before training    val_loss {metrics['val_loss']:.4f}  val_acc {metrics['val_acc']:7.2%}"
            "  (ten digits: guessing gets about 10 %)"
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_started = time.perf_counter()  # a run that goes on within an epoch starts none
        console = rich.get_console()
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TaskProgressColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[metrics]}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            done = trainer.global_step % self.steps_per_epoch
            self._bar.add_task(_epoch(trainer), total=self.steps_per_epoch, completed=done, metrics="")
            self._bar.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._epoch_started = time.perf_counter()
        if self._bar:
            self._bar.reset(self._bar.task_ids[0], description=_epoch(trainer))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar:
            metrics = trainer.progress_bar_metrics
            shown = (
                f"loss {metrics['train_loss']:.4f}  acc {metrics['train_acc']:.2%}" if "train_loss" in metrics else ""
            )
            self._bar.update(self._bar.task_ids[0], advance=len(batch), metrics=shown)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = trainer.callback_metrics
        width = len(str(trainer.max_epochs))
        log.info(
            f"epoch {trainer.current_epoch + 1:{width}}/{trainer.max_epochs}"
            f"  train_loss {metrics['train_loss']:.4f}  train_acc {metrics['train_acc']:7.2%}"
            f"  val_loss {metrics['val_loss']:.4f}  val_acc {metrics['val_acc']:7.2%}"
            f"  {time.perf_counter() - self._epoch_started:6.1f} s"
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


def _epoch(trainer: Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
