"""A run's network with its own normalisation before it and probabilities behind it."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mnist_lit.data.loader import Normalize
from mnist_lit.errors import UserError
from mnist_lit.models import DigitClassifier
from mnist_lit.models.layers import OUTPUTS, probabilities
from mnist_lit.training.checkpoints import BEST, load_classifier, read_checkpoint


class Reader(nn.Module):
    """Pictures [n, 28, 28] uint8 → probabilities [n, 10]."""

    def __init__(self, classifier: DigitClassifier, normalize: Normalize) -> None:
        super().__init__()
        self.network, self.output, self.normalize = classifier.network, classifier.output, normalize

    def forward(self, pixels: Tensor) -> Tensor:
        scores = self.network(self.normalize(pixels.unsqueeze(1)))
        return probabilities(self.output, OUTPUTS[self.output](scores))


class CheckpointNetwork:
    """From the checkpoint's file alone. `checkpoint` is that file."""

    def __init__(self, path: Path) -> None:
        self.checkpoint = path / "checkpoints" / BEST if path.is_dir() else path
        classifier = load_classifier(self.checkpoint)
        data = read_checkpoint(self.checkpoint).get("datamodule_hyper_parameters", {})
        try:
            self.reader = Reader(classifier, Normalize(float(data["mean"]), float(data["std"]))).eval()
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.checkpoint}: does not say how its pictures were normalised") from error
        self.name = type(classifier).__name__
        self.parameters = classifier.parameter_count
        self.about = self._about()

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return self.reader(torch.from_numpy(pixels)).numpy()

    def _about(self) -> str:
        """Such as `ConvNet, 75,706 parameters, 99.59% on mnist's 10,000 test images`."""
        try:
            result = json.loads((self.checkpoint.parent.parent / "result.json").read_text())
            measured = (
                f"{result['test_acc']:.2%} on {result['data']['name']}'s {result['data']['test_size']:,} test images"
            )
        except (OSError, ValueError, KeyError, TypeError):
            measured = "its accuracy is not recorded here"
        return f"{self.name}, {self.parameters:,} parameters, {measured}"
