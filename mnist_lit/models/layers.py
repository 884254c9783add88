"""Activations by name, and what the networks share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "leaky_relu": nn.LeakyReLU,
    "none": nn.Identity,
}


def activation_class(name: str) -> type[nn.Module]:
    """Raises ValueError for an unknown name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name}: should be one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def check_sizes(name: str, sizes: Sequence[int]) -> None:
    """Raises ValueError if a layer has no whole number of units of at least 1."""
    for index, size in enumerate(sizes):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name}.{index}={size}: should be a whole number of at least 1")


def check_probability(name: str, value: float) -> None:
    """Raises ValueError if the value is no probability below 1."""
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value}: should be at least 0 and less than 1")


@contextmanager
def keeping_modes(model: nn.Module) -> Iterator[None]:
    """Afterwards each part is in training or evaluation mode as before: a frozen part stays in evaluation mode."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
