"""All uses of private parts of torch and Lightning.

For each there is a public way with the same result, which is slower. `usable` tries each of them once in a process. If
one fails, the run takes the public way, with the same weights, and a warning in its log says so.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

FUSED_KERNELS, STEP_HOOKS, STEP_COUNTER = "fused kernels", "step hooks", "step counter"
LOGGED_STEP = "step of Lightning's logs"
FITTED_DATA, GPU_COUNT, JIT_REGISTRY = "fitted data", "GPU count", "jit registry"

Kernel = Callable[[list[Tensor]], object]  # makes the update from the gradients
log = logging.getLogger(__name__)


@cache
def usable(name: str) -> bool:
    try:
        TRIALS[name]()
    except Exception as error:  # another release can fail in any way
        log.warning(f"torch or Lightning has changed: {name} ({type(error).__name__}: {error}). The public way is used")
        return False
    return True


def try_all() -> None:
    """Log a warning for each that fails."""
    for name in TRIALS:
        usable(name)


# ---- fused kernels: the optimizer's update, with arguments kept for a whole block. Public way: optimizer.step() ----


def fast_update(optimizer: Optimizer) -> Callable[[], object]:
    """Does the same as `optimizer.step`, bit for bit. It is valid until other code changes the optimizer's state.

    At each step torch collects and checks the arguments of its kernel: 0.2 ms on a CPU, a third of a small network's
    step. The hyper-parameters are read at each step, because a schedule changes them.
    """
    params = _trained_params(optimizer)
    kernel = _kernel(optimizer, params) if all(param.device.type == "cpu" for param in params) else None
    if kernel is None:
        return optimizer.step

    def update() -> None:
        grads = [param.grad for param in params]
        if any(grad is None for grad in grads):  # a layer that this batch did not use
            optimizer.step()
        else:
            with torch.no_grad():
                kernel(cast(list[Tensor], grads))

    return update


def recordable_update(optimizer: Optimizer, lr: Tensor) -> Callable[[], object] | None:
    """The same for a CUDA graph. A graph keeps the numbers of the step that it recorded, so the learning rate is read
    from `lr`, a float32 scalar on the device. None for an optimizer without such a kernel, or before its first step."""
    params = _trained_params(optimizer)
    kernel = _kernel(optimizer, params, lr)
    if kernel is None:
        return None

    def update() -> None:
        with torch.no_grad():
            kernel([cast(Tensor, param.grad) for param in params])

    return update


def _trained_params(optimizer: Optimizer) -> list[Tensor]:
    return [param for group in optimizer.param_groups for param in group["params"] if param.requires_grad]


def _kernel(optimizer: Optimizer, params: list[Tensor], lr: Tensor | None = None) -> Kernel | None:
    """None where the optimizer has to do it itself: at the first step, for other optimizers, with hooks."""
    if len(optimizer.param_groups) > 1 or _has_step_hooks(optimizer):
        return None
    group = optimizer.param_groups[0]
    is_first = any(param.grad is None for param in params)
    if is_first or not group.get("fused") or not usable(FUSED_KERNELS):
        return None
    states = [optimizer.state.get(param, {}) for param in params]
    if type(optimizer) in (Adam, AdamW) and all(states) and not group["amsgrad"]:
        return _adam_kernel(group, params, states, lr)
    if type(optimizer) is SGD and (all(states) or group["momentum"] == 0):
        return _sgd_kernel(group, params, states, lr)
    return None


def _adam_kernel(
    group: dict[str, Any], params: list[Tensor], states: list[dict[str, Any]], lr: Tensor | None
) -> Kernel:
    """The update of Adam or AdamW. A learning rate `lr` on the device replaces that of the group."""
    steps, means, squares = ([state[name] for state in states] for name in ("step", "exp_avg", "exp_avg_sq"))
    kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_

    def update(grads: list[Tensor]) -> None:
        torch._foreach_add_(steps, 1)
        kernel(
            params,
            grads,
            means,
            squares,
            [],
            steps,
            lr=group["lr"] if lr is None else lr,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=group["maximize"],
        )

    return update


def _sgd_kernel(group: dict[str, Any], params: list[Tensor], states: list[dict[str, Any]], lr: Tensor | None) -> Kernel:
    """The update of SGD after its first step."""
    momenta = [state["momentum_buffer"] for state in states if group["momentum"] != 0]

    def update(grads: list[Tensor]) -> None:
        torch._fused_sgd_(
            params,
            grads,
            momenta,
            lr=group["lr"] if lr is None else lr,
            momentum=group["momentum"],
            dampening=group["dampening"],
            weight_decay=group["weight_decay"],
            nesterov=group["nesterov"],
            maximize=group["maximize"],
            is_first_step=False,
        )

    return update


def _try_fused_kernels() -> None:
    """Compares two steps with those of the optimizer itself."""
    for make, kernel in ((Adam, _adam_kernel), (AdamW, _adam_kernel), (SGD, _sgd_kernel)):
        options: dict[str, Any] = {"lr": 0.1, "fused": True} | ({"momentum": 0.9} if make is SGD else {})
        ours, theirs = (torch.linspace(-1, 1, 5).requires_grad_() for _ in range(2))
        own, other = make([ours], **options), make([theirs], **options)
        for param in (ours, theirs):
            param.grad = torch.full_like(param, 0.3)
        own.step()
        other.step()
        with torch.no_grad():
            kernel(own.param_groups[0], [ours], [own.state[ours]], None)([torch.full_like(ours, 0.3)])
        other.step()
        if not torch.equal(ours, theirs):
            raise ArithmeticError(f"the update of {make.__name__} gives other weights than the optimizer itself")


# ---- step hooks: is a hook registered on optimizer.step? Public way: assume that one is ----------------------------


def _has_step_hooks(optimizer: Optimizer) -> bool:
    if not usable(STEP_HOOKS):
        return True
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)


def _try_step_hooks() -> None:
    optimizer = SGD([torch.zeros(1)], lr=0.1)
    hooks = optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks
    optimizer.register_step_pre_hook(lambda *_: None)
    optimizer.register_step_post_hook(lambda *_: None)
    if not all(hooks):
        raise AttributeError("registered hooks are not found")


# ---- step counter: `global_step` without Lightning's own step. Public way: LightningOptimizer.step -----------------


def counted(optimizer: LightningOptimizer, update: Callable[[], object]) -> None:
    """Make an update that Lightning counts as a step of this optimizer."""
    optimizer._on_before_step()
    update()
    optimizer._on_after_step()


def _try_step_counter() -> None:
    optimizer = LightningOptimizer(SGD([torch.zeros(1)], lr=0.1))
    optimizer._on_before_step()
    optimizer._on_after_step()


# ---- step of Lightning's logs. Public way: callbacks log at the number of the block, not of the step -----------------


def log_at_global_step(trainer: Trainer) -> None:
    """Let `self.log` of callbacks and networks write at `global_step`. Lightning counts calls of `training_step`."""
    if usable(LOGGED_STEP):
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


def _try_logged_step() -> None:
    if not hasattr(_TrainingEpochLoop(cast(Trainer, None), 0, 0), "_batches_that_stepped"):
        raise AttributeError("_batches_that_stepped")


# ---- fitted data. Public way: the last data module that the trainer got, even if it fits a loader now ---------------


def fits_data_module(trainer: Trainer) -> bool:
    """Whether the trainer's fit takes its data module, and no loader that came later."""
    return not usable(FITTED_DATA) or trainer.fit_loop._data_source.instance is trainer.datamodule  # type: ignore[attr-defined]


def _try_fitted_data() -> None:
    if not hasattr(_FitLoop(cast(Trainer, None), 0, 0)._data_source, "instance"):
        raise AttributeError("_data_source.instance")


# ---- GPU count. Public way: torch asks anew at every step ----------------------------------------------------------


def remember_missing_gpu() -> None:
    """Stop torch from looking for a GPU at every step where there is none.

    Its optimizers ask at each step, and a CUDA build then loads the driver's library again: a sixth of a small
    network's step. The answer cannot change while the process lives."""
    if usable(GPU_COUNT) and torch.cuda.device_count() == 0:
        torch.cuda._cached_device_count = 0


def _try_gpu_count() -> None:
    if not hasattr(torch.cuda, "_cached_device_count"):
        raise AttributeError("torch.cuda._cached_device_count")


# ---- jit registry. Public way: half a megabyte of memory stays with each traced network ----------------------------


def forget_traces() -> None:
    """torch.jit.trace keeps the types of each network that it traces (pytorch issue 35600)."""
    if usable(JIT_REGISTRY):
        _try_jit_registry()


def _try_jit_registry() -> None:
    torch._C._jit_clear_class_registry()
    torch.jit._state._clear_class_state()


TRIALS: dict[str, Callable[[], None]] = {
    FUSED_KERNELS: _try_fused_kernels,
    STEP_HOOKS: _try_step_hooks,
    STEP_COUNTER: _try_step_counter,
    LOGGED_STEP: _try_logged_step,
    FITTED_DATA: _try_fitted_data,
    GPU_COUNT: _try_gpu_count,
    JIT_REGISTRY: _try_jit_registry,
}
