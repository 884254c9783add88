"""Multi-layer perceptrons."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import nn

from mnist_lit.models.classifier import DigitClassifier
from mnist_lit.models.layers import activation_class, check_sizes


class MLP(DigitClassifier):
    """784 → each of `hidden` → 10, with `activation` between the layers.

    With activation `none` the layers together are one linear map, however many there are.
    """

    static_graph = True

    def __init__(self, *, hidden: Sequence[int], activation: str = "relu", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_sizes("hidden", hidden)
        act = activation_class(activation)
        sizes = [28 * 28, *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), act()]
        self.network = nn.Sequential(*layers, nn.Linear(sizes[-1], 10))
