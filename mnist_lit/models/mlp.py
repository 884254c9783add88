"""Multi-layer perceptrons."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from mnist_lit.models.base import DigitClassifier
from mnist_lit.models.layers import ACTIVATIONS


class MLP(DigitClassifier):
    """784 → each of `hidden` → 10, with `activation` between the layers.

    With activation `none` the layers collapse into one linear map, however many there are.
    """

    static_graph = True

    def __init__(self, *, hidden: Sequence[int], activation: str = "relu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        sizes = [28 * 28, *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
        self.network = nn.Sequential(*layers, nn.Linear(sizes[-1], 10))
