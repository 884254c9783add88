"""A network that draws random numbers and updates running statistics at every step, so that exact resuming is hard."""

from typing import Any

from torch import nn

from mnist_lit.models import DigitClassifier


class Dropout(DigitClassifier):
    def __init__(self, *, width: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = nn.Sequential(
            nn.Flatten(), nn.Linear(784, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, 10)
        )
