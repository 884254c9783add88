"""Callbacks of every run: time, early stopping, signals within a fit, and the state of the random numbers."""

import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from mnist_lit.isolation import random_state, set_random_state
from mnist_lit.models.checkpoint_file import holds_network_of
from mnist_lit.models.classifier import DigitClassifier
from mnist_lit.process import RunInterrupted, handled_signals, restore_handler
from mnist_lit.training.step import LossNotFinite

VALIDATION_LIMIT = 3.0  # seconds that a validation may go on after a signal; SIGKILL often follows a few seconds later


class Stopwatch(Callback):
    """`fit_seconds`: from the start of the first epoch to the end of the last one. `train_seconds`: the part spent on
    batches and on checkpoints between them. Both continue in a resumed run."""

    def __init__(self) -> None:
        self.fit_seconds = 0.0
        self.train_seconds = 0.0
        self.samples = 0
        self._fit_since = self._train_since = 0.0

    @property
    def train_samples_per_second(self) -> float:
        return self.samples / self.train_seconds if self.train_seconds else 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._fit_since = self._train_since = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._train_since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self.train_seconds += now - self._train_since
        self.fit_seconds += now - self._fit_since
        self._train_since = self._fit_since = now
        self.samples += batch.samples

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_train_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        now = time.perf_counter()
        self.fit_seconds += now - self._fit_since
        self._fit_since = now

    def state_dict(self) -> dict[str, Any]:
        return {"fit_seconds": self.fit_seconds, "train_seconds": self.train_seconds, "samples": self.samples}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.fit_seconds = state_dict["fit_seconds"]
        self.train_seconds = state_dict["train_seconds"]
        self.samples = state_dict["samples"]


class StopEarly(EarlyStopping):
    """Ends the training when the monitored metric has not improved for `patience` epochs. A run that was stopped after
    this decision does not train on when it is resumed."""

    def __init__(self, monitor: str, mode: str, patience: int) -> None:
        super().__init__(monitor, mode=mode, patience=patience, check_on_train_epoch_end=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class StopOnSignal(Callback):
    """Ctrl-C, SIGTERM and SIGHUP within a fit: finish the block, write last.ckpt, stop.

    During the training the handler only notes the signal. Between two blocks the state of the run is complete, so the
    callback acts there. Before and after the training the earlier handlers are in force.
    """

    def __init__(self, last_checkpoint: Path) -> None:
        self.last_checkpoint = last_checkpoint
        self._received: int | None = None
        self._received_at = 0.0
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._previous = {signum: signal.signal(signum, self._note) for signum in handled_signals()}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._all_ranks_stop(trainer) or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        trainer.save_checkpoint(self.last_checkpoint)
        raise RunInterrupted(self._received or signal.SIGTERM)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if self._received is not None and time.monotonic() - self._received_at > VALIDATION_LIMIT:
            raise RunInterrupted(self._received)  # a resumed run trains again from the last checkpoint

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_after_epoch()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_after_epoch()
        self._restore_handlers()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore_handlers()

    def _all_ranks_stop(self, trainer: Trainer) -> bool:
        """A signal reaches the ranks one after the other. They agree, so that all of them stop at the same step."""
        return trainer.strategy.reduce_boolean_decision(self._received is not None, all=False)

    def _stop_after_epoch(self) -> None:
        if self._received is not None:  # the end of the epoch has just written last.ckpt
            raise RunInterrupted(self._received)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._received, self._received_at = signum, time.monotonic()

    def _restore_handlers(self) -> None:
        for signum, handler in self._previous.items():
            restore_handler(signum, handler)
        self._previous = {}


class RandomState(Callback):
    """Keeps the states of the random number generators, which dropout draws from, and the decision of a callback to end
    the training. It also writes the logs before each checkpoint: a resumed run does not log again what came before it.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None
        self._should_stop = False
        self._infinite_buffers: set[str] = set()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A mask of an attention layer, for example, is infinite on purpose."""
        self._infinite_buffers = {name for name, buffer in pl_module.named_buffers() if not buffer.isfinite().all()}

    def state_dict(self) -> dict[str, Any]:
        return random_state(cuda=torch.cuda.is_available())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not holds_network_of(checkpoint, cast(DigitClassifier, pl_module)):
            raise ValueError(f"it holds another network: {checkpoint['network']} {checkpoint['hyper_parameters']}")
        self._should_stop = checkpoint.get("should_stop", False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self._should_stop
        if self._loaded is not None:  # late: building the network and its optimizer draws numbers too
            set_random_state(self._loaded)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(pl_module.state_dict(), trainer)  # before a callback draws pictures of the weights

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._check(checkpoint["state_dict"], trainer)
        checkpoint["should_stop"] = trainer.should_stop
        for logger in trainer.loggers:
            logger.save()

    def _check(self, weights: Mapping[str, torch.Tensor], trainer: Trainer) -> None:
        checked = {name: tensor for name, tensor in weights.items() if name not in self._infinite_buffers}
        check_finite(checked, trainer.global_step)


def check_finite(weights: Mapping[str, torch.Tensor], step: int) -> None:
    """Raises LossNotFinite: a last step can spoil the weights after a loss that was still finite.

    The sum is tried first, because it is fast. If one weight is not finite, the sum is not finite. Very large weights
    can have such a sum, too, so then each weight is tried."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all():
            raise LossNotFinite(step, f"the weights in {name} are not finite")
