"""Augmentation: a function of (seed, epoch, sample), within its bounds, and nothing at all when the bounds are 0."""

import pytest
import torch

from mnist_lit.data.augment import Augment, Drawn
from mnist_lit.data.datasets import Part
from mnist_lit.data.loader import Normalize, TrainLoader

IMAGES = torch.zeros(6, 1, 28, 28)
IMAGES[:, :, 12:16, 6:22] = 255.0  # a horizontal bar in the middle


def chosen(*numbers: float) -> Drawn:
    """One sample's random numbers; the rest is 0."""
    return Drawn(torch.tensor([[*numbers, *[0.0] * (8 - len(numbers))]]), torch.zeros(64, 64))


def centre(images: torch.Tensor) -> torch.Tensor:
    """Centres of mass [n, 2] in pixels, (y, x)."""
    weights = images.squeeze(1)
    total = weights.sum((1, 2))
    along = torch.arange(28.0)
    return torch.stack(((weights.sum(2) * along).sum(1) / total, (weights.sum(1) * along).sum(1) / total), 1)


def test_without_bounds_nothing_changes() -> None:
    assert torch.allclose(Augment()(IMAGES, Augment().draw(6, 0, 0)), IMAGES, atol=1e-3)


def test_a_shift_moves_the_centre_within_its_bound() -> None:
    augment = Augment(shift=3.0)
    moved = centre(augment(IMAGES, augment.draw(6, 0, 0))) - centre(IMAGES)
    assert moved.abs().max() <= 3.0
    assert moved.abs().max() > 1.0


def test_a_quarter_turn_stands_the_bar_upright() -> None:
    turned = Augment(rotation=90.0)(IMAGES[:1], chosen(1.0))
    assert torch.allclose(turned, IMAGES[:1].transpose(2, 3), atol=1.0)


def test_scaling_changes_the_ink_and_not_the_centre() -> None:
    for zoom, ink in ((1.0, 1.5**2), (-1.0, 0.5**2)):
        scaled = Augment(scale=0.5)(IMAGES[:1], chosen(0.0, zoom))
        assert float(scaled.sum() / IMAGES[0].sum()) == pytest.approx(ink, rel=0.1)
        assert torch.allclose(centre(scaled), centre(IMAGES[:1]), atol=0.1)


def test_strokes_grow_and_shrink_by_pixels_at_each_edge() -> None:
    bar = IMAGES[0].sum()
    for pixels in (0.5, -0.5):
        ink = float(Augment(stroke=0.5)(IMAGES[:1], chosen(0, 0, 0, 0, 2 * pixels)).sum() / bar)
        assert ink == pytest.approx((4 + 2 * pixels) / 4 * (16 + 2 * pixels) / 16, rel=0.03)


def test_noise_is_as_strong_as_asked_and_stays_within_the_range() -> None:
    grey = torch.full((1, 1, 28, 28), 128.0)
    drawn = Drawn(chosen(0, 0, 0, 0, 0, 1.0).numbers, Augment().draw(1, 0, 0).noise)
    assert float(Augment(noise=0.1)(grey, drawn).std()) == pytest.approx(25.5, rel=0.1)
    loud = Augment(noise=0.9)(grey, drawn)
    assert (loud.min(), loud.max()) == (0, 255)


def test_each_sample_changes_alike_whatever_batch_it_comes_in_and_anew_each_epoch() -> None:
    part = Part(torch.randint(0, 256, (101, 1, 28, 28), dtype=torch.uint8), torch.arange(101))

    def shown(batch_size: int, epoch: int) -> torch.Tensor:
        loader = TrainLoader(
            part,
            Normalize(0.0, 1.0),
            batch_size=batch_size,
            steps_per_execution=2,
            seed=5,
            augment=Augment(rotation=10.0, shift=2.0, scale=0.1, stroke=0.5, noise=0.1),
        )
        loader.set_epoch(epoch)
        pairs = [pair for block in loader for pair in block]
        images, labels = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
        return images[labels.argsort()]

    assert torch.allclose(shown(10, 0), shown(33, 0), atol=1e-6)
    assert not torch.allclose(shown(10, 0), shown(10, 1), atol=0.1)
