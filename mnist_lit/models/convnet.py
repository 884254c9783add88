"""A deeper convolutional network with batch normalization, for accuracy."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from mnist_lit.models.classifier import DigitClassifier
from mnist_lit.models.layers import check_probability, check_sizes


class ConvNet(DigitClassifier):
    """One 5 × 5 convolution, then two 3 × 3 convolutions for each further entry of `channels`. Each has batch
    normalization and ReLU. The last convolution of a stage is followed at once by a max-pool, so that the rest of the
    stage has a quarter of the work. Dropout comes before the linear layer.

    `channels` has 1 to 4 entries. `padding` is the width of the border of zeros around the image, in pixels: the first
    convolution gives 28×28 positions with 2, and 24×24 with 0, which takes less time. `dropout` is the probability that
    a feature is left out in training.
    """

    static_graph = True

    def __init__(self, *, channels: Sequence[int], padding: int = 2, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_sizes("channels", channels)
        check_probability("dropout", dropout)
        if not 1 <= len(channels) <= 4:
            raise ValueError(f"channels has {len(channels)} entries; should have 1 to 4")
        if padding not in (0, 1, 2):
            raise ValueError(f"padding is {padding}; should be 0, 1 or 2")
        layers = _conv(1, channels[0], 5, padding, pool=True)
        for before, after in pairwise(channels):
            layers += _conv(before, after, 3, 1) + _conv(after, after, 3, 1, pool=True)
        side = (24 + 2 * padding) // 2 ** len(channels)
        layers += [nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels[-1] * side * side, 10)]
        self.network = nn.Sequential(*layers).to(memory_format=torch.channels_last)


def _conv(inputs: int, outputs: int, size: int, padding: int, pool: bool = False) -> list[nn.Module]:
    """No bias: the batch normalization behind it has one."""
    convolution = nn.Conv2d(inputs, outputs, size, padding=padding, bias=False)
    return [convolution, *([nn.MaxPool2d(2)] if pool else []), nn.BatchNorm2d(outputs), nn.ReLU()]
