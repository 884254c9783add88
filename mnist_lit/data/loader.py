"""The data path: the order of an epoch, and tensors on the device cut into blocks of mini-batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnist_lit.data.augment import Augment
from mnist_lit.data.datasets import Split

PREPARED_AT_ONCE = 512  # samples; few enough to be still in the cache when the step uses them


def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """A permutation of range(size) that depends on (seed, epoch) and on nothing else."""
    mixed = int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0] >> 1)
    return torch.randperm(size, generator=torch.Generator().manual_seed(mixed))


@dataclass(frozen=True)
class Normalize:
    """Pixels 0 to 255 → float32, (pixel / 255 - mean) / std."""

    mean: float
    std: float

    def __call__(self, images: Tensor) -> Tensor:
        return images.to(torch.float32).mul_(1 / (255 * self.std)).sub_(self.mean / self.std)


@dataclass(frozen=True)
class RankShard:
    """The part of every batch that belongs to this process. With several ranks, each takes every `ranks`-th sample. One
    process with a batch `ranks` times as large makes the same steps, except for dropout and batch norm."""

    rank: int = 0
    ranks: int = 1

    def of(self, index: Tensor) -> Tensor:
        return index[self.rank :: self.ranks]

    def weight(self, index: Tensor) -> float:
        """The factor for this rank's mean loss. With it the mean over the ranks is the mean over the samples, also if
        the ranks cannot share the batch evenly."""
        return len(self.of(index)) * self.ranks / len(index)


MiniBatch = tuple[Tensor, Tensor, float]  # images [batch, 1, 28, 28], labels [batch], a factor for their mean loss


class Block:
    """The mini-batches of one call of `training_step`, cut when they are needed. `accumulate` of them make one
    optimizer step; at the end of an epoch there may be fewer.

    It is neither a list nor a dataclass: Lightning would walk through the tensors of those at every call.
    """

    def __init__(
        self,
        split: Split,
        indices: tuple[Tensor, ...],
        shard: RankShard,
        normalize: Normalize,
        augment: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
        accumulate: int = 1,
    ) -> None:
        self.split = split
        self.indices = indices
        self.shard = shard
        self.normalize = normalize
        self.augment = augment
        self.accumulate = accumulate

    def __len__(self) -> int:
        """The number of mini-batches."""
        return len(self.indices)

    @property
    def steps(self) -> int:
        """The number of optimizer steps."""
        return ceil(len(self) / self.accumulate)

    @property
    def samples(self) -> int:
        """The samples of all ranks together."""
        return sum(len(index) for index in self.indices)

    @property
    def weights(self) -> list[float]:
        """A factor for the loss of each mini-batch: 1, unless gradients are accumulated, or ranks cannot share a batch
        evenly."""
        return [self.shard.weight(index) / self.accumulate for index in self.indices]

    def split_into_steps(self) -> Iterator[list[MiniBatch]]:
        """The mini-batches of each optimizer step."""
        batches = zip(self, self.weights, strict=True)
        while group := [(*batch, weight) for batch, weight in islice(batches, self.accumulate)]:
            yield group

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of images [batch, 1, 28, 28] float32, normalized, and labels [batch] int64."""
        group = max(1, PREPARED_AT_ONCE // len(self.indices[0]))
        for start in range(0, len(self), group):
            indices = [self.shard.of(index) for index in self.indices[start : start + group]]
            sizes = [len(index) for index in indices]
            index = torch.cat(indices)
            split = self.split[index]
            with torch.autocast(split.images.device.type, enabled=False):  # in bf16 pixels would move
                images, labels = self.augment(split.images, split.labels, index)
                images = self.normalize(images)
            yield from zip(images.split(sizes), labels.split(sizes), strict=True)


class TrainLoader:
    """One epoch as blocks of `steps_per_execution` optimizer steps, of `accumulate` mini-batches each. Every sample
    comes once; the last batch may be smaller. With `limit`, an epoch ends after this number of mini-batches.

    It follows Lightning's conventions for loaders: `sampler.set_epoch` chooses the order, and `state_dict` holds the
    position within the epoch, so that a run stopped between two blocks continues with the next one. `batch_size` counts
    the samples of all ranks together.
    """

    def __init__(
        self,
        split: Split,
        normalize: Normalize,
        *,
        batch_size: int,
        steps_per_execution: int,
        seed: int,
        augment: Augment | None = None,
        shard: RankShard = RankShard(),
        accumulate: int = 1,
        limit: int | None = None,
    ) -> None:
        self.shard = shard
        self.split = split
        self.normalize = normalize
        self.batch_size = batch_size
        self.steps_per_execution = steps_per_execution
        self.seed = seed
        self.augment = augment
        self.accumulate = accumulate
        self.limit = limit
        self.sampler: TrainLoader | None = self
        self.epoch = 0
        self._start = 0  # the first block of the next iteration
        self._blocks_done = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    @property
    def block_size(self) -> int:
        return self.steps_per_execution * self.accumulate

    def __len__(self) -> int:
        batches = ceil(len(self.split) / self.batch_size)
        return ceil(min(batches, self.limit or batches) / self.block_size)

    def __iter__(self) -> Iterator[Any]:
        order = epoch_order(len(self.split), self.seed, self.epoch).to(self.split.labels.device)
        batches, augment = order.split(self.batch_size)[: self.limit], self._augment_of_epoch()
        first, self._start = self._start, 0
        for done in range(first, len(self)):
            self._blocks_done = (done + 1) % len(self)
            start = done * self.block_size
            indices = batches[start : start + self.block_size]
            yield Block(self.split, indices, self.shard, self.normalize, augment, self.accumulate)

    def _augment_of_epoch(self) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
        """(images of a batch, their labels, their indices) → images and labels with the changes of this epoch."""
        if self.augment is None:
            return lambda images, labels, index: (images, labels)
        augment = self.augment
        numbers = augment.draw(len(self.split), self.seed, self.epoch).to(self.split.images.device)
        return lambda images, labels, index: augment(images.to(torch.float32), labels, numbers[index])

    def state_dict(self) -> dict[str, int]:
        return {"blocks_done": self._blocks_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._start = self._blocks_done = state["blocks_done"]


class BatchLoader(TrainLoader):
    """The same epoch as plain batches of (images, labels)."""

    def __iter__(self) -> Iterator[Any]:
        for block in super().__iter__():
            yield from block


class EvalLoader:
    """Pairs of normalized images and labels in the data set's own order, in large batches."""

    BATCH_SIZE = 250  # on a CPU; larger ones do not fit into the cache: half the speed for the convnet, and more memory
    ON_GPU = 2500  # fewer calls of Lightning's hooks

    def __init__(self, split: Split, normalize: Normalize) -> None:
        self.split = split
        self.normalize = normalize
        self.batch_size = self.BATCH_SIZE if split.images.device.type == "cpu" else self.ON_GPU

    def __len__(self) -> int:
        return ceil(len(self.split) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = self.split.images.split(self.batch_size), self.split.labels.split(self.batch_size)
        for image_batch, label_batch in zip(images, labels, strict=True):
            yield self.normalize(image_batch), label_batch
