"""One optimiser step: through Lightning where it adds something, straight to torch where it adds only time."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

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


def make_step(model: LightningModule, optimizer: LightningOptimizer, loss: Tensor, clip_val: float | None) -> None:
    """Lightning's way."""
    optimizer.zero_grad()
    with model.trainer.profiler.profile("backward"):  # type: ignore[attr-defined]
        model.manual_backward(loss)
    if clip_val is not None:
        model.clip_gradients(optimizer.optimizer, clip_val)
    optimizer.step()


def make_step_directly(
    model: LightningModule, optimizer: LightningOptimizer, loss: Tensor, clip_val: float | None
) -> None:
    """The same without the hooks; the step is still counted in `global_step`."""
    for group in optimizer.optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None  # zero_grad does the same, but looks twice: a twentieth of a small network's step
    with model.trainer.profiler.profile("backward"):  # type: ignore[attr-defined]
        loss.backward()
    if clip_val is not None:
        model.clip_gradients(optimizer.optimizer, clip_val)
    optimizer._on_before_step()
    optimizer.optimizer.step()
    optimizer._on_after_step()
