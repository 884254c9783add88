"""The losses by name, each right for each kind of output."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_lit.choices import loss_objection
from mnist_lit.models.layers import probabilities


class Loss:
    """Mean over the batch of one of:

    cross_entropy: softmax cross-entropy on the network's output *as it stands*: on `softmax` outputs that is a second
        softmax, the articles' mistake, kept because it is the lesson; `label_smoothing` of each target is spread
        evenly over the ten classes;
    nll: -output[label], for log-probabilities;
    mse, l1: squared or absolute distance between the probabilities and the one-hot target, mean over the ten classes.

    Raises:
        ValueError: for a combination without a meaning, such as nll on probabilities.
    """

    def __init__(self, name: str, output: str, label_smoothing: float = 0.0) -> None:
        if objection := loss_objection(name, output):
            raise ValueError(objection)
        self.name = name
        self.output = output
        self.label_smoothing = label_smoothing

    def __call__(self, outputs: Tensor, labels: Tensor) -> Tensor:
        match self.name:
            case "cross_entropy":
                return F.cross_entropy(outputs, labels, label_smoothing=self.label_smoothing)
            case "nll":
                return F.nll_loss(outputs, labels)
            case "mse":
                return F.mse_loss(*self._against_one_hot(outputs, labels))
            case "l1":
                return F.l1_loss(*self._against_one_hot(outputs, labels))
        raise ValueError(f"loss={self.name!r}: expected cross_entropy, nll, mse or l1")

    def _against_one_hot(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        predicted = probabilities(self.output, outputs)
        digits = torch.arange(predicted.shape[1], device=labels.device)
        return predicted, (labels.unsqueeze(1) == digits).to(predicted.dtype)  # one_hot would read the labels
