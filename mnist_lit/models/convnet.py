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

    `channels` has 1 to 4 entries. `dropout` is the probability that a feature is left out in training. `stride` is that
    of the first convolution. With 2, this convolution has neither a max-pool nor padding, so the second one works on
    12 × 12 positions instead of 14 × 14. The network then needs about two thirds of the time.
    """

    static_graph = True

    def __init__(self, *, channels: Sequence[int], dropout: float = 0.0, stride: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_sizes("channels", channels)
        check_probability("dropout", dropout)
        if not 1 <= len(channels) <= 4:
            raise ValueError(f"channels has {len(channels)} entries; should have 1 to 4")
        if stride not in (1, 2):
            raise ValueError(f"stride is {stride}; should be 1 or 2")
        first = nn.Conv2d(1, channels[0], 5, stride, padding=2 if stride == 1 else 0, bias=False)
        layers = _normalized(first, pool=stride == 1)
        for before, after in pairwise(channels):
            layers += _normalized(_conv(before, after)) + _normalized(_conv(after, after), pool=True)
        side = (14 if stride == 1 else 12) // 2 ** (len(channels) - 1)
        layers += [nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels[-1] * side * side, 10)]
        self.network = nn.Sequential(*layers).to(memory_format=torch.channels_last)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    """No bias: the batch normalization behind it has one."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _normalized(convolution: nn.Conv2d, pool: bool = False) -> list[nn.Module]:
    batch_norm = nn.BatchNorm2d(convolution.out_channels)
    return [convolution, *([nn.MaxPool2d(2)] if pool else []), batch_norm, nn.ReLU()]
