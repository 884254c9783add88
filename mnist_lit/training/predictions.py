"""test_predictions.npz: what a run's best checkpoint said of each test image, kept so that runs can be compared."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lit.durable import whole_file

PREDICTIONS = "test_predictions.npz"


class KeepPredictions(Callback):
    """Writes `label` and `prediction` (uint8 [n]) and `confidence` (float32 [n], the prediction's probability), in the
    test set's order."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / PREDICTIONS
        self._probabilities: list[torch.Tensor] = []
        self._labels: list[torch.Tensor] = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._probabilities.append(outputs.float().cpu())
        self._labels.append(batch[1].cpu())

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        confidence, prediction = torch.cat(self._probabilities).max(1)
        with whole_file(self.path) as stream:
            np.savez_compressed(
                stream,
                label=torch.cat(self._labels).numpy().astype(np.uint8),
                prediction=prediction.numpy().astype(np.uint8),
                confidence=confidence.numpy(),
            )
        self._probabilities, self._labels = [], []
