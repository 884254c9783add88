"""Lightning as in the well-known templates.

It has a `DataLoader` with the torchvision data set, one batch per call, automatic optimization, `self.log` and a
torchmetrics accuracy at every step, TensorBoard, a checkpoint and a progress bar.
"""

import tempfile
import time

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.utils.data import DataLoader, random_split
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms
from torchvision.datasets import MNIST

from mnist_lit.build import build_model
from mnist_lit.config import TrainConfig


class PlainClassifier(LightningModule):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.train_loss, self.val_loss = MeanMetric(), MeanMetric()
        self.train_acc, self.val_acc = MulticlassAccuracy(10), MulticlassAccuracy(10)
        self.epoch_started = self.epoch_seconds = 0.0

    def _step(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        images, labels = batch
        scores = self.network(images)
        return F.cross_entropy(scores, labels), scores.argmax(1), labels

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss, predictions, labels = self._step(batch)
        self.train_loss(loss)
        self.train_acc(predictions, labels)
        self.log("train/loss", self.train_loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        loss, predictions, labels = self._step(batch)
        self.val_loss(loss)
        self.val_acc(predictions, labels)
        self.log("val/loss", self.val_loss, prog_bar=True)
        self.log("val/acc", self.val_acc, prog_bar=True)

    def configure_optimizers(self) -> Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.001)

    def on_train_start(self) -> None:
        self.epoch_started = time.perf_counter()

    def on_train_end(self) -> None:
        self.epoch_seconds = time.perf_counter() - self.epoch_started


def train_one_epoch(root: str, batch_size: int, config: TrainConfig, accelerator: str) -> float:
    """Return the seconds from the start to the end of training: one epoch of 55,000 images, one validation of 5,000."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    train, val = random_split(MNIST(root, train=True, transform=transform), [55_000, 5_000])
    model = PlainClassifier(build_model(config, steps_per_epoch=1).network)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=1,
            logger=TensorBoardLogger(folder),
            callbacks=[RichProgressBar(), ModelCheckpoint(folder, monitor="val/acc", mode="max", save_last=True)],
            enable_model_summary=False,
        )
        trainer.fit(model, DataLoader(train, batch_size, shuffle=True), DataLoader(val, batch_size))
    return model.epoch_seconds
