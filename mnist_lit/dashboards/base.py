"""What the dashboard callbacks share: TensorBoard's writers, and a test or validation pass as a whole."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter


def writers(trainer: Trainer) -> list[SummaryWriter]:
    """The SummaryWriter of each TensorBoard logger; none on ranks that do not log."""
    if not trainer.is_global_zero:
        return []
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


class _Collected:
    """Batches of a pass, put together at its end."""

    def __init__(self) -> None:
        self._probabilities: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, outputs: Tensor, batch: tuple[Tensor, Tensor]) -> None:
        self._probabilities.append(outputs.float().cpu())
        self._labels.append(batch[1].cpu())

    def take(self) -> tuple[Tensor, Tensor]:
        together = torch.cat(self._probabilities), torch.cat(self._labels)
        self.__init__()  # type: ignore[misc]
        return together


class AfterTest(Callback):
    """Calls `tested` once the whole test set has gone through the network."""

    def __init__(self) -> None:
        self._collected = _Collected()

    def tested(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        """Probabilities [n, 10] and labels [n], in the test set's order, on the CPU."""
        raise NotImplementedError

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        self._collected.add(outputs, batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.tested(trainer, pl_module, *self._collected.take())


class AfterValidation(Callback):
    """Calls `validated` after each epoch's validation."""

    def __init__(self) -> None:
        self._collected = _Collected()

    def validated(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        """Probabilities [n, 10] and labels [n], in the validation set's order, on the CPU."""
        raise NotImplementedError

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        self._collected.add(outputs, batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        collected = self._collected.take()
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self.validated(trainer, pl_module, *collected)
