"""Whether a network's probabilities are to be believed."""

import numpy as np
from scipy.optimize import minimize_scalar

BINS = 15


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """How far confidence and accuracy lie apart, mean over the samples, in 15 equal bins of confidence (Guo et al.
    2017). `probabilities` is [n, 10]; 0 is perfect."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(float(confidence[bins == b].sum() - right[bins == b].sum())) for b in range(BINS)]
    return sum(gaps) / len(labels)


def fitted_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature at which these labels are the likeliest; above 1 the network was too sure of itself."""

    def loss(log_temperature: float) -> float:
        cooled = at_temperature(probabilities, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(cooled[np.arange(len(labels)), labels], 1e-30)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def at_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The softmax of the same scores divided by `temperature`."""
    scores = np.log(np.maximum(probabilities.astype(np.float64), 1e-30)) / temperature
    scores = np.exp(scores - scores.max(1, keepdims=True))
    return scores / scores.sum(1, keepdims=True)
