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

    `channels` has 1 to 4 entries. `dropout` is the probability that a feature is left out in training.
    """

    static_graph = True

    def __init__(self, *, channels: Sequence[int], dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_sizes("channels", channels)
        check_probability("dropout", dropout)
        if not 1 <= len(channels) <= 4:
            raise ValueError(f"channels has {len(channels)} entries; should have 1 to 4")
        layers = _conv(1, channels[0], 5, pool=True)
        for before, after in pairwise(channels):
            layers += _conv(before, after, 3) + _conv(after, after, 3, pool=True)
        side = 28 // 2 ** len(channels)
        layers += [nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels[-1] * side * side, 10)]
        self.network = nn.Sequential(*layers).to(memory_format=torch.channels_last)


def _conv(inputs: int, outputs: int, size: int, pool: bool = False) -> list[nn.Module]:
    """No bias: the batch normalization behind it has one."""
    convolution = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
    return [convolution, *([nn.MaxPool2d(2)] if pool else []), nn.BatchNorm2d(outputs), nn.ReLU()]
