"""One optimiser step: through Lightning where it adds something, straight to torch where it adds only time."""

from collections.abc import Callable

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from mnist_lit.models.updates import fast_update

Step = Callable[[Tensor], None]
HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")


def step_of(model: LightningModule, optimizer: LightningOptimizer, clip_val: float | None) -> Step:
    """What makes one optimiser step from a loss. Good for the steps of one block."""
    way = through_lightning if needs_lightning(model.trainer, model) else directly
    return way(model, optimizer, clip_val)


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


def through_lightning(model: LightningModule, optimizer: LightningOptimizer, clip_val: float | None) -> Step:
    profile = model.trainer.profiler.profile  # type: ignore[attr-defined]

    def step(loss: Tensor) -> None:
        optimizer.zero_grad()
        with profile("backward"):
            model.manual_backward(loss)
        if clip_val is not None:
            model.clip_gradients(optimizer.optimizer, clip_val)
        optimizer.step()

    return step


def directly(model: LightningModule, optimizer: LightningOptimizer, clip_val: float | None) -> Step:
    """The same without the hooks; the step is still counted in `global_step`."""
    profile = model.trainer.profiler.profile  # type: ignore[attr-defined]
    params = [param for group in optimizer.param_groups for param in group["params"]]
    update = fast_update(optimizer.optimizer)

    def step(loss: Tensor) -> None:
        for param in params:
            param.grad = None  # zero_grad does the same, but looks twice: a twentieth of a small network's step
        with profile("backward"):
            loss.backward()
        if clip_val is not None:
            model.clip_gradients(optimizer.optimizer, clip_val)
        optimizer._on_before_step()
        update()
        optimizer._on_after_step()

    return step
