"""The base of every network: loss, metrics, optimization. A subclass sets `self.network` and is done."""

import inspect
from collections.abc import Callable, Iterable
from math import nan
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from mnist_lit.data.datamodule import gives_blocks
from mnist_lit.data.loader import Block
from mnist_lit.losses import OUTPUTS, CrossEntropy, Loss, probabilities

if TYPE_CHECKING:
    from mnist_lit.training.step import BlockSteps

# Methods that the training of blocks does not call, or that decide how the steps are made.
STEP_METHODS = (
    "training_step",
    "configure_optimizers",
    "configure_gradient_clipping",
    "optimizer_step",
    "optimizer_zero_grad",
    "on_before_zero_grad",
    "lr_scheduler_step",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
)
# Methods that a class may extend, but not replace. They compute the averages, the result and the checkpoint.
EXTENDED_METHODS = (
    "setup",
    "on_train_start",
    "on_train_epoch_end",
    "on_fit_end",
    "on_validation_epoch_start",
    "validation_step",
    "on_validation_epoch_end",
    "on_test_epoch_start",
    "test_step",
    "on_test_epoch_end",
    "on_save_checkpoint",
    "on_load_checkpoint",
)
OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]


class DigitClassifier(LightningModule):
    """A classifier of 28 × 28 images into ten classes.

    A subclass sets `self.network`: images [n, 1, 28, 28] → scores [n, 10]. predict and export know `network` alone.

    The arguments of a subclass have to be plain values (text, numbers, truth values, lists of them). They are saved as
    hyper-parameters, so that a checkpoint can be loaded from its file alone. All other arguments go to this base as
    `**kwargs`.

    `loss` None means cross-entropy. `optimizer` and `scheduler` are factories, such as `partial(Adam, lr=0.001)`; a
    network that only predicts needs neither. The scheduler advances once per optimizer step.

    The loaders of a `DigitDataModule` give blocks of batches, which train fastest. On batches of (images, labels) from
    any other loader the network is plain Lightning.

    Raises:
        ValueError: if the loss cannot take this output.
    """

    network: nn.Module
    static_graph = False  # True: this class's forward always runs the same operations, so a GPU may replay them

    def __init__(
        self,
        *,
        output: str = "logits",
        loss: Loss | None = None,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
        gradient_clip_val: float | None = None,
        log_every_n_steps: int = 50,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["loss", "optimizer", "scheduler", "gradient_clip_val", "log_every_n_steps"])
        self.example_input_array: Tensor = torch.zeros(1, 1, 28, 28)
        self.output = output
        self.loss = CrossEntropy() if loss is None else loss
        if objection := self.loss.objection(output):
            raise ValueError(objection)
        self.evaluation_loss = self.loss.evaluation()
        self.loss.output = self.evaluation_loss.output = output
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.lr: float | None = None  # replaces the learning rate of the optimizer; Lightning's Tuner sets it
        self.gradient_clip_val = gradient_clip_val
        self.log_every_n_steps = log_every_n_steps
        self.eval_loss = MeanMetric(nan_strategy=nan)  # by default it leaves out a batch whose loss is not a number
        self.eval_acc = MulticlassAccuracy(num_classes=10, average="micro")
        self._steps: BlockSteps | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Images [n, 1, 28, 28], normalized → [n, 10]: logits, log-probabilities or probabilities, as `output` says."""
        return OUTPUTS[self.output](self.network(images))

    @property
    def parameter_count(self) -> int:
        """Without the parameters of the loss, if it has any."""
        return sum(
            p.numel() for name, p in self.named_parameters() if not name.startswith(("loss.", "evaluation_loss."))
        )

    def configure_optimizers(self) -> Any:
        if self.optimizer is None:
            raise ValueError(f"{type(self).__name__} was made without an optimizer, so it can predict but not train")
        optimizer = self.optimizer(self.parameters())
        for group in optimizer.param_groups if self.lr is not None else ():
            group["lr"] = self.lr
        if self.scheduler is None:
            return optimizer
        return [optimizer], [{"scheduler": self.scheduler(optimizer), "interval": "step"}]

    @property
    def automatic_optimization(self) -> bool:
        """False for blocks, of which `training_step` makes many optimizer steps a call. Everything else is plain
        Lightning. After a fit its answer stays, because Lightning counts the steps of the two kinds separately."""
        trainer = self._trainer
        if trainer is not None and trainer.state.fn == TrainerFn.FITTING:
            self._automatic_optimization = not gives_blocks(trainer)
        return self._automatic_optimization

    @automatic_optimization.setter
    def automatic_optimization(self, value: bool) -> None:
        raise AttributeError("automatic_optimization follows from the batches: False for blocks, else True")

    @property
    def takes_blocks(self) -> bool:
        """False for a class with one of `STEP_METHODS` of its own."""
        return not own_step_methods(self)

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: Any = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        own = self.gradient_clip_val if gradient_clip_val is None else None
        if own is not None and getattr(self.trainer.precision_plugin, "scaler", None) is None:
            nn.utils.clip_grad_norm_(self.parameters(), own)
        else:  # with a scaler, Lightning refuses an optimizer whose gradients are still scaled
            self.clip_gradients(optimizer, gradient_clip_val or own, gradient_clip_algorithm)

    @property
    def steps(self) -> "BlockSteps":
        """The training of blocks. Imported when it is needed: a network that predicts needs no training code."""
        if self._steps is None:
            from mnist_lit.training.step import BlockSteps

            self._steps = BlockSteps(self.log_every_n_steps)
        return self._steps

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self._steps = None  # the averages of an earlier fit, and its CUDA graph

    def on_train_start(self) -> None:
        if not self.automatic_optimization:
            self.steps.meter.step = self.trainer.global_step

    def training_step(self, batch: "Block | tuple[Tensor, Tensor]", batch_idx: int) -> Tensor:
        """One optimizer step for each mini-batch of a block; for a plain batch the loss, as Lightning expects it."""
        if isinstance(batch, Block):
            return self._train_block(batch)
        images, labels = _check_batch(batch)
        outputs = self(images)
        loss: Tensor = self.loss(outputs, labels)
        metrics = {"train_loss": loss, "train_acc": (outputs.argmax(1) == labels).float().mean()}
        self.log_dict(metrics, prog_bar=True, batch_size=len(labels))
        epoch = {f"{name}_epoch": value for name, value in metrics.items()}
        self.log_dict(epoch, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def _train_block(self, block: Block) -> Tensor:
        """Returns the loss of the last mini-batch."""
        optimizer = cast(LightningOptimizer, self.optimizers())
        scheduler = cast(LRScheduler | None, self.lr_schedulers())
        loss, windows = self.steps.train(self, block, optimizer, scheduler)
        for step, metrics in windows:
            self.write(metrics, step)
        if windows:  # not for each block: Lightning's log is slow
            self.log_dict(self.steps.meter.epoch.means(), prog_bar=True, logger=False)
        return loss

    def on_train_epoch_end(self) -> None:
        if not self.automatic_optimization:
            means = self.steps.meter.end_epoch()
            self.log_dict(means, prog_bar=True, logger=False)
            if means:  # a callback can end an epoch before its first batch
                self.write({f"{name}_epoch": value for name, value in means.items()}, self.trainer.global_step)

    def on_fit_end(self) -> None:
        if self._steps is not None:
            self._steps.release_memory()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Returns the probabilities [n, 10], for callbacks that look at the answers."""
        return probabilities(self.output, self._evaluate(*_check_batch(batch)))

    def on_validation_epoch_start(self) -> None:
        if self.trainer.world_size > 1:  # the checkpoint holds the batch norm of rank 0, so all validate this network
            for buffer in self.buffers():
                torch.distributed.broadcast(buffer, 0)
        self._reset_evaluation()

    def on_validation_epoch_end(self) -> None:
        self._report_evaluation("val")

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Returns the probabilities [n, 10]."""
        return probabilities(self.output, self._evaluate(*_check_batch(batch)))

    def on_test_epoch_start(self) -> None:
        self._reset_evaluation()

    def on_test_epoch_end(self) -> None:
        self._report_evaluation("test")

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Images, or a pair of images and labels → the probabilities [n, 10]."""
        return probabilities(self.output, self(batch if isinstance(batch, Tensor) else batch[0]))

    def _evaluate(self, images: Tensor, labels: Tensor) -> Tensor:
        outputs = self(images)
        self.eval_loss.update(self.evaluation_loss(outputs, labels), weight=len(labels))
        self.eval_acc.update(outputs, labels)
        return outputs

    def _reset_evaluation(self) -> None:
        self.eval_loss.reset()  # an earlier validation may have been interrupted
        self.eval_acc.reset()

    def _report_evaluation(self, stage: str) -> None:
        metrics = {f"{stage}_loss": self.eval_loss.compute(), f"{stage}_acc": self.eval_acc.compute()}
        fits_blocks = self.trainer.state.fn == TrainerFn.FITTING and not self.automatic_optimization
        self.log_dict(metrics, prog_bar=stage == "val", logger=not fits_blocks)
        if not fits_blocks and self._steps is not None:  # "step" is where Lightning's loggers look for it
            self.log("step", float(self.trainer.global_step))
        if fits_blocks and not self.trainer.sanity_checking:  # untrained, the loss would flatten the curve
            self.write({name: float(value) for name, value in metrics.items()}, self.trainer.global_step)

    def write(self, metrics: dict[str, float], step: int) -> None:
        """Write to every logger at the number of optimizer steps. Lightning's own logging counts calls of
        `training_step` instead."""
        for logger in self.loggers:
            logger.log_metrics(metrics | {"epoch": self.trainer.current_epoch}, step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["network"] = class_path(self)
        checkpoint["loss"] = self.loss.section
        checkpoint["precision"] = self.trainer.precision
        if self._steps is not None:
            checkpoint["train_meter"] = self._steps.meter.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.optimizer is not None and "train_meter" in checkpoint:
            self.steps.meter.load_state_dict(checkpoint["train_meter"])


def own_step_methods(model: DigitClassifier) -> list[str]:
    return [name for name in STEP_METHODS if getattr(type(model), name) is not getattr(DigitClassifier, name)]


def hooks_without_super(model: DigitClassifier) -> list[str]:
    """Those of `EXTENDED_METHODS` that a class replaces without calling the method of its base."""
    classes = type(model).__mro__
    own = [vars(it) for it in classes[: classes.index(DigitClassifier)]]
    methods = [(name, inspect.unwrap(it[name])) for it in own for name in EXTENDED_METHODS if name in it]
    return [name for name, method in methods if inspect.isfunction(method) and name not in method.__code__.co_names]


def class_path(model: DigitClassifier) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}"


def _check_batch(batch: Any) -> tuple[Tensor, Tensor]:
    """Raises ValueError if it is no pair of images and labels."""
    if isinstance(batch, list | tuple) and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch):
        images, labels = batch
        if tuple(images.shape[1:]) == (1, 28, 28) and labels.shape == images.shape[:1]:
            return images, labels
        found = f"{list(images.shape)} and {list(labels.shape)}"
    else:
        found = type(batch).__name__
    raise ValueError(f"a batch should be a pair of images [n, 1, 28, 28] and labels [n]; found {found}")
