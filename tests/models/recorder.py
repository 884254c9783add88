"""A stand-in for a CUDA graph on the CPU: it records operations and replays them on the same memory.

As on a GPU, a replayed step keeps every value that the recorded step got from Python, such as a learning rate, a count
or a batch. Reading a number from the device is an error. Recording leaves no trace.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Results = tuple[Tensor, Tensor]
READS_FROM_DEVICE = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}


class Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], list[Tensor]]] = []
        self.own: set[int] = set()  # addresses of the memory that the recorded operations allocate
        self.before: list[tuple[Tensor, Tensor]] = []  # each tensor that they overwrite, with its former content

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in READS_FROM_DEVICE:
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        for tensor in find_overwritten(func, args, kwargs):
            if tensor.untyped_storage().data_ptr() not in self.own:
                self.before.append((tensor, tensor.clone()))
        results = func(*args, **kwargs)
        there = {tensor.untyped_storage().data_ptr() for tensor in find_tensors((args, kwargs))}
        made = [tensor for tensor in find_tensors(results) if tensor.untyped_storage().data_ptr() not in there]
        self.own |= {tensor.untyped_storage().data_ptr() for tensor in made}
        self.operations.append((func, args, kwargs, made))
        return results

    def undo(self) -> None:
        for tensor, content in reversed(self.before):
            tensor.copy_(content)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, made in self.operations:
            results = func(*args, **kwargs)
            there = {tensor.untyped_storage().data_ptr() for tensor in find_tensors((args, kwargs))}
            again = [tensor for tensor in find_tensors(results) if tensor.untyped_storage().data_ptr() not in there]
            for old, new in zip(made, again, strict=True):
                old.copy_(new)


def find_tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def find_overwritten(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    arguments = func._schema.arguments
    given = dict(zip((argument.name for argument in arguments), args, strict=False)) | kwargs
    changing = [argument.name for argument in arguments if argument.alias_info and argument.alias_info.is_write]
    changing += ["running_mean", "running_var"]  # batch norm changes them, but its schema does not say so
    return find_tensors([given[name] for name in changing if name in given])


def record(step: Callable[[], Results]) -> tuple[Callable[[], object], Results]:
    """Replaces `mnist_lit.training.cuda_graph.record`."""
    recorder = Recorder()
    numbers = torch.get_rng_state()
    with recorder:
        results = step()
    with torch.no_grad():
        recorder.undo()
    torch.set_rng_state(numbers)
    return recorder.replay, results
