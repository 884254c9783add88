"""What a CUDA graph does, done on the CPU: operations are recorded, and replayed on the very same memory.

So whatever a recorded step takes from Python (a learning rate, a count, a batch) stays as it was, reading a number from
the device is refused, and recording leaves no trace, as on a GPU.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Results = tuple[Tensor, Tensor]
READING = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}


class Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        self.own: set[int] = set()  # memory that the recorded operations have asked for
        self.before: list[tuple[Tensor, Tensor]] = []  # what they overwrite, and what stood there

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in READING:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        for tensor in written(func, args, kwargs):
            if tensor.untyped_storage().data_ptr() not in self.own:
                self.before.append((tensor, tensor.clone()))
        results = func(*args, **kwargs)
        there = {tensor.untyped_storage().data_ptr() for tensor in tensors((args, kwargs))}
        made = [tensor for tensor in tensors(results) if tensor.untyped_storage().data_ptr() not in there]
        self.own |= {tensor.untyped_storage().data_ptr() for tensor in made}
        self.operations.append((func, args, kwargs, made))
        return results

    def forget(self) -> None:
        for tensor, content in reversed(self.before):
            tensor.copy_(content)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, made in self.operations:
            results = func(*args, **kwargs)
            there = {tensor.untyped_storage().data_ptr() for tensor in tensors((args, kwargs))}
            again = [tensor for tensor in tensors(results) if tensor.untyped_storage().data_ptr() not in there]
            for old, new in zip(made, again, strict=True):
                old.copy_(new)


def tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    arguments = func._schema.arguments
    given = dict(zip((argument.name for argument in arguments), args, strict=False)) | kwargs
    changing = [argument.name for argument in arguments if argument.alias_info and argument.alias_info.is_write]
    changing += ["running_mean", "running_var"]  # which batch norm's schema says nothing of
    return tensors([given[name] for name in changing if name in given])


def record(step: Callable[[], Results]) -> tuple[Callable[[], object], Results]:
    """In the place of `mnist_lit.models.replay.record`."""
    recorder = Recorder()
    numbers = torch.get_rng_state()
    with recorder:
        results = step()
    with torch.no_grad():
        recorder.forget()
    torch.set_rng_state(numbers)
    return recorder.replay, results
