"""The confusion matrix of the test set, and each digit's accuracy."""

import torch
from lightning.pytorch import LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor

from mnist_lit.dashboards.base import AfterTest, AfterValidation, writers
from mnist_lit.plots import confusion_matrix, draw_confusion


class ConfusionMatrix(AfterTest):
    def tested(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        figure = Figure(figsize=(3.6, 3.6), dpi=100, layout="constrained")
        draw_confusion(
            figure.add_subplot(), confusion_matrix(labels.numpy(), probabilities.argmax(1).numpy()), fontsize=6.5
        )
        for writer in writers(trainer):
            writer.add_figure("test/confusion_matrix", figure, trainer.global_step, close=False)


class PerClassAccuracy(AfterValidation):
    """One curve a digit: the part of its validation images that are recognised."""

    def validated(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        right = (probabilities.argmax(1) == labels).double()
        for writer in writers(trainer):
            for digit in range(10):
                accuracy = torch.mean(right[labels == digit]).item()
                writer.add_scalar(f"val_acc_of_digit/{digit}", accuracy, trainer.global_step)
