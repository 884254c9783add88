"""The names that a config may use, and which of them make sense together. Imports no torch."""

from typing import Literal

Activation = Literal["relu", "sigmoid", "tanh", "leaky_relu", "none"]
Output = Literal["logits", "log_softmax", "softmax", "relu_softmax"]


def loss_objection(loss: str, output: str) -> str | None:
    """Why this loss cannot be taken on this output, or None if it can."""
    if loss == "nll" and output != "log_softmax":
        return (
            f"loss=nll averages -output[label], so it needs log-probabilities, and model.output={output} gives "
            f"{'raw scores' if output == 'logits' else 'probabilities'}: minimising it would not maximise the "
            "likelihood. Use model.output=log_softmax with loss=nll, or model.output=logits with loss=cross_entropy "
            "(the same mathematics)"
        )
    return None


def loss_warning(loss: str, output: str) -> str | None:
    """What to expect of a combination that trains, but badly; None for a sound one."""
    if loss == "cross_entropy" and output in ("softmax", "relu_softmax"):
        return (
            f"loss=cross_entropy applies a softmax of its own, so on model.output={output} softmax is taken twice: "
            "probabilities lie in [0, 1], the second softmax can tell them apart by a factor e at most, the loss "
            "cannot fall below 1.46 and the gradient starves. The sound twin is model.output=logits"
        )
    return None
