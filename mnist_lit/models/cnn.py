"""Convolutional networks with a fixed size."""

from typing import Any

import torch
from torch import nn

from mnist_lit.models.classifier import DigitClassifier
from mnist_lit.models.layers import activation_class


class CNN(DigitClassifier):
    """conv 1→10 5×5, max-pool 2, conv 10→20 3×3, linear 2000-500-10; 1,007,590 parameters.

    The pooling comes before the activation. Every activation here is monotonic, so the result is the same with a
    quarter of the work. The weights are stored channels-last, which is faster for convolutions on CPU and GPU. The
    second activation comes after Flatten. The result is the same, and its gradient has the memory layout of its input.
    """

    static_graph = True

    def __init__(self, *, activation: str = "relu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        act = activation_class(activation)
        self.network = nn.Sequential(
            nn.Conv2d(1, 10, 5), nn.MaxPool2d(2), act(),
            nn.Conv2d(10, 20, 3), nn.Flatten(), act(),
            nn.Linear(2000, 500), act(),
            nn.Linear(500, 10),
        ).to(memory_format=torch.channels_last)  # fmt: skip


class FastCNN(DigitClassifier):
    """conv 1→16 5×5 stride 2, conv 16→32 3×3, max-pool 2, batch norm, linear 800-128-10; 108,890 parameters.

    The stride saves the time: a quarter of the positions, and no large activations behind them. Batch norm comes after
    the pooling for the same reason; the convolution before it needs no bias.

    `crop` is the number of pixels that are removed at each edge of the image, 0 to 4. Each digit of MNIST fits a box of
    20×20 pixels, placed by its center of mass, so 4 can cut a digit. With 2, the network has 72,026 parameters.
    """

    static_graph = True

    def __init__(self, *, crop: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if crop not in range(5):
            raise ValueError(f"crop is {crop}; should be 0 to 4 pixels")
        side = (10 - crop) // 2  # after the pooling
        self.network = nn.Sequential(
            *([nn.ZeroPad2d(-crop)] if crop else []),
            nn.Conv2d(1, 16, 5, stride=2, bias=False), nn.ReLU(),
            nn.Conv2d(16, 32, 3, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * side * side, 128), nn.ReLU(),
            nn.Linear(128, 10),
        ).to(memory_format=torch.channels_last)  # fmt: skip
