"""Which pixels spoke for the answer, and which against it."""

import numpy as np
import torch

from mnist_lit.digits.checkpoint import Reader

STEPS = 8  # between nothing drawn and the digit


def saliency(reader: Reader, pixels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Integrated gradients (Sundararajan et al. 2017) of the answers' log-probability from an empty picture to each of
    `pixels` [n, 28, 28] uint8; `answers` is [n]. Returns [n, 28, 28] in -1 to 1: above 0 spoke for the answer; the
    strongest pixel of each picture is 1 or -1."""
    shares = (torch.arange(STEPS) + 0.5) / STEPS
    faded = (torch.from_numpy(pixels).float().unsqueeze(1) * shares.view(1, -1, 1, 1)).requires_grad_()
    with torch.enable_grad():
        likely = reader(faded.flatten(0, 1).clone()).clamp_min(1e-12).log()
        chosen = likely.gather(1, torch.from_numpy(answers).repeat_interleave(STEPS).unsqueeze(1))
        (gradient,) = torch.autograd.grad(chosen.sum(), faded)
    spoke = gradient.mean(1).numpy() * pixels
    return spoke / np.maximum(np.abs(spoke).max((1, 2), keepdims=True), 1e-12)
