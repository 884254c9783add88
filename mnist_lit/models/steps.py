"""One optimiser step: through Lightning where it adds something, straight to torch where it adds only time."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from mnist_lit.models.updates import fast_update

if TYPE_CHECKING:
    from mnist_lit.models.base import DigitClassifier

# images, labels, a factor for the loss → the loss and the outputs, without their graph
Step = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")


def needs_lightning(trainer: Trainer, model: LightningModule) -> bool:
    """Whether Lightning's backward and step do more than call hooks: with several devices, with a scaled loss, or if
    someone listens to one of `HOOKS`. Calling them for no one, callback by callback, costs as much as a small
    network's forward pass."""
    return (
        trainer.world_size > 1
        or getattr(trainer.precision_plugin, "scaler", None) is not None
        or any(getattr(type(model), hook) is not getattr(LightningModule, hook) for hook in HOOKS)
        or any(getattr(type(it), hook) is not getattr(Callback, hook) for it in trainer.callbacks for hook in HOOKS)  # type: ignore[attr-defined]
    )


def through_lightning(model: "DigitClassifier", optimizer: LightningOptimizer) -> Step:
    return with_update(model, optimizer, optimizer.step, model.manual_backward)


def directly(model: "DigitClassifier", optimizer: LightningOptimizer) -> Step:
    """The same without the hooks; the step is still counted in `global_step`."""
    update = fast_update(optimizer.optimizer)

    def counted_update() -> None:
        optimizer._on_before_step()
        update()
        optimizer._on_after_step()

    return with_update(model, optimizer, counted_update)


def with_update(
    model: "DigitClassifier",
    optimizer: LightningOptimizer,
    update: Callable[[], object],
    backward: Callable[[Tensor], object] = Tensor.backward,
) -> Step:
    params = [param for group in optimizer.param_groups for param in group["params"]]
    profile = model.trainer.profiler.profile  # type: ignore[attr-defined]

    def step(images: Tensor, labels: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        with profile("forward"):
            outputs = model(images)
            loss = model.loss(outputs, labels)
        for param in params:
            param.grad = None  # zero_grad does the same, but looks twice: a twentieth of a small network's step
        with profile("backward"):
            backward(loss if weight == 1 else loss * weight)
        if model.gradient_clip_val is not None:  # not Lightning's way: it refuses fused optimisers in mixed precision
            torch.nn.utils.clip_grad_norm_(params, model.gradient_clip_val)
        update()
        return loss.detach(), outputs.detach()

    return step
