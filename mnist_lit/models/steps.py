"""One optimiser step: through Lightning where it adds something, straight to torch where it adds only time."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
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


def forward(model: "DigitClassifier", images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    with profile(model, "forward"):
        outputs = model(images)
        return outputs, model.loss(outputs, labels)


def clip_gradients(model: "DigitClassifier", params: Iterable[Tensor]) -> None:
    """Lightning's own refuses fused optimisers in mixed precision, for the sake of float16 alone."""
    if model.gradient_clip_val is not None:
        torch.nn.utils.clip_grad_norm_(params, model.gradient_clip_val)


def params_of(optimizer: LightningOptimizer) -> list[Tensor]:
    return [param for group in optimizer.param_groups for param in group["params"]]


def profile(model: LightningModule, part: str) -> AbstractContextManager[object]:
    return model.trainer.profiler.profile(part)  # type: ignore[attr-defined]


def through_lightning(model: "DigitClassifier", optimizer: LightningOptimizer) -> Step:
    params = params_of(optimizer)

    def step(images: Tensor, labels: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        outputs, loss = forward(model, images, labels)
        optimizer.zero_grad()
        with profile(model, "backward"):
            model.manual_backward(loss if weight == 1 else loss * weight)
        clip_gradients(model, params)
        optimizer.step()
        return loss.detach(), outputs.detach()

    return step


def directly(model: "DigitClassifier", optimizer: LightningOptimizer) -> Step:
    """The same without the hooks; the step is still counted in `global_step`."""
    update = fast_update(optimizer.optimizer)

    def counted_update() -> None:
        optimizer._on_before_step()
        update()
        optimizer._on_after_step()

    return with_update(model, optimizer, counted_update)


def with_update(model: "DigitClassifier", optimizer: LightningOptimizer, update: Callable[[], object]) -> Step:
    params = params_of(optimizer)

    def step(images: Tensor, labels: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        outputs, loss = forward(model, images, labels)
        for param in params:
            param.grad = None  # zero_grad does the same, but looks twice: a twentieth of a small network's step
        with profile(model, "backward"):
            (loss if weight == 1 else loss * weight).backward()
        clip_gradients(model, params)
        update()
        return loss.detach(), outputs.detach()

    return step
