"""A training step recorded once as a CUDA graph and replayed: one call starts all its kernels, where a small network's
step otherwise lasts as long as Python needs to start them one by one."""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from mnist_lit.data.loader import Block
from mnist_lit.models.steps import directly, with_update
from mnist_lit.models.updates import recordable_update

if TYPE_CHECKING:
    from mnist_lit.models.base import DigitClassifier

log = logging.getLogger(__name__)

DEVICE = "cuda"
Results = tuple[Tensor, Tensor]


def can_replay(model: "DigitClassifier", block: Block) -> bool:
    """Only what a class says of itself counts: one derived from it may do something else in its forward.
    `trainer.steps_per_execution=1` asks for one kernel after the other."""
    return model.device.type == DEVICE and vars(type(model)).get("static_graph", False) and len(block) > 1


def record(step: Callable[[], Results]) -> tuple[Callable[[], object], Results]:
    """What makes the step once more, and where its results lie then. Recording itself changes nothing."""
    graph = torch.cuda.CUDAGraph()
    back_to_this_stream = torch.cuda.stream(torch.cuda.current_stream())  # some releases stay in theirs after an error
    with no_collection(), back_to_this_stream, torch.cuda.graph(graph):
        results = step()
    return graph.replay, results


@contextmanager
def no_collection() -> Iterator[None]:
    """An earlier graph that is freed while this one is recorded would spoil it."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class ReplayedSteps:
    """A fit's steps in one process. Made kernel by kernel are the first ones, in which torch sets up what it cannot set
    up while it records, and those of batches that are smaller than the first."""

    WARM_UP = 3

    def __init__(self, model: "DigitClassifier", optimizer: LightningOptimizer) -> None:
        self.model = model
        self.optimizer = optimizer
        self.one_by_one = directly(model, optimizer)
        self.lr = torch.zeros((), device=model.device)
        self.made = 0
        self.replay: Callable[[], object] | None = None

    def __call__(self, images: Tensor, labels: Tensor, weight: float) -> Results:
        if self.made == 0:
            self.images, self.labels = images.clone(), labels.clone()
        if self.made == self.WARM_UP:
            self._record()
        self.made += 1
        if self.replay is None or len(labels) < len(self.labels):
            return self.one_by_one(images, labels, weight)
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.lr.fill_(self.optimizer.param_groups[0]["lr"])
        self.optimizer._on_before_step()
        self.replay()
        self.optimizer._on_after_step()
        loss, outputs = self.results
        return loss.clone(), outputs.clone()

    def _record(self) -> None:
        update = recordable_update(self.optimizer.optimizer, self.lr)
        if update is None:  # an optimiser without a fused kernel
            return
        step = with_update(self.model, self.optimizer, update)
        try:
            self.replay, self.results = record(lambda: step(self.images, self.labels, 1))
        except RuntimeError as error:
            reason = error.__context__ or error  # what broke the recording off, not that it was broken off
            log.warning(
                f"{type(self.model).__name__} cannot be recorded as a CUDA graph; its steps are made kernel by kernel: "
                f"{str(reason).splitlines()[0]}"
            )
