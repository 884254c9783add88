"""Callbacks that use the predictions for the whole test set: their base class, and the one that saves them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from mnist_lit import DIGITS
from mnist_lit.atomic_io import atomic_file


def writers(trainer: Trainer) -> list[SummaryWriter]:
    """The SummaryWriter of each TensorBoard logger. Only the first rank has any."""
    if not trainer.is_global_zero:
        return []
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def class_names(trainer: Trainer) -> tuple[str, ...]:
    """The names of the ten classes of the run's data."""
    return getattr(trainer.datamodule, "classes", DIGITS)  # type: ignore[attr-defined]


def drawn_names(trainer: Trainer) -> list[str]:
    """The same for pictures. Their fonts lack most letters, so a name that is not ASCII becomes the class's number."""
    return [name if name.isascii() else str(number) for number, name in enumerate(class_names(trainer))]


class AfterTest(Callback):
    """Calls `handle_results` once, after the whole test set."""

    def __init__(self) -> None:
        self._batches: list[tuple[Tensor, Tensor]] = []

    def handle_results(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        """Probabilities [n, 10] and labels [n] are on the CPU, in the order of the test set."""
        raise NotImplementedError

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        self._batches.append((outputs.float().cpu(), batch[1].cpu()))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        probabilities, labels = map(torch.cat, zip(*self._batches, strict=True))
        self._batches.clear()
        self.handle_results(trainer, pl_module, probabilities, labels)


class PredictionWriter(AfterTest):
    """Saves the best checkpoint's predictions for the test set, so that runs can be compared image by image, and
    several networks can be evaluated together.

    The file holds `label` and `prediction` (uint8 [n]), `confidence` (float32 [n], the probability of the prediction)
    and `probabilities` (float32 [n, 10]), in the order of the test set.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def handle_results(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        confidence, prediction = probabilities.max(1)
        if trainer.is_global_zero:
            with atomic_file(self.path) as stream:
                np.savez_compressed(
                    stream,
                    label=labels.numpy().astype(np.uint8),
                    prediction=prediction.numpy().astype(np.uint8),
                    confidence=confidence.numpy(),
                    probabilities=probabilities.numpy(),
                )
