"""The splits: disjoint, complete, stratified, fixed."""

import pytest
import torch

from mnist_lit.data.datasets import Splits, load_digits, load_mnist, stratified_split


def assert_partition(splits: Splits, sizes: tuple[int, int, int]) -> None:
    parts = (splits.train, splits.val, splits.test)
    assert tuple(map(len, parts)) == sizes
    for part in parts:
        assert part.images.shape == (len(part), 1, 28, 28)
        assert part.images.dtype == torch.uint8
        assert part.labels.unique().tolist() == list(range(10))


def test_digits_have_the_promised_shape_and_sizes() -> None:
    assert_partition(load_digits(180, 0), (1257, 180, 360))


def test_no_choice_of_ours_changes_the_test_set() -> None:
    one, other = load_digits(180, 0), load_digits(100, 1)
    assert torch.equal(one.test.images, other.test.images)
    assert not torch.equal(one.val.labels[:100], other.val.labels)


@pytest.mark.mnist
def test_mnist_has_the_official_sizes(mnist_root: str) -> None:
    assert_partition(load_mnist(mnist_root, 5000, 0), (55_000, 5_000, 10_000))


@pytest.mark.mnist
def test_mnists_train_and_validation_are_the_official_60_000_and_test_is_the_official_test(mnist_root: str) -> None:
    from torchvision.datasets import MNIST

    splits = load_mnist(mnist_root, 5000, 0)
    official, official_test = MNIST(mnist_root, train=True), MNIST(mnist_root, train=False)
    ours = torch.cat((splits.train.images, splits.val.images)).flatten(1)
    assert torch.equal(_sorted_hashes(ours), _sorted_hashes(official.data.flatten(1)))
    assert torch.equal(splits.test.images.squeeze(1), official_test.data)
    assert torch.equal(splits.test.labels, official_test.targets)


def _sorted_hashes(images: torch.Tensor) -> torch.Tensor:
    weights = torch.randint(1, 2**40, (images.shape[1],), generator=torch.Generator().manual_seed(0))
    return (images.long() * weights).sum(1).sort().values


def test_split_is_disjoint_complete_and_in_the_classes_proportions() -> None:
    labels = torch.randint(0, 10, (3001,), generator=torch.Generator().manual_seed(3))
    rest, chosen = stratified_split(labels, 500, seed=0)
    assert len(chosen) == 500
    assert torch.equal(torch.cat((rest, chosen)).sort().values, torch.arange(3001))
    expected = torch.bincount(labels) * 500 / 3001
    assert (torch.bincount(labels[chosen]) - expected).abs().max() < 1


def test_split_depends_on_its_seed_alone() -> None:
    labels = torch.arange(10).repeat(50)
    torch.manual_seed(1)
    first = stratified_split(labels, 100, seed=7)[1]
    torch.manual_seed(2)
    assert torch.equal(first, stratified_split(labels, 100, seed=7)[1])
    assert not torch.equal(first, stratified_split(labels, 100, seed=8)[1])
