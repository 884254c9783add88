"""Optimizer steps on a block of mini-batches, and the averages of their loss and accuracy.

A step goes through Lightning where that does more than call hooks, else directly. `model` is a DigitClassifier, which
imports this module.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mnist_lit import private_apis
from mnist_lit.data.loader import Block, MiniBatch
from mnist_lit.training.cuda_graph import ReplayedSteps, Step, can_replay

HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")  # of networks and callbacks
BEFORE_ZERO_GRAD = "on_before_zero_grad"  # of callbacks
StepHook = Callable[[Optimizer], object]


class BlockSteps:
    """The steps of a fit. `meter` averages the training loss and accuracy."""

    def __init__(self, log_every_n_steps: int) -> None:
        self.meter = TrainMeter(log_every_n_steps)
        self.replayed: ReplayedSteps | None = None

    def train(
        self, model: Any, block: Block, optimizer: LightningOptimizer, scheduler: LRScheduler | None
    ) -> tuple[Tensor, list[tuple[int, dict[str, float]]]]:
        """All optimizer steps of the block. Returns the last loss, and (step, metrics) of each logging window that is
        now full."""
        step = self._choose_step(model, block, optimizer)
        for batches in islice(block.split_into_steps(), steps_left(model.trainer)):
            loss, outputs = step(batches)
            labels = batches[0][1] if len(batches) == 1 else torch.cat([labels for _, labels, _ in batches])
            self.meter.update(loss, outputs, labels, optimizer.param_groups[0]["lr"])
            if scheduler is not None:
                scheduler.step()
        private_apis.log_at_global_step(model.trainer)
        return loss, self.meter.read(model.trainer.strategy.reduce)

    def release_memory(self) -> None:
        """A CUDA graph holds memory on the GPU."""
        self.replayed = None

    def _choose_step(self, model: Any, block: Block, optimizer: LightningOptimizer) -> Step:
        if needs_lightning(model.trainer, model):
            if is_scaled(model.trainer) or not private_apis.usable(private_apis.STEP_COUNTER):
                return make_step(model, optimizer, optimizer.step, model.manual_backward)  # it calls the hooks itself
            return direct_step(model, optimizer, model.manual_backward, list_step_hooks(model))
        if can_replay(model, block):
            if self.replayed is None or self.replayed.optimizer is not optimizer:
                with_update = partial(make_step, model, optimizer)
                self.replayed = ReplayedSteps(model, optimizer, direct_step(model, optimizer), with_update)
            return self.replayed
        return direct_step(model, optimizer)


def steps_left(trainer: Any) -> int | None:
    """The steps that `max_steps` still allows; None if it has no limit."""
    return None if trainer.max_steps < 0 else trainer.max_steps - trainer.global_step


def needs_lightning(trainer: Any, model: LightningModule) -> bool:
    """Whether Lightning's backward and step do more than call hooks: with several devices, with a scaled loss, or if a
    callback listens to one of `HOOKS`. Calling the hooks of every callback for nothing costs as much as the forward
    pass of a small network."""
    return (
        trainer.world_size > 1
        or is_scaled(trainer)
        or any(getattr(type(model), hook) is not getattr(LightningModule, hook) for hook in (*HOOKS, "backward"))
        or any(has_hook(it, hook) for it in trainer.callbacks for hook in (*HOOKS, BEFORE_ZERO_GRAD))
        or not private_apis.usable(private_apis.STEP_COUNTER)
    )


def is_scaled(trainer: Any) -> bool:
    """Whether the loss is scaled, as in 16-mixed."""
    return getattr(trainer.precision_plugin, "scaler", None) is not None


def list_step_hooks(model: Any) -> list[StepHook]:
    """`on_before_optimizer_step` of the callbacks and of the network, in the order of Lightning."""
    trainer = model.trainer
    listening = [it for it in trainer.callbacks if has_hook(it, "on_before_optimizer_step")]
    return [*(partial(it.on_before_optimizer_step, trainer, model) for it in listening), model.on_before_optimizer_step]


def has_hook(callback: Callback, hook: str) -> bool:
    """Whether its class or, as in a LambdaCallback, the object itself has this hook."""
    return getattr(getattr(callback, hook), "__func__", None) is not getattr(Callback, hook)


def direct_step(
    model: Any,
    optimizer: LightningOptimizer,
    backward: Callable[[Tensor], object] = Tensor.backward,
    hooks: Sequence[StepHook] = (),
) -> Step:
    """A step with these hooks alone. It counts in `global_step` as a step of Lightning does."""
    update = private_apis.fast_update(optimizer.optimizer)
    return make_step(model, optimizer, lambda: private_apis.counted(optimizer, update), backward, hooks)


def make_step(
    model: Any,
    optimizer: LightningOptimizer,
    update: Callable[[], object],
    backward: Callable[[Tensor], object] = Tensor.backward,
    hooks: Sequence[StepHook] = (),
) -> Step:
    params = [param for group in optimizer.param_groups for param in group["params"]]
    profile = model.trainer.profiler.profile
    device = model.device.type
    is_mixed = torch.is_autocast_enabled(device)  # Lightning calls training_step inside autocast
    zero_grad_hooks = [it.on_before_zero_grad for it in model.trainer.callbacks if has_hook(it, BEFORE_ZERO_GRAD)]

    def outside_autocast() -> AbstractContextManager[object]:
        return torch.autocast(device, enabled=False) if is_mixed else nullcontext()

    def add_gradients(images: Tensor, labels: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        with profile("forward"):
            outputs = model(images)
            loss = model.loss(outputs, labels)
        with profile("backward"), outside_autocast():
            backward(loss if weight == 1 else loss * weight)
        return loss.detach(), outputs.detach()

    def step(batches: list[MiniBatch]) -> tuple[Tensor, Tensor]:
        for hook in zero_grad_hooks:
            hook(model.trainer, model, optimizer)
        for param in params:
            param.grad = None  # faster than zero_grad: that costs a twentieth of a small network's step
        results = [add_gradients(*batch) for batch in batches]
        with outside_autocast():
            for before_step in hooks:
                before_step(optimizer.optimizer)
            if model.gradient_clip_val is not None:  # Lightning's clipping refuses fused optimizers in mixed precision
                torch.nn.utils.clip_grad_norm_(params, model.gradient_clip_val)
            update()
        return results[0] if len(results) == 1 else join_results(results)

    return step


def join_results(results: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The mean loss over the samples of several mini-batches, and all their outputs."""
    losses, outputs = zip(*results, strict=True)
    samples = [len(part) for part in outputs]
    return sum(loss * n for loss, n in zip(losses, samples, strict=True)) / sum(samples), torch.cat(outputs)


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
        """Empty without samples."""
        if not self.samples:
            return {}
        return {"train_loss": self.loss / self.samples, "train_acc": self.correct / self.samples}


@dataclass
class TrainMeter:
    """Averages over windows of `every_n_steps` optimizer steps and over epochs, whatever blocks the steps come in."""

    every_n_steps: int
    print_every_n_steps: int | None = None
    step: int = 0
    window: Sums = field(default_factory=Sums)
    epoch: Sums = field(default_factory=Sums)
    _printed: Sums = field(default_factory=Sums)
    _to_print: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    _pending: list[tuple[Tensor, Tensor, Tensor, float]] = field(default_factory=list)

    def update(self, loss: Tensor, outputs: Tensor, labels: Tensor, lr: float) -> None:
        """Note one step. The tensors have no graph. Nothing is read from the device."""
        self._pending.append((loss, outputs, labels, lr))

    def read(self, reduce: Callable[..., Any] | None = None) -> list[tuple[int, dict[str, float]]]:
        """Read what `update` has noted; the (step, metrics) of each window that it completes. `reduce` adds up a
        tensor over the ranks, as a strategy's does with `reduce_op="sum"`.

        Raises:
            LossNotFinite: naming the first step at which the loss was NaN or infinite.
        """
        pending, self._pending = self._pending, []  # also gone if a loss is not finite
        losses, outputs, labels, rates = zip(*pending, strict=True)
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
            if self.print_every_n_steps is not None:
                self._printed.add(loss, correct, count)
                if self.step % self.print_every_n_steps == 0:
                    self._to_print.append((self.step, self._printed.means()))
                    self._printed = Sums()
        return completed

    def take_printed(self) -> list[tuple[int, dict[str, float]]]:
        """(step, metrics) of the windows of `print_every_n_steps` steps that are full and were not taken yet."""
        lines, self._to_print = self._to_print, []
        return lines

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
