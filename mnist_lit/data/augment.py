"""Random changes to training images: on the device, in the batch, repeatable by sample."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

CANVAS = 512  # side of an epoch's sheet of noise, out of which each sample takes its own 28 × 28


@dataclass(frozen=True)
class Drawn:
    """An epoch's random numbers. Row i of `numbers`, [size, 8] in [-1, 1), is for sample i, whichever batch it comes
    in; `noise` is the epoch's sheet, [CANVAS, CANVAS], standard normal."""

    numbers: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> "Drawn":
        return Drawn(self.numbers.to(device), self.noise.to(device))

    def __getitem__(self, index: Tensor) -> "Drawn":
        return Drawn(self.numbers[index], self.noise)


@dataclass(frozen=True)
class Augment:
    """Each image is turned by up to `rotation` degrees, scaled by up to 1 ± `scale`, and shifted by up to `shift`
    pixels along each axis; its strokes' edges move outwards or inwards by up to `stroke` pixels; then noise is added,
    of a standard deviation of up to `noise` of the whole range. All uniformly at random. What comes in from outside is
    background."""

    rotation: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    stroke: float = 0.0
    noise: float = 0.0

    def draw(self, size: int, seed: int, epoch: int) -> Drawn:
        """An epoch's random numbers for `size` samples."""
        mixed = int(np.random.SeedSequence([seed, epoch, 1]).generate_state(1, np.uint64)[0] >> 1)
        generator = torch.Generator().manual_seed(mixed)
        numbers = [torch.rand(size, 4, generator=generator) * 2 - 1 for _ in range(2)]
        return Drawn(torch.cat(numbers, 1), torch.randn(CANVAS, CANVAS, generator=generator))

    def __call__(self, images: Tensor, drawn: Drawn) -> Tensor:
        """Images [n, 1, 28, 28] float in 0 to 255, background 0, and n rows of `draw` → the changed images."""
        turn, zoom, right, down, stroke, noise, x, y = drawn.numbers.unbind(1)
        moved = self._moved(images, turn, zoom, right, down)
        if self.stroke:
            moved = _with_stroke(moved, stroke * self.stroke)
        if self.noise:
            moved = (moved + _windows(drawn.noise, x, y) * _column(noise.abs() * self.noise * 255)).clamp(0, 255)
        return moved

    def _moved(self, images: Tensor, turn: Tensor, zoom: Tensor, right: Tensor, down: Tensor) -> Tensor:
        angle = turn * math.radians(self.rotation)
        shrink = 1 / (1 + zoom * self.scale)  # affine_grid asks where each pixel comes from, so the inverse
        cos, sin = shrink * angle.cos(), shrink * angle.sin()
        unit = self.shift / (images.shape[-1] / 2)  # affine_grid's coordinates go from -1 to 1
        matrix = torch.stack((cos, sin, right * unit, -sin, cos, down * unit), 1).view(-1, 2, 3)
        grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _with_stroke(images: Tensor, pixels: Tensor) -> Tensor:
    """Edges moved outwards by `pixels` [n] in [-1, 1]: so much of the way to a whole pixel wider or narrower."""
    wider = F.max_pool2d(images, 3, stride=1, padding=1)
    narrower = -F.max_pool2d(-images, 3, stride=1, padding=1)
    return images.lerp(torch.where(_column(pixels) > 0, wider, narrower), _column(pixels.abs()))


def _windows(sheet: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[n, 1, 28, 28]: the sheet's parts that x and y, [n] in [-1, 1), point at."""
    parts = sheet.unfold(0, 28, 1).unfold(1, 28, 1)
    places = ((torch.stack((y, x)) + 1) / 2 * len(parts)).long()
    return parts[places[0], places[1]].unsqueeze(1)


def _column(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
