"""The data path: the order of an epoch, and tensors on the device cut into blocks of mini-batches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from torch import Tensor

from mnist_lit.data.augment import Augment
from mnist_lit.data.datasets import Part

TOGETHER = 1024  # samples that are prepared at once: few enough to be in the cache still when they are trained on


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
class Share:
    """Which part of every batch is this process's: with several ranks each takes every `ranks`-th sample, and one
    process with a batch `ranks` times as large would make the same steps, but for dropout and batch norm."""

    rank: int = 0
    ranks: int = 1

    def of(self, index: Tensor) -> Tensor:
        return index[self.rank :: self.ranks]

    def weight(self, index: Tensor) -> float:
        """By which this rank's mean loss is to be multiplied, so that the mean over the ranks is the mean over the
        samples, also where a batch cannot be divided evenly."""
        return len(self.of(index)) * self.ranks / len(index)


class Block:
    """The mini-batches of one call of `training_step`, cut when they are asked for.

    Neither a list nor a dataclass, because Lightning would walk through its tensors on every call.
    """

    def __init__(
        self,
        part: Part,
        indices: tuple[Tensor, ...],
        share: Share,
        normalize: Normalize,
        augment: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self.part = part
        self.indices = indices
        self.share = share
        self.normalize = normalize
        self.augment = augment

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def samples(self) -> int:
        """Of all ranks together."""
        return sum(len(index) for index in self.indices)

    @property
    def weights(self) -> list[float]:
        """A factor for each mini-batch's loss: 1, unless ranks share a batch that cannot be divided evenly."""
        return [self.share.weight(index) for index in self.indices]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of images [batch, 1, 28, 28] float32, normalised, and labels [batch] int64."""
        together = max(1, TOGETHER // len(self.indices[0]))
        for start in range(0, len(self), together):
            indices = [self.share.of(index) for index in self.indices[start : start + together]]
            sizes = [len(index) for index in indices]
            all_of_them = torch.cat(indices)
            part = self.part[all_of_them]
            with torch.autocast(part.images.device.type, enabled=False):  # bf16 would move pixels by a twentieth
                images = self.normalize(self.augment(part.images, all_of_them))
            yield from zip(images.split(sizes), part.labels.split(sizes), strict=True)


class TrainLoader:
    """One epoch as blocks of `steps_per_execution` mini-batches; every sample once, the last batch may be smaller.

    Follows Lightning's conventions for loaders: `sampler.set_epoch` chooses the order, `state_dict` holds the
    position within the epoch, so that a run stopped between two blocks goes on with the next one. `batch_size` counts
    the samples of all ranks together, of which this process gets its share.
    """

    def __init__(
        self,
        part: Part,
        normalize: Normalize,
        *,
        batch_size: int,
        steps_per_execution: int,
        seed: int,
        augment: Augment | None = None,
        share: Share = Share(),
    ) -> None:
        self.share = share
        self.part = part
        self.normalize = normalize
        self.batch_size = batch_size
        self.steps_per_execution = steps_per_execution
        self.seed = seed
        self.augment = augment
        self.sampler = self
        self.epoch = 0
        self._blocks_done = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return ceil(ceil(len(self.part) / self.batch_size) / self.steps_per_execution)

    def __iter__(self) -> Iterator[Block]:
        order = epoch_order(len(self.part), self.seed, self.epoch).to(self.part.labels.device)
        batches, augment = order.split(self.batch_size), self._augment_of_epoch()
        for done in range(self._blocks_done, len(self)):
            self._blocks_done = (done + 1) % len(self)
            start = done * self.steps_per_execution
            indices = batches[start : start + self.steps_per_execution]
            yield Block(self.part, indices, self.share, self.normalize, augment)

    def _augment_of_epoch(self) -> Callable[[Tensor, Tensor], Tensor]:
        """(images of a batch, their indices) → the images as this epoch shows them."""
        if self.augment is None:
            return lambda images, index: images
        augment = self.augment
        drawn = augment.draw(len(self.part), self.seed, self.epoch).to(self.part.images.device)
        return lambda images, index: augment(images.to(torch.float32), drawn[index])

    def state_dict(self) -> dict[str, int]:
        return {"blocks_done": self._blocks_done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._blocks_done = state["blocks_done"]


class EvalLoader:
    """Pairs of normalised images and labels in the data set's own order, in large batches."""

    BATCH_SIZE = 250  # on a CPU; larger ones leave the cache: half the speed for the convnet, and more memory
    ON_GPU = 2500  # fewer calls of Lightning's hooks

    def __init__(self, part: Part, normalize: Normalize) -> None:
        self.part = part
        self.normalize = normalize
        self.batch_size = self.BATCH_SIZE if part.images.device.type == "cpu" else self.ON_GPU

    def __len__(self) -> int:
        return ceil(len(self.part) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        images, labels = self.part.images.split(self.batch_size), self.part.labels.split(self.batch_size)
        for image_batch, label_batch in zip(images, labels, strict=True):
            yield self.normalize(image_batch), label_batch
