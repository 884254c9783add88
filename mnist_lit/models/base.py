"""The base of every network: loss, metrics, optimisation. A subclass sets `self.network` and is done."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from mnist_lit.data.loader import Block
from mnist_lit.models.layers import OUTPUTS, probabilities
from mnist_lit.models.losses import Loss
from mnist_lit.models.meter import TrainMeter
from mnist_lit.models.replay import ReplayedSteps, can_replay
from mnist_lit.models.steps import Step, directly, needs_lightning, through_lightning

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]


class DigitClassifier(LightningModule):
    """A classifier of 28 × 28 digits. A subclass sets `self.network`: images [n, 1, 28, 28] → scores [n, 10].
    A `forward` of its own may do something else in training only: predict and export know `network` alone.

    Its constructor's own arguments must be plain values (str, int, float, bool, lists of them): they are saved as
    hyper-parameters, so that a checkpoint can be loaded from the file alone. The rest it passes on as `**kwargs`.

    `optimizer` and `scheduler` are factories (a partial of a torch class, say); a network that only predicts needs
    neither. The scheduler advances once per optimiser step. It is trained on blocks of batches, which the loaders of a
    `DigitDataModule` give.
    """

    network: nn.Module
    static_graph = False  # whether this very class's forward always makes the same operations: a GPU may replay them

    def __init__(
        self,
        *,
        output: str = "logits",
        loss: str = "cross_entropy",
        label_smoothing: float = 0.0,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
        gradient_clip_val: float | None = None,
        log_every_n_steps: int = 50,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["optimizer", "scheduler", "gradient_clip_val", "log_every_n_steps"])
        self.automatic_optimization = False  # training_step makes many steps a call
        self.example_input_array: Tensor = torch.zeros(1, 1, 28, 28)
        self.output = output
        self.loss = Loss(loss, output, label_smoothing)
        self.plain_loss = Loss(loss, output)  # of evaluations, so that they compare between runs
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.gradient_clip_val = gradient_clip_val
        self.replayed_steps: ReplayedSteps | None = None
        self.meter = TrainMeter(log_every_n_steps)
        self.eval_loss = MeanMetric()
        self.eval_acc = MulticlassAccuracy(num_classes=10, average="micro")

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, 1, 28, 28], normalised → [n, 10]: logits, log-probabilities or probabilities, as `output` says."""
        return OUTPUTS[self.output](self.network(images))

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def configure_optimizers(self) -> Any:
        if self.optimizer is None:
            raise ValueError(f"{type(self).__name__} was made without an optimizer, so it can predict but not train")
        optimizer = self.optimizer(self.parameters())
        return optimizer if self.scheduler is None else ([optimizer], [self.scheduler(optimizer)])

    def training_step(self, block: Block, block_idx: int) -> None:
        """One optimiser step for each mini-batch of the block."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        scheduler = cast(LRScheduler | None, self.lr_schedulers())
        step = self._step_of(optimizer, block)
        for (images, labels), weight in zip(block, block.weights, strict=True):
            loss, outputs = step(images, labels, weight)
            self.meter.update(loss, outputs, labels, optimizer.param_groups[0]["lr"])
            if scheduler is not None:
                scheduler.step()
        self._report_training()

    def _step_of(self, optimizer: LightningOptimizer, block: Block) -> Step:
        """Good for the steps of this block."""
        if needs_lightning(self.trainer, self):
            return through_lightning(self, optimizer)
        if can_replay(self, block):
            if self.replayed_steps is None or self.replayed_steps.optimizer is not optimizer:
                self.replayed_steps = ReplayedSteps(self, optimizer)
            return self.replayed_steps
        return directly(self, optimizer)

    def _report_training(self) -> None:
        for step, metrics in self.meter.read(self.trainer.strategy.reduce):
            self.write(metrics, step)
        self.log_dict(self.meter.epoch.means(), prog_bar=True, logger=False)

    def on_train_epoch_end(self) -> None:
        epoch = {f"{name}_epoch": value for name, value in self.meter.end_epoch().items()}
        self.write(epoch, self.trainer.global_step)

    def on_fit_end(self) -> None:
        self.replayed_steps = None  # its memory on the GPU

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Returns the probabilities [n, 10], for callbacks that look at what the network says."""
        return probabilities(self.output, self._evaluate(*batch))

    def on_validation_epoch_end(self) -> None:
        self._report_evaluation("val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Returns the probabilities [n, 10]."""
        return probabilities(self.output, self._evaluate(*batch))

    def on_test_epoch_end(self) -> None:
        self._report_evaluation("test")

    def _evaluate(self, images: Tensor, labels: Tensor) -> Tensor:
        outputs = self(images)
        self.eval_loss.update(self.plain_loss(outputs, labels), weight=len(labels))
        self.eval_acc.update(outputs, labels)
        return outputs

    def _report_evaluation(self, stage: str) -> None:
        metrics = {f"{stage}_loss": self.eval_loss.compute(), f"{stage}_acc": self.eval_acc.compute()}
        self.eval_loss.reset()
        self.eval_acc.reset()
        self.log_dict(metrics, prog_bar=stage == "val", logger=False)
        repeats_an_epoch = self.trainer.state.fn == TrainerFn.VALIDATING
        if not (repeats_an_epoch or self.trainer.sanity_checking):  # guessing would squash the curves' scale
            self.write({name: float(value) for name, value in metrics.items()}, self.trainer.global_step)

    def write(self, metrics: dict[str, float], step: int) -> None:
        """Write to every logger at the number of optimiser steps made, which Lightning's own logging does not know:
        it counts calls of `training_step`."""
        epoch = {} if self.trainer.testing else {"epoch": self.trainer.current_epoch}
        for logger in self.loggers:
            logger.log_metrics(metrics | epoch, step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["network"] = f"{type(self).__module__}.{type(self).__qualname__}"
        checkpoint["train_meter"] = self.meter.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.meter.load_state_dict(checkpoint["train_meter"])
