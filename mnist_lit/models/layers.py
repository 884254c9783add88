"""Activations by name, and what the network's last layer hands to the loss."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
    "none": nn.Identity,
}

OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda scores: scores,
    "log_softmax": lambda scores: scores.log_softmax(1),
    "softmax": lambda scores: scores.softmax(1),
    "relu_softmax": lambda scores: scores.relu().softmax(1),
}


def probabilities(output: str, outputs: Tensor) -> Tensor:
    """What a network with this `output` says, as probabilities [n, 10]."""
    if output == "logits":
        return outputs.softmax(1)
    return torch.exp(outputs) if output == "log_softmax" else outputs
