"""The losses, and the outputs of a network that they take. Each loss is a class that says what it can take."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "logits": lambda scores: scores,
    "log_softmax": lambda scores: scores.log_softmax(1),
    "softmax": lambda scores: scores.softmax(1),
    "relu_softmax": lambda scores: scores.relu().softmax(1),
}


def probabilities(output: str, outputs: Tensor) -> Tensor:
    """The outputs [n, 10] of a network with this `output`, as probabilities."""
    if output == "logits":
        return outputs.softmax(1)
    return torch.exp(outputs) if output == "log_softmax" else outputs


class Loss(nn.Module):
    """The base of every loss: `forward(outputs, labels)` returns the mean over the batch, a scalar.

    `outputs` [n, 10] are what the network's forward returns; `labels` [n] int64. A subclass has plain arguments
    (numbers, text, lists of them). The network sets `output` to the name of its output: logits, log_softmax, softmax or
    relu_softmax.

    `static_graph = True` says that forward always runs the same operations, so that a GPU may record and replay them.
    """

    output: str = "logits"
    static_graph = False

    def __init__(self) -> None:
        super().__init__()
        self.section: dict[str, object] = {"_target_": f"{type(self).__module__}.{type(self).__qualname__}"}

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        raise NotImplementedError

    def objection(self, output: str) -> str | None:
        """Why this loss cannot take this output; None if it can."""
        return None

    def warning(self, output: str) -> str | None:
        """Why a network with this output trains badly; None if it trains well."""
        return None

    def evaluation(self) -> "Loss":
        """The loss of validation and test: the same, but without what only helps training."""
        return self


class CrossEntropy(Loss):
    """Softmax cross-entropy of the network's output as it is.

    On `softmax` outputs this applies a second softmax. That is the mistake of two tutorials; it is a lesson here.
    `label_smoothing`, 0 to 1, is the part of each target that is spread evenly over the ten classes.
    """

    static_graph = True

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: should be at least 0 and less than 1")
        self.label_smoothing = label_smoothing

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(outputs, labels, label_smoothing=self.label_smoothing)

    def warning(self, output: str) -> str | None:
        if output not in ("softmax", "relu_softmax"):
            return None
        return (
            f"loss=cross_entropy applies a softmax itself, and model.output={output} has already applied one. "
            "Probabilities lie between 0 and 1, so the second softmax can make them differ by a factor of e at most: "
            "the loss cannot fall below 1.46 and the gradient is small. The correct output is model.output=logits"
        )

    def evaluation(self) -> Loss:
        return CrossEntropy()


class NLL(Loss):
    """-output[label], for log-probabilities."""

    static_graph = True

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return F.nll_loss(outputs, labels)

    def objection(self, output: str) -> str | None:
        if output == "log_softmax":
            return None
        return (
            f"loss=nll averages -output[label], so it needs log-probabilities, and model.output={output} gives "
            f"{'raw scores' if output == 'logits' else 'probabilities'}: minimizing it would not maximize the "
            "likelihood. Use model.output=log_softmax with loss=nll, or model.output=logits with loss=cross_entropy "
            "(the same formula)"
        )


class MSE(Loss):
    """Squared distance between the probabilities and the one-hot target, mean over the ten classes."""

    static_graph = True

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return F.mse_loss(*_probabilities_and_targets(self.output, outputs, labels))


class L1(Loss):
    """Absolute distance between the probabilities and the one-hot target, mean over the ten classes."""

    static_graph = True

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        return F.l1_loss(*_probabilities_and_targets(self.output, outputs, labels))


def _probabilities_and_targets(output: str, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    predicted = probabilities(output, outputs)
    classes = torch.arange(predicted.shape[1], device=labels.device)
    return predicted, (labels.unsqueeze(1) == classes).to(predicted.dtype)  # F.one_hot copies from the GPU
