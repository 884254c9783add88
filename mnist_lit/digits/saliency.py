"""Which pixels count for a prediction: a part of the picture is erased, and the network reads it again."""

import numpy as np

from mnist_lit.digits.trained_network import Network

WINDOW, STRIDE = 4, 3  # pixels
PLACES = [(y, x) for y in range(0, 28 - WINDOW + 1, STRIDE) for x in range(0, 28 - WINDOW + 1, STRIDE)]


def measure_saliency(network: Network, pixels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """How much each pixel counts for (above 0) or against (below 0) the prediction, from -1 to 1: [n, 28, 28].

    `pixels` [n, 28, 28] uint8, `predictions` [n]. A window of 4 × 4 pixels is erased at each place (Zeiler and Fergus
    2014). The value of a pixel is the mean loss of log-odds over all windows that erase it. Pixels without ink are 0.
    The strongest pixel of each picture is 1 or -1.
    """
    windows = np.zeros((len(PLACES), 28, 28), bool)
    for window, (y, x) in zip(windows, PLACES, strict=True):
        window[y : y + WINDOW, x : x + WINDOW] = True
    erased = np.where(windows, np.uint8(0), pixels[:, None])
    before = _log_odds(network, pixels, predictions)
    after = _log_odds(network, erased.reshape(-1, 28, 28), predictions.repeat(len(windows)))
    losses = before[:, None] - after.reshape(len(pixels), -1)
    contributions = np.tensordot(losses, windows / windows.sum(0), 1) * (pixels > 0)
    return contributions / np.maximum(np.abs(contributions).max((1, 2), keepdims=True), 1e-12)


def _log_odds(network: Network, pixels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """The logarithm of the prediction's probability, divided by that of all other digits. It does not saturate when the
    network is sure."""
    probabilities = np.maximum(network(pixels), 1e-12)
    predicted = np.arange(10) == predictions[:, None]
    return np.log(probabilities[predicted]) - np.log(np.where(predicted, 0, probabilities).sum(1))
