"""A convolutional network that learns the most in the least time on a CPU."""

from typing import Any

import torch
from torch import nn

from mnist_lit.models.base import DigitClassifier


class FastCNN(DigitClassifier):
    """conv 1→16 5×5 stride 2, conv 16→32 3×3, max-pool 2, batch norm, linear 800-128-10; 108,890 parameters.

    A quarter of the positions of an unstrided first convolution, and no large activations behind it, is where the time
    is saved. Batch norm comes after the pool, for the same reason; the convolution before it needs no bias.
    """

    static_graph = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, bias=False), nn.ReLU(),
            nn.Conv2d(16, 32, 3, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Flatten(), nn.Linear(800, 128), nn.ReLU(),
            nn.Linear(128, 10),
        ).to(memory_format=torch.channels_last)  # fmt: skip
