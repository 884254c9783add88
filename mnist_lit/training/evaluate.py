"""A finished run measured again, from its folder alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from mnist_lit.data.loader import EvalLoader
from mnist_lit.models import DigitClassifier
from mnist_lit.plots import confusion_matrix
from mnist_lit.training.build import build_data
from mnist_lit.training.calibration import at_temperature, expected_calibration_error, fitted_temperature
from mnist_lit.training.checkpoints import BEST, load_classifier
from mnist_lit.training.latency import median_seconds
from mnist_lit.training.resume import run_config


@dataclass(frozen=True)
class Evaluation:
    """`confusion` [10, 10] counts test images: row the truth, column the prediction. `ece` is of the probabilities as
    they are and divided by `temperature`, which is fitted on the validation set. `milliseconds` are of one picture,
    `images_per_second` of batches."""

    checkpoint: Path
    data: str
    samples: int
    test_acc: float
    test_loss: float
    confusion: np.ndarray
    temperature: float
    ece: tuple[float, float]
    milliseconds: float
    images_per_second: float


def evaluate_run(run: Path) -> Evaluation:
    """Test a run's best checkpoint, or the checkpoint given, on the test set of the run's own data.

    Raises:
        UserError: if this is not a run, or its checkpoint or data cannot be read.
    """
    checkpoint = run if run.is_file() else run / "checkpoints" / BEST
    data = build_data(run_config(checkpoint.parent.parent))
    data.prepare_data()
    model = load_classifier(checkpoint)
    trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.test(model, data, verbose=False)
    measured = trainer.callback_metrics
    model = model.cpu().eval()
    val, test = (_answers(model, EvalLoader(part, data.normalize)) for part in (data.splits.val, data.splits.test))
    temperature = fitted_temperature(*val)
    probabilities, labels = test
    images = data.normalize(data.splits.test.images[: EvalLoader.BATCH_SIZE])
    return Evaluation(
        checkpoint=checkpoint,
        data=data.name,
        samples=len(labels),
        test_acc=float(measured["test_acc"]),
        test_loss=float(measured["test_loss"]),
        confusion=confusion_matrix(labels, probabilities.argmax(1)),
        temperature=temperature,
        ece=(
            expected_calibration_error(probabilities, labels),
            expected_calibration_error(at_temperature(probabilities, temperature), labels),
        ),
        milliseconds=1000 * _seconds(model, images[:1]),
        images_per_second=len(images) / _seconds(model, images),
    )


@torch.inference_mode()
def _seconds(model: DigitClassifier, images: Tensor) -> float:
    return median_seconds(lambda: model(images), 20)


@torch.inference_mode()
def _answers(model: DigitClassifier, loader: EvalLoader) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(model.probabilities(images).numpy(), labels.numpy()) for images, labels in loader]
    probabilities, labels = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    return probabilities, labels


def per_class(confusion: np.ndarray) -> str:
    """Counts [10, 10] as lines: of each digit's images how many were found, of those called so how many were."""
    lines = ["digit  images  recall  precision      F1"]
    for digit, (right, images, called) in enumerate(
        zip(confusion.diagonal(), confusion.sum(1), confusion.sum(0), strict=True)
    ):
        recall, precision = right / max(1, images), right / max(1, called)
        lines.append(
            f"{digit:>5}{images:>8,}{recall:>8.2%}{precision:>11.2%}{2 * right / max(1, images + called):>8.2%}"
        )
    return "\n".join(lines)
