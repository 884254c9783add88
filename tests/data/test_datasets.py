"""Splits are disjoint, complete, stratified and reproducible."""

import pytest
import torch

from mnist_lit.data.datamodule import SklearnDigitsDataModule
from mnist_lit.data.datasets import Splits, load_digits, load_idx, stratified_split
from mnist_lit.data.files import FileSet


def assert_partition(splits: Splits, sizes: tuple[int, int, int]) -> None:
    parts = (splits.train, splits.val, splits.test)
    assert tuple(map(len, parts)) == sizes
    for part in parts:
        assert part.images.shape == (len(part), 1, 28, 28)
        assert part.images.dtype == torch.uint8
        assert part.labels.unique().tolist() == list(range(10))


def test_digits_have_the_expected_shape_and_sizes() -> None:
    assert_partition(load_digits(180, 0), (1257, 180, 360))


def test_no_option_changes_the_test_set() -> None:
    one, other = load_digits(180, 0), load_digits(100, 1)
    assert torch.equal(one.test.images, other.test.images)
    assert not torch.equal(one.val.labels[:100], other.val.labels)


@pytest.mark.mnist
def test_mnist_has_the_official_sizes(mnist_root: str) -> None:
    assert_partition(load_idx(FileSet(root=mnist_root), 5000, 0), (55_000, 5_000, 10_000))


@pytest.mark.mnist
def test_mnist_splits_match_the_official_training_and_test_sets(mnist_root: str) -> None:
    from torchvision.datasets import MNIST

    splits = load_idx(FileSet(root=mnist_root), 5000, 0)
    official, official_test = MNIST(mnist_root, train=True), MNIST(mnist_root, train=False)
    ours = torch.cat((splits.train.images, splits.val.images)).flatten(1)
    assert torch.equal(_sorted_hashes(ours), _sorted_hashes(official.data.flatten(1)))
    assert torch.equal(splits.test.images.squeeze(1), official_test.data)
    assert torch.equal(splits.test.labels, official_test.targets)


def _sorted_hashes(images: torch.Tensor) -> torch.Tensor:
    weights = torch.randint(1, 2**40, (images.shape[1],), generator=torch.Generator().manual_seed(0))
    return (images.long() * weights).sum(1).sort().values


def test_a_split_is_disjoint_complete_and_stratified() -> None:
    labels = torch.randint(0, 10, (3001,), generator=torch.Generator().manual_seed(3))
    rest, chosen = stratified_split(labels, 500, seed=0)
    assert len(chosen) == 500
    assert torch.equal(torch.cat((rest, chosen)).sort().values, torch.arange(3001))
    expected = torch.bincount(labels) * 500 / 3001
    assert (torch.bincount(labels[chosen]) - expected).abs().max() < 1


def test_a_split_depends_only_on_its_seed() -> None:
    labels = torch.arange(10).repeat(50)
    torch.manual_seed(1)
    first = stratified_split(labels, 100, seed=7)[1]
    torch.manual_seed(2)
    assert torch.equal(first, stratified_split(labels, 100, seed=7)[1])
    assert not torch.equal(first, stratified_split(labels, 100, seed=8)[1])


def test_a_smaller_training_set_keeps_the_proportions_of_the_classes() -> None:
    data = SklearnDigitsDataModule(train_size=200)
    whole = SklearnDigitsDataModule().splits
    assert len(data.splits.train) == 200
    parts = torch.bincount(data.splits.train.labels) / 200
    assert torch.allclose(parts, torch.bincount(whole.train.labels) / len(whole.train), atol=0.01)
    for name in ("val", "test"):
        assert torch.equal(getattr(data.splits, name).images, getattr(whole, name).images)


def test_label_noise_gives_a_part_of_the_training_images_wrong_labels() -> None:
    clean, noisy = SklearnDigitsDataModule().splits, SklearnDigitsDataModule(label_noise=0.25).splits
    assert torch.equal(clean.train.images, noisy.train.images)
    changed = clean.train.labels != noisy.train.labels
    assert int(changed.sum()) == round(0.25 * len(clean.train))
    assert int(noisy.train.labels.min()) == 0
    assert int(noisy.train.labels.max()) == 9
    assert torch.equal(clean.test.labels, noisy.test.labels)
