"""The tutorials' convolutional network."""

from typing import Any

import torch
from torch import nn

from mnist_lit.models.base import DigitClassifier
from mnist_lit.models.layers import ACTIVATIONS


class CNN(DigitClassifier):
    """conv 1→10 5×5, max-pool 2, conv 10→20 3×3, linear 2000-500-10; 1,007,590 parameters.

    Pools before the activation: every activation here is monotonic, so the result is the same for a quarter of the
    work. Its weights are stored channels-last, which CPU and GPU convolutions run faster on.
    """

    static_graph = True

    def __init__(self, *, activation: str = "relu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        act = ACTIVATIONS[activation]
        self.network = nn.Sequential(
            nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), act(),
            nn.Conv2d(10, 20, 3), act(),
            nn.Flatten(), nn.Linear(2000, 500), act(),
            nn.Linear(500, 10),
        ).to(memory_format=torch.channels_last)  # fmt: skip
