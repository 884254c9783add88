"""Ctrl-C and SIGTERM: finish the block, write last.ckpt, stop."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class RunInterrupted(BaseException):
    """The run was stopped by a signal, and its state is in last.ckpt. Not an Exception: no one should carry on."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


class StopOnSignal(Callback):
    """Notes the signal and acts between two blocks, where the state of the run is whole."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, last_checkpoint: Path) -> None:
        self.last_checkpoint = last_checkpoint
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._previous = {signum: signal.signal(signum, self._note) for signum in self.SIGNALS}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._received is not None and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            trainer.save_checkpoint(self.last_checkpoint)
            raise RunInterrupted(self._received)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_at_checkpoint()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop_at_checkpoint()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore()

    def _stop_at_checkpoint(self) -> None:
        if self._received is not None:  # an epoch has just ended, and with it last.ckpt was written
            raise RunInterrupted(self._received)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._received = signum

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous = {}
