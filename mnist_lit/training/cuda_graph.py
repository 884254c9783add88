"""A training step recorded once as a CUDA graph and replayed.

One call then starts all kernels of a step. Otherwise a small network's step lasts as long as Python needs to start them
one by one.
"""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from mnist_lit import private_apis
from mnist_lit.data.loader import Block, MiniBatch
from mnist_lit.private_apis import recordable_update

log = logging.getLogger(__name__)

DEVICE = "cuda"
Results = tuple[Tensor, Tensor]
# the mini-batches of one optimizer step → their mean loss and their outputs, without their graph
Step = Callable[[list[MiniBatch]], Results]


def can_replay(model: Any, block: Block) -> bool:
    """Network and loss have to say so themselves: a class derived from one that says so may do something else.
    `trainer.steps_per_execution=1` switches the recording off."""
    is_static = all(vars(type(part)).get("static_graph", False) for part in (model, model.loss))
    return model.device.type == DEVICE and is_static and len(block) > 1 and block.accumulate == 1


def record(step: Callable[[], Results]) -> tuple[Callable[[], object], Results]:
    """A function that repeats the step, and the tensors in which its results then are. Recording changes nothing."""
    graph = torch.cuda.CUDAGraph()
    back_to_this_stream = torch.cuda.stream(torch.cuda.current_stream())  # some releases stay in theirs after an error
    with _no_garbage_collection(), back_to_this_stream, torch.cuda.graph(graph):
        results = step()
    return graph.replay, results


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """An earlier graph that is freed during the recording would spoil it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class ReplayedSteps:
    """The steps of a fit in one process. Some steps run kernel by kernel (`eager`): the first ones, in which torch sets
    up what it cannot set up while recording, those of batches that are smaller than the first one, and those after a
    change of what the graph holds as constants.

    `with_update` makes a step that ends with another update of the weights.
    """

    WARM_UP = 3

    def __init__(
        self,
        model: Any,
        optimizer: LightningOptimizer,
        eager: Step,
        with_update: Callable[[Callable[[], object]], Step],
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.eager = eager
        self.with_update = with_update
        self.lr = torch.zeros((), device=model.device)
        self.steps_made = 0
        self.replay: Callable[[], object] | None = None

    def __call__(self, batches: list[MiniBatch]) -> Results:
        ((images, labels, _),) = batches
        if self.steps_made == 0:
            self.images, self.labels = images.clone(), labels.clone()
        if self.steps_made == self.WARM_UP:
            self._record()
        self.steps_made += 1
        if self.replay is None or len(labels) < len(self.labels) or self._fixed() != self.recorded:
            return self.eager(batches)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.lr.fill_(self.optimizer.param_groups[0]["lr"])
        private_apis.counted(self.optimizer, self.replay)
        loss, outputs = self.results
        return loss.clone(), outputs.clone()

    def _fixed(self) -> list[Any]:
        """What the graph holds as constants: the options of the optimizer, except the learning rate, and which weights
        are trained. A schedule can change the momentum at each step."""
        groups = self.optimizer.param_groups
        options = [{name: value for name, value in group.items() if name not in ("lr", "params")} for group in groups]
        return [options, [param.requires_grad for group in groups for param in group["params"]]]

    def _record(self) -> None:
        update = recordable_update(self.optimizer.optimizer, self.lr)
        if update is None:  # an optimizer without a fused kernel
            return
        step, self.recorded = self.with_update(update), self._fixed()
        try:
            self.replay, self.results = record(lambda: step([(self.images, self.labels, 1)]))
        except RuntimeError as error:
            reason = error.__context__ or error  # what stopped the recording
            log.warning(
                f"{type(self.model).__name__} cannot be recorded as a CUDA graph; its steps run kernel by kernel: "
                f"{str(reason).splitlines()[0]}"
            )
