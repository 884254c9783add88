"""test_predictions.npz: what a run's best checkpoint said of each test image, kept so that runs can be compared."""

from pathlib import Path

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from mnist_lit.dashboards.base import AfterTest
from mnist_lit.durable import whole_file


class KeepPredictions(AfterTest):
    """Writes `label` and `prediction` (uint8 [n]) and `confidence` (float32 [n], the prediction's probability), in the
    test set's order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def tested(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        confidence, prediction = probabilities.max(1)
        if trainer.is_global_zero:
            with whole_file(self.path) as stream:
                np.savez_compressed(
                    stream,
                    label=labels.numpy().astype(np.uint8),
                    prediction=prediction.numpy().astype(np.uint8),
                    confidence=confidence.numpy(),
                )
