"""Metrics of each class: accuracy, confusion matrix, precision-recall curves."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from matplotlib.figure import Figure
from torch import Tensor

from mnist_lit import DIGITS
from mnist_lit.dashboards.prediction_callbacks import AfterTest, class_names, drawn_names, writers
from mnist_lit.evaluation.statistics import confusion_matrix, draw_confusion_matrix


class PerClassAccuracy(Callback):
    """One curve for each class: its validation accuracy after each epoch."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._correct, self._images = torch.zeros(10, dtype=torch.long), torch.zeros(10, dtype=torch.long)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        labels, predictions = batch[1].cpu(), outputs.argmax(1).cpu()
        self._correct += torch.bincount(labels[predictions == labels], minlength=10)
        self._images += torch.bincount(labels, minlength=10)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        classes = class_names(trainer)
        kind = "digit" if classes == DIGITS else "class"
        for writer in writers(trainer):
            for name, accuracy in zip(classes, (self._correct.double() / self._images).tolist(), strict=True):
                writer.add_scalar(f"val_acc_of_{kind}/{name}", accuracy, trainer.global_step)


class ConfusionMatrix(AfterTest):
    """The confusion matrix of the test set."""

    def handle_results(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        names, figure = drawn_names(trainer), Figure(figsize=(6, 6), dpi=100)
        margin = 0.08 + 0.014 * min(30, max(map(len, names)))  # a layout by matplotlib takes as long as the drawing
        axes = figure.add_axes((margin, margin, 0.98 - margin, 0.98 - margin))
        counts = confusion_matrix(labels.numpy(), probabilities.argmax(1).numpy())
        draw_confusion_matrix(axes, counts, names, fontsize=11)
        for writer in writers(trainer):
            writer.add_figure("test/confusion_matrix", figure, trainer.global_step, close=False)


class PRCurves(AfterTest):
    """The precision-recall curve of each class against the nine others, on the test set."""

    def handle_results(self, trainer: Trainer, model: LightningModule, probabilities: Tensor, labels: Tensor) -> None:
        for writer in writers(trainer):
            for index, name in enumerate(class_names(trainer)):
                writer.add_pr_curve(
                    f"precision_recall/{name}", labels == index, probabilities[:, index], trainer.global_step
                )
