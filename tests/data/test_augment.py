"""Augmentation depends only on seed, epoch and sample. It stays within its bounds. Bounds of 0 change nothing."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from mnist_lit.data.augment import SHAPE_NUMBERS, Augment, RandomNumbers
from mnist_lit.data.datasets import Split, load_idx
from mnist_lit.data.files import FileSet
from mnist_lit.data.loader import Normalize, TrainLoader, epoch_order
from mnist_lit.data.pen_shapes import NUMBERS, draw_digits

IMAGES = torch.zeros(6, 1, 28, 28)
IMAGES[:, :, 12:16, 6:22] = 255.0  # a horizontal bar in the middle
ALL = Augment(
    rotation=10.0,
    shift=2.0,
    scale=0.1,
    stroke=0.5,
    noise=0.1,
    aspect=0.1,
    shear=0.1,
    elastic=0.5,
    drawn=0.2,
    others=0.2,
)


def random_numbers(*numbers: float) -> RandomNumbers:
    """The random numbers of one sample. Numbers that are not given are 0."""
    values = torch.tensor([[*numbers, *[0.0] * (8 - len(numbers))]])
    return RandomNumbers(values, torch.zeros(64, 64), torch.zeros(1, SHAPE_NUMBERS), torch.zeros(64, 64))


@pytest.fixture
def mnist_images(mnist_root: str) -> Split:
    return load_idx(FileSet(root=mnist_root), 5000, 0).val


def change(augment: Augment, images: torch.Tensor, numbers: RandomNumbers) -> torch.Tensor:
    """The images only. The labels are 0, 1, 2, …"""
    return augment(images, torch.arange(len(images)) % 10, numbers)[0]


def center_of_mass(images: torch.Tensor) -> torch.Tensor:
    """Centres of mass [n, 2] in pixels, (y, x)."""
    weights = images.squeeze(1)
    total = weights.sum((1, 2))
    along = torch.arange(28.0)
    return torch.stack(((weights.sum(2) * along).sum(1) / total, (weights.sum(1) * along).sum(1) / total), 1)


def test_bounds_of_zero_change_nothing() -> None:
    assert torch.allclose(change(Augment(), IMAGES, Augment().draw(6, 0, 0)), IMAGES, atol=1e-3)


def test_a_shift_moves_the_center_within_its_bound() -> None:
    augment = Augment(shift=3.0)
    moved = center_of_mass(change(augment, IMAGES, augment.draw(6, 0, 0))) - center_of_mass(IMAGES)
    assert moved.abs().max() <= 3.0
    assert moved.abs().max() > 1.0


def test_a_rotation_by_90_degrees_makes_the_bar_vertical() -> None:
    turned = change(Augment(rotation=90.0), IMAGES[:1], random_numbers(1.0))
    assert torch.allclose(turned, IMAGES[:1].transpose(2, 3), atol=1.0)


def test_scaling_changes_the_ink_and_keeps_the_center() -> None:
    for zoom, ink in ((1.0, 1.5**2), (-1.0, 0.5**2)):
        scaled = change(Augment(scale=0.5), IMAGES[:1], random_numbers(0.0, zoom))
        assert float(scaled.sum() / IMAGES[0].sum()) == pytest.approx(ink, rel=0.1)
        assert torch.allclose(center_of_mass(scaled), center_of_mass(IMAGES[:1]), atol=0.1)


def test_wider_strokes_are_the_largest_of_the_nine_pixels_and_narrower_ones_the_smallest() -> None:
    images = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 255
    wider, narrower = F.max_pool2d(images, 3, 1, 1), -F.max_pool2d(-images, 3, 1, 1)
    for number, target in ((1.0, wider), (-1.0, narrower)):
        changed = change(Augment(stroke=1.0), images, random_numbers(0, 0, 0, 0, number))
        torch.testing.assert_close(changed, target, rtol=0, atol=0.01)


def test_stroke_width_changes_by_pixels_at_each_edge() -> None:
    bar = IMAGES[0].sum()
    for pixels in (0.5, -0.5):
        ink = float(change(Augment(stroke=0.5), IMAGES[:1], random_numbers(0, 0, 0, 0, 2 * pixels)).sum() / bar)
        assert ink == pytest.approx((4 + 2 * pixels) / 4 * (16 + 2 * pixels) / 16, rel=0.03)


def test_noise_has_the_given_strength_and_stays_within_the_range() -> None:
    gray = torch.full((1, 1, 28, 28), 128.0)
    drawn = replace(random_numbers(0, 0, 0, 0, 0, 1.0), noise=Augment().draw(1, 0, 0).noise)
    assert float(change(Augment(noise=0.1), gray, drawn).std()) == pytest.approx(25.5, rel=0.1)
    loud = change(Augment(noise=0.9), gray, drawn)
    assert (loud.min(), loud.max()) == (0, 255)


def test_aspect_changes_the_width_and_shear_slants_the_bar() -> None:
    numbers = random_numbers()
    numbers.shapes[0, 3:5] = 1.0
    wide = change(Augment(aspect=0.25), IMAGES[:1], numbers)
    assert float(wide.sum() / IMAGES[0].sum()) == pytest.approx(1.25, rel=0.05)
    slanted = change(Augment(shear=1.0), IMAGES[:1], numbers)
    rows = [float((row * torch.arange(28.0)).sum() / row.sum()) for row in slanted[0, 0, 12:16]]
    assert [after - before for before, after in pairwise(rows)] == pytest.approx([-1.0] * 3, abs=0.1)


def test_elastic_shifts_have_the_given_strength_and_are_smooth() -> None:
    augment = Augment(elastic=1.5)
    ramp = torch.arange(28.0).expand(200, 1, 28, 28) * 5 + 50  # the gray level gives the place from which a pixel comes
    shifts = (change(augment, ramp, augment.draw(200, 0, 0)) - ramp)[:, 0, 8:20, 8:20] / 5
    assert float(shifts.std()) == pytest.approx(1.5, rel=0.15)
    assert shifts.diff(dim=2).abs().max() < 1.5


def test_drawn_digits_replace_a_part_of_the_images_and_keep_the_labels() -> None:
    labels, augment = torch.arange(2000) % 10, Augment(drawn=0.3)
    images, kept = augment(torch.zeros(2000, 1, 28, 28), labels, augment.draw(2000, 0, 0))
    assert torch.equal(kept, labels)
    drawn = images.flatten(1).any(1)
    assert float(drawn.float().mean()) == pytest.approx(0.3, abs=0.04)
    rows = images[drawn].amax((1, 3)) > 100
    assert int(rows.sum(1).min()) >= 8
    assert int(rows.sum(1).max()) <= 21, "larger than MNIST's digits"


@pytest.mark.mnist
def test_drawn_digits_look_like_mnists(mnist_images: Split) -> None:
    """The nearest image of MNIST has the same label for most of them."""
    known = F.avg_pool2d(mnist_images.images.float(), 2).flatten(1)
    labels = torch.arange(1000) % 10
    drawn = draw_digits(labels, torch.rand(1000, NUMBERS, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    nearest = torch.cdist(F.avg_pool2d(drawn, 2).flatten(1), known).argmin(1)
    assert float((mnist_images.labels[nearest] == labels).float().mean()) > 0.5


def test_other_shapes_have_labels_that_change_from_epoch_to_epoch() -> None:
    labels, augment = torch.full((3000,), 7), Augment(others=0.2)
    images = IMAGES[:1].expand(3000, 1, 28, 28)
    first, second = (augment(images, labels, augment.draw(3000, 0, epoch)) for epoch in (0, 1))
    changed = first[1] != labels
    assert float(changed.float().mean()) == pytest.approx(0.2 * 0.9, abs=0.03)
    counts = torch.bincount(first[1][changed], minlength=10)
    assert counts[torch.arange(10) != 7].min() > 30
    assert not torch.equal(first[1], second[1])
    assert torch.equal(images[0], IMAGES[0]), "the data set itself must not change"


def test_augmentation_depends_on_the_epoch_and_not_on_the_batch_size() -> None:
    part = Split(torch.randint(0, 256, (101, 1, 28, 28), dtype=torch.uint8), torch.arange(101) % 10)

    def augmented_images(batch_size: int, epoch: int) -> torch.Tensor:
        loader = TrainLoader(
            part,
            Normalize(0.0, 1.0),
            batch_size=batch_size,
            steps_per_execution=2,
            seed=5,
            augment=ALL,
        )
        loader.set_epoch(epoch)
        pairs = [pair for block in loader for pair in block]
        images, _ = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
        return images[epoch_order(101, 5, epoch).argsort()]

    assert torch.allclose(augmented_images(10, 0), augmented_images(33, 0), atol=1e-6)
    assert not torch.allclose(augmented_images(10, 0), augmented_images(10, 1), atol=0.1)
