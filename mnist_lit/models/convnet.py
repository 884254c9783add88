"""A deeper convolutional network with batch normalisation, for accuracy."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from mnist_lit.models.base import DigitClassifier


class ConvNet(DigitClassifier):
    """One 5 × 5 convolution, then a pair of 3 × 3 ones for each further entry of `channels`, each with batch
    normalisation and ReLU; the last convolution of a stage is followed by a max-pool that halves the picture, at once,
    so that the rest has a quarter of the work. Dropout before the linear layer.

    `dropout` is the probability with which a feature is left out in training, 0 to 1.
    """

    static_graph = True

    def __init__(self, *, channels: Sequence[int], dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        layers = _conv(1, channels[0], 5, pooled=True)
        for before, after in pairwise(channels):
            layers += _conv(before, after, 3) + _conv(after, after, 3, pooled=True)
        side = 28 // 2 ** len(channels)
        layers += [nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels[-1] * side * side, 10)]
        self.network = nn.Sequential(*layers).to(memory_format=torch.channels_last)


def _conv(inputs: int, outputs: int, size: int, pooled: bool = False) -> list[nn.Module]:
    """Without a bias, which the batch normalisation behind it has."""
    convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    return [convolution, *([nn.MaxPool2d(2)] if pooled else []), nn.BatchNorm2d(outputs), nn.ReLU()]
