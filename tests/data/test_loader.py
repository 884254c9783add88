"""A loader yields every sample once per epoch. The order depends only on seed and epoch, for blocks of any size."""

import pytest
import torch

from mnist_lit.data.datasets import Split
from mnist_lit.data.loader import EvalLoader, Normalize, TrainLoader, epoch_order

PART = Split(torch.arange(101 * 784).remainder(251).to(torch.uint8).view(101, 1, 28, 28), torch.arange(101))


def loader(*, batch_size: int = 8, steps_per_execution: int = 3, seed: int = 0) -> TrainLoader:
    return TrainLoader(
        PART, Normalize(0.5, 0.5), batch_size=batch_size, steps_per_execution=steps_per_execution, seed=seed
    )


def batches(source: TrainLoader) -> list[list[int]]:
    return [labels.tolist() for block in source for _, labels in block]


@pytest.mark.parametrize("batch_size", [1, 7, 8, 101])
@pytest.mark.parametrize("steps_per_execution", [1, 3, 1000])
def test_every_sample_comes_once_for_any_batch_and_block_size(batch_size: int, steps_per_execution: int) -> None:
    source = loader(batch_size=batch_size, steps_per_execution=steps_per_execution)
    assert len(list(source)) == len(source)
    seen = batches(source)
    assert sorted(label for batch in seen for label in batch) == list(range(101))
    assert all(len(batch) == batch_size for batch in seen[:-1])


def test_block_size_does_not_change_the_batches() -> None:
    assert batches(loader(steps_per_execution=1)) == batches(loader(steps_per_execution=5))


def test_the_order_depends_only_on_seed_and_epoch() -> None:
    source = loader()
    first = batches(source)
    torch.randperm(10)
    assert batches(source) == first
    source.sampler.set_epoch(1)
    assert batches(source) != first
    source.sampler.set_epoch(0)
    assert batches(source) == first
    assert not torch.equal(epoch_order(101, seed=1, epoch=0), epoch_order(101, seed=0, epoch=1))


def test_the_position_in_an_epoch_is_restored_and_ends_with_the_epoch() -> None:
    whole = batches(loader())
    source, resumed = loader(), loader()
    iterator = iter(source)
    first = [labels.tolist() for _ in range(2) for _, labels in next(iterator)]
    resumed.load_state_dict(source.state_dict())
    assert first + batches(resumed) == whole
    assert batches(resumed) == whole


def test_an_unfinished_iteration_does_not_move_the_next_one() -> None:
    source = loader()
    whole = batches(source)
    next(iter(source))
    assert batches(source) == whole


def test_images_are_normalized_and_match_their_labels() -> None:
    for block in loader():
        for images, labels in block:
            assert torch.allclose(images, (PART.images[labels] / 255 - 0.5) / 0.5, atol=1e-6)
    images, labels = next(iter(EvalLoader(PART, Normalize(0.1307, 0.3081))))
    assert labels.tolist() == list(range(101))
    assert torch.allclose(images, (PART.images / 255 - 0.1307) / 0.3081, atol=1e-6)
