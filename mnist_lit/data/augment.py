"""Random changes of training images: on the device, in the batch, the same for a sample in any batch."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_lit.data.pen_shapes import NUMBERS, draw_digits, draw_others

NOISE_SIDE = 512  # side of an epoch's image of noise; each sample takes its own 28 × 28 out of it
SMOOTHING = 4.0  # pixels: the standard deviation of the Gaussian that makes the noise a smooth field of shifts
SHAPE_NUMBERS = 8 + NUMBERS  # random numbers of a sample for the options that change shapes


@dataclass(frozen=True)
class RandomNumbers:
    """An epoch's random numbers. Row i of `values`, [size, 8] in [-1, 1), belongs to sample i, in whatever batch it
    comes. `noise` [NOISE_SIDE, NOISE_SIDE] is standard normal. `shapes` is [size, SHAPE_NUMBERS] in [-1, 1), or
    [size, 0] if no option changes shapes; `smooth` is the noise as a smooth field, or empty."""

    values: Tensor
    noise: Tensor
    shapes: Tensor
    smooth: Tensor

    def to(self, device: torch.device) -> "RandomNumbers":
        return RandomNumbers(*(tensor.to(device) for tensor in (self.values, self.noise, self.shapes, self.smooth)))

    def __getitem__(self, index: Tensor) -> "RandomNumbers":
        return RandomNumbers(self.values[index], self.noise, self.shapes[index], self.smooth)


@dataclass(frozen=True)
class Augment:
    """Random changes of each image, uniformly distributed: a rotation of up to `rotation` degrees, a scale of 1 ±
    `scale`, a width of 1 ± `aspect`, a slant of ± `shear` pixels a row, a shift of up to `shift` pixels along each
    axis, an edge of the strokes that moves outward or inward by up to `stroke` pixels, and noise with a standard
    deviation of up to `noise` of the whole range. `elastic` pixels is the standard deviation of a smooth field of
    shifts. Pixels from outside the image are background.

    Before that, the fraction `drawn` of the images is replaced by digits of the same labels that a program draws, and
    the fraction `others` by shapes that are no digit. These have a random label: a network learns to be unsure of
    them."""

    rotation: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    stroke: float = 0.0
    noise: float = 0.0
    aspect: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    drawn: float = 0.0
    others: float = 0.0

    @property
    def changes_shapes(self) -> bool:
        return any((self.aspect, self.shear, self.elastic, self.drawn, self.others))

    def draw(self, size: int, seed: int, epoch: int) -> RandomNumbers:
        """An epoch's random numbers for `size` samples."""
        mixed = int(np.random.SeedSequence([seed, epoch, 1]).generate_state(1, np.uint64)[0] >> 1)
        generator = torch.Generator().manual_seed(mixed)
        values = [torch.rand(size, 4, generator=generator) * 2 - 1 for _ in range(2)]
        noise = torch.randn(NOISE_SIDE, NOISE_SIDE, generator=generator)
        shapes = torch.rand(size, SHAPE_NUMBERS if self.changes_shapes else 0, generator=generator) * 2 - 1
        return RandomNumbers(torch.cat(values, 1), noise, shapes, _smooth(noise) if self.elastic else noise[:0])

    def __call__(self, images: Tensor, labels: Tensor, numbers: RandomNumbers) -> tuple[Tensor, Tensor]:
        """Images [n, 1, 28, 28] float in 0 to 255, background 0, labels [n], and n rows of random numbers → the changed
        images and labels."""
        turn, zoom, right, down, stroke, noise, x, y = numbers.values.unbind(1)
        if self.drawn or self.others:
            images, labels = self._replace(images, labels, numbers.shapes)
        moved = self._move(images, turn, zoom, right, down, numbers)
        if self.stroke:
            moved = _change_strokes(moved, stroke * self.stroke)
        if self.noise:
            moved = (moved + _cut_out(numbers.noise, x, y) * _column(noise.abs() * self.noise * 255)).clamp(0, 255)
        return moved, labels

    def _replace(self, images: Tensor, labels: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
        """Some images are replaced by drawn digits, some by shapes that are no digit."""
        chance, kind, label = (shapes[:, :3] + 1).unbind(1)
        images, labels = images.clone(), labels.clone()
        drawn = (chance < 2 * self.drawn).nonzero().squeeze(1)
        others = ((chance >= 2 * self.drawn) & (chance < 2 * (self.drawn + self.others))).nonzero().squeeze(1)
        pen = shapes[:, -NUMBERS:]
        images[drawn] = draw_digits(labels[drawn], pen[drawn])
        turned = images[others].rot90(1, (2, 3))
        crossed = torch.where(_column(kind[others] < 0.3), turned, turned.maximum(images[others]))
        by_pen = (kind[others] > 0.6) | (labels[others] == 0)  # a 0 on its side may still be read as a 0
        images[others] = torch.where(_column(by_pen), draw_others(pen[others]), crossed)
        labels[others] = (label[others] * 5).long()
        return images, labels

    def _move(
        self, images: Tensor, turn: Tensor, zoom: Tensor, right: Tensor, down: Tensor, numbers: RandomNumbers
    ) -> Tensor:
        angle = turn * math.radians(self.rotation)
        shrink = 1 / (1 + zoom * self.scale)  # affine_grid needs where each pixel comes from: the inverse
        cos, sin = shrink * angle.cos(), shrink * angle.sin()
        unit = self.shift / (images.shape[-1] / 2)  # affine_grid's coordinates go from -1 to 1
        matrix = torch.stack((cos, sin, right * unit, -sin, cos, down * unit), 1).view(-1, 2, 3)
        if self.aspect or self.shear:
            wide, slant = 1 / (1 + numbers.shapes[:, 3] * self.aspect), numbers.shapes[:, 4] * self.shear
            zero, one = torch.zeros_like(wide), torch.ones_like(wide)
            matrix = torch.stack((wide, slant, zero, one), 1).view(-1, 2, 2) @ matrix
        grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
        if self.elastic:
            x, y, across, along = numbers.shapes[:, 5], numbers.shapes[:, 6], numbers.shapes[:, 7], numbers.values[:, 6]
            shifts = (_cut_out(numbers.smooth, x, y), _cut_out(numbers.smooth, across, along))
            grid = grid + torch.cat(shifts, 1).permute(0, 2, 3, 1) * (2 * self.elastic / images.shape[-1])
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _change_strokes(images: Tensor, pixels: Tensor) -> Tensor:
    """Move the edges outward by `pixels` [n] in [-1, 1]: a mixture with strokes a whole pixel wider or narrower."""
    sign = torch.where(_column(pixels) > 0, 1.0, -1.0)  # a narrower stroke is a wider background
    return images.lerp(_largest_neighbor(images * sign) * sign, _column(pixels.abs()))


def _largest_neighbor(images: Tensor) -> Tensor:
    """`F.max_pool2d(images, 3, stride=1, padding=1)` in a fifth of the time on a CPU."""
    padded = F.pad(images, (1, 1, 1, 1), value=-math.inf)
    rows = padded[..., :-2, :].maximum(padded[..., 1:-1, :]).maximum(padded[..., 2:, :])
    return rows[..., :-2].maximum(rows[..., 1:-1]).maximum(rows[..., 2:])


def _smooth(noise: Tensor) -> Tensor:
    """The noise as a smooth field with a standard deviation of 1."""
    reach = round(3 * SMOOTHING)
    along = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-((along / SMOOTHING) ** 2) / 2)
    kernel /= kernel.square().sum().sqrt()  # the sum of independent normal variables keeps its standard deviation
    field = F.conv2d(noise.view(1, 1, NOISE_SIDE, NOISE_SIDE), kernel.view(1, 1, 1, -1), padding=(0, reach))
    return F.conv2d(field, kernel.view(1, 1, -1, 1), padding=(reach, 0))[0, 0]


def _cut_out(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[n, 1, 28, 28] out of an image, at the places that x and y, [n] in [-1, 1), give."""
    windows = image.unfold(0, 28, 1).unfold(1, 28, 1)
    places = ((torch.stack((y, x)) + 1) / 2 * len(windows)).long()
    return windows[places[0], places[1]].unsqueeze(1)


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
