"""What a checkpoint must hold beyond Lightning's own state, so that a resumed run is the run that never stopped."""

import random
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lit.models.meter import LossNotFinite

NumpyState = tuple[str, np.ndarray, int, int, float]


def check_finite(weights: Mapping[str, torch.Tensor], step: int) -> None:
    """Raises LossNotFinite: a last step can spoil the weights after a loss that was still good."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise LossNotFinite(step, f"the weights in {name} were no longer finite")


class RunState(Callback):
    """Keeps the states of the random number generators (dropout draws from them), and writes the logs out before each
    checkpoint, so that what a resumed run is not going to log again is safe already.

    `started` tells a fault in a checkpoint's content from one in training.
    """

    def __init__(self) -> None:
        self.started = False
        self._loaded: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        _, words, position, has_gauss, gauss = cast(NumpyState, np.random.get_state(legacy=True))
        version, integers, normal = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
            "numpy": [torch.from_numpy(words.astype(np.int64)), position, has_gauss, gauss],
            "python": [version, torch.tensor(integers), normal],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._loaded = state_dict

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        network = f"{type(pl_module).__module__}.{type(pl_module).__qualname__}"
        if (checkpoint["network"], checkpoint["hyper_parameters"]) != (network, dict(pl_module.hparams)):
            raise ValueError(f"it holds another network: {checkpoint['network']} {checkpoint['hyper_parameters']}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._loaded is not None:  # not earlier: building the network and its optimiser draws numbers, too
            self._restore(self._loaded)
        self.started = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        check_finite(pl_module.state_dict(), trainer.global_step)  # before anyone draws a picture of them

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        check_finite(checkpoint["state_dict"], trainer.global_step)
        for logger in trainer.loggers:
            logger.save()

    def _restore(self, state: dict[str, Any]) -> None:
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"])  # of this rank's device; all ranks draw alike
        words, position, has_gauss, gauss = state["numpy"]
        np.random.set_state(("MT19937", words.numpy().astype(np.uint32), position, has_gauss, gauss))
        version, integers, normal = state["python"]
        random.setstate((version, tuple(integers.tolist()), normal))
