"""Ctrl-C and SIGTERM within a fit: finish the block, write last.ckpt, stop."""

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lit.signals import STOPPING, RunInterrupted

PATIENCE = 3.0  # seconds that a validation may go on after a signal; who sends one often kills soon after


class StopOnSignal(Callback):
    """In training, notes the signal and acts between two blocks, where the state of the run is whole. Before and after
    it, when there is nothing to save, the handlers that were there already are in force."""

    def __init__(self, last_checkpoint: Path) -> None:
        self.last_checkpoint = last_checkpoint
        self._received: int | None = None
        self._received_at = 0.0
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._previous = {signum: signal.signal(signum, self._note) for signum in STOPPING}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._all_ranks_stop(trainer) or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        trainer.save_checkpoint(self.last_checkpoint)
        raise RunInterrupted(self._received or signal.SIGTERM)

    def on_validation_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        if self._received is not None and time.monotonic() - self._received_at > PATIENCE:
            raise RunInterrupted(self._received)  # the epoch since the last checkpoint is trained again

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_at_checkpoint()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_at_checkpoint()
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore()

    def _all_ranks_stop(self, trainer: Trainer) -> bool:
        """A signal reaches the ranks one after the other; they stop at the same step, because they wait for another."""
        return trainer.strategy.reduce_boolean_decision(self._received is not None, all=False)

    def _stop_at_checkpoint(self) -> None:
        if self._received is not None:  # an epoch has just ended, and with it last.ckpt was written
            raise RunInterrupted(self._received)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._received, self._received_at = signum, time.monotonic()

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}
