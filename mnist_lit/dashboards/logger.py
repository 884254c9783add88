"""TensorBoard with curves over optimiser steps and, so that batch sizes can be compared, over samples seen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger


class TensorBoard(TensorBoardLogger):
    """Writes each `train_…` and `val_…` scalar twice: `val_acc` at the step, `by_samples/val_acc` at the number of
    training samples seen by then."""

    def __init__(self, folder: Path, *, batch_size: int, train_size: int) -> None:
        super().__init__(folder, name="", version="tensorboard", default_hp_metric=False)
        self.batch_size = batch_size
        self.train_size = train_size

    def samples_seen(self, step: int) -> int:
        """The last batch of an epoch may be smaller than the others."""
        steps_per_epoch = -(-self.train_size // self.batch_size)
        epochs, rest = divmod(step, steps_per_epoch)
        return epochs * self.train_size + rest * self.batch_size

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        curves = {name: value for name, value in metrics.items() if name.startswith(("train_", "val_"))}
        if step is not None and curves:
            by_samples = {f"by_samples/{name}": value for name, value in curves.items()}
            super().log_metrics(by_samples, self.samples_seen(step))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Lightning would log the network's alone; the HParams callback logs the whole run's."""
