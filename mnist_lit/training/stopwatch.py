"""How long the fit took, and how much of it was training rather than validation and what ends an epoch."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Stopwatch(Callback):
    """`fit_seconds`: from the first epoch's start to the last one's end. `train_seconds`: the part spent on batches,
    and on checkpoints in between. Both go on counting in a resumed run."""

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
