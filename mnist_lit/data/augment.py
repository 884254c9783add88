"""Random shifts, rotations and scalings of training images: on the device, in the batch, repeatable by sample."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Augment:
    """Each image is turned by up to `rotation` degrees, scaled by up to 1 ± `scale`, and shifted by up to `shift`
    pixels along each axis, all uniformly at random. What comes in from outside is background."""

    rotation: float = 0.0
    shift: float = 0.0
    scale: float = 0.0

    def draw(self, size: int, seed: int, epoch: int) -> Tensor:
        """An epoch's random numbers, [size, 4] in [-1, 1): row i is for sample i, whichever batch it comes in."""
        mixed = int(np.random.SeedSequence([seed, epoch, 1]).generate_state(1, np.uint64)[0] >> 1)
        return torch.rand(size, 4, generator=torch.Generator().manual_seed(mixed)) * 2 - 1

    def __call__(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Images [n, 1, 28, 28] float, background 0, and n rows of `draw` → the changed images."""
        angle = drawn[:, 0] * math.radians(self.rotation)
        zoom = 1 / (1 + drawn[:, 1] * self.scale)  # affine_grid asks where each pixel comes from, so the inverse
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        offset = drawn[:, 2:] * (self.shift / (images.shape[-1] / 2))  # affine_grid's coordinates go from -1 to 1
        matrix = torch.stack((cos, sin, offset[:, 0], -sin, cos, offset[:, 1]), 1).view(-1, 2, 3)
        grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
