"""Training loss and accuracy: kept on the device step by step, read and averaged once a block."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor


class LossNotFinite(ArithmeticError):
    """The training loss or the weights became NaN or infinite."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(
            f"{what} at step {step}. Try a tenth of optimizer.lr, or trainer.gradient_clip_val=1, "
            "or scheduler=onecycle, which starts slowly"
        )
        self.step = step


@dataclass
class Sums:
    loss: float = 0.0
    correct: float = 0.0
    samples: float = 0

    def add(self, loss: float, correct: float, samples: float) -> None:
        self.loss += loss
        self.correct += correct
        self.samples += samples

    def means(self) -> dict[str, float]:
        return {"train_loss": self.loss / self.samples, "train_acc": self.correct / self.samples}


@dataclass
class TrainMeter:
    """Averages over windows of `every_n_steps` optimiser steps and over epochs, whatever blocks the steps come in."""

    every_n_steps: int
    step: int = 0
    window: Sums = field(default_factory=Sums)
    epoch: Sums = field(default_factory=Sums)
    _pending: list[tuple[Tensor, Tensor, Tensor, float]] = field(default_factory=list)

    def update(self, loss: Tensor, outputs: Tensor, labels: Tensor, lr: float) -> None:
        """Note one step; nothing is read from the device."""
        self._pending.append((loss.detach(), outputs.detach(), labels, lr))

    def read(self, reduce: Callable[..., Any] | None = None) -> list[tuple[int, dict[str, float]]]:
        """Read what `update` has noted; the (step, metrics) of each window that it completes. `reduce` adds up a
        tensor over the ranks, as a strategy's does with `reduce_op="sum"`.

        Raises:
            LossNotFinite: naming the first step at which the loss was NaN or infinite.
        """
        losses, outputs, labels, rates = zip(*self._pending, strict=True)
        right = torch.cat(outputs).argmax(1) == torch.cat(labels)
        samples = torch.tensor([len(batch) for batch in labels], device=right.device)
        so_far = right.cumsum(0)[samples.cumsum(0) - 1]
        corrects = so_far.diff(prepend=so_far.new_zeros(1))
        sums = torch.stack((torch.stack(losses).float() * samples, corrects, samples), 1)
        if reduce is not None:
            sums = reduce(sums, reduce_op="sum")
        completed = []
        for (loss, correct, count), lr in zip(sums.tolist(), rates, strict=True):
            self.step += 1
            if not math.isfinite(loss):
                raise LossNotFinite(self.step, f"the training loss became {loss}")
            self.window.add(loss, correct, count)
            self.epoch.add(loss, correct, count)
            if self.step % self.every_n_steps == 0:
                completed.append((self.step, self.window.means() | {"lr": lr}))
                self.window = Sums()
        self._pending.clear()
        return completed

    def end_epoch(self) -> dict[str, float]:
        """The epoch's means; the next epoch starts from nothing."""
        means = self.epoch.means()
        self.epoch = Sums()
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "window": asdict(self.window), "epoch": asdict(self.epoch)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.window, self.epoch = Sums(**state["window"]), Sums(**state["epoch"])
