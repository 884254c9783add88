"""The optimiser's update without its preparations: torch's fused kernels, with arguments kept for a whole block."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

Kernel = Callable[[list[Tensor]], object]


def fast_update(optimizer: Optimizer) -> Callable[[], object]:
    """What does the same as `optimizer.step`, bit for bit; good until someone else changes the optimiser's state.

    At each step torch puts together and checks what it hands to its kernel: on a CPU 0.2 ms, a third of a small
    network's step. Hyper-parameters are read at each step, for a schedule changes them.
    """
    params = _trained(optimizer)
    kernel = _kernel(optimizer, params) if all(param.device.type == "cpu" for param in params) else None
    if kernel is None:
        return optimizer.step

    def update() -> None:
        grads = [param.grad for param in params]
        if any(grad is None for grad in grads):  # a layer that this batch did not pass through
            optimizer.step()
        else:
            with torch.no_grad():
                kernel(cast(list[Tensor], grads))

    return update


def recordable_update(optimizer: Optimizer, lr: Tensor) -> Callable[[], object] | None:
    """The same for a CUDA graph, which would otherwise keep the learning rate of the step that it was recorded in: it
    is read from `lr`, a scalar float32 on the device. None for an optimiser without such a kernel, or before its first
    step."""
    params = _trained(optimizer)
    kernel = _kernel(optimizer, params, lr)
    if kernel is None:
        return None

    def update() -> None:
        with torch.no_grad():
            kernel([cast(Tensor, param.grad) for param in params])

    return update


def _trained(optimizer: Optimizer) -> list[Tensor]:
    return [param for group in optimizer.param_groups for param in group["params"] if param.requires_grad]


def _kernel(optimizer: Optimizer, params: list[Tensor], lr: Tensor | None = None) -> Kernel | None:
    """None where torch has to do it all: at first, for other optimisers, with listeners."""
    if len(optimizer.param_groups) > 1 or optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        return None
    group = optimizer.param_groups[0]
    fresh = any(param.grad is None for param in params)
    if fresh or not group.get("fused"):
        return None
    states = [optimizer.state.get(param, {}) for param in params]
    if type(optimizer) in (Adam, AdamW) and all(states) and not group["amsgrad"]:
        return _adam(group, params, states, lr)
    if type(optimizer) is SGD and (all(states) or group["momentum"] == 0):
        return _sgd(group, params, states, lr)
    return None


def _adam(group: dict[str, Any], params: list[Tensor], states: list[dict[str, Any]], lr: Tensor | None) -> Kernel:
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


def _sgd(group: dict[str, Any], params: list[Tensor], states: list[dict[str, Any]], lr: Tensor | None) -> Kernel:
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
