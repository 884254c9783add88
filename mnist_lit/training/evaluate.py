"""A finished run measured again, from its folder alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mnist_lit.data.loader import EvalLoader
from mnist_lit.models import DigitClassifier
from mnist_lit.models.layers import probabilities
from mnist_lit.plots import confusion_matrix
from mnist_lit.training.build import build_data
from mnist_lit.training.calibration import at_temperature, expected_calibration_error, fitted_temperature
from mnist_lit.training.checkpoints import BEST, load_classifier
from mnist_lit.training.latency import median_seconds
from mnist_lit.training.resume import recorded, run_config


@dataclass(frozen=True)
class Evaluation:
    """`status` is the run's. `confusion` [10, 10] counts test images: row the truth, column the prediction. `ece` is of
    the probabilities as they are and divided by `temperature`, which is fitted on the validation set. `milliseconds`
    are of one picture, `images_per_second` of batches."""

    checkpoint: Path
    status: str
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
    folder = checkpoint.parent.parent
    config = run_config(folder)
    data = build_data(config)
    model = load_classifier(checkpoint)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.trainer.precision == "bf16-mixed"):
        val, test = (_outputs(model, EvalLoader(part, data.normalize)) for part in (data.splits.val, data.splits.test))
    temperature = fitted_temperature(*_answers(model, *val))
    answers, labels = _answers(model, *test)
    confusion = confusion_matrix(labels, answers.argmax(1))
    images = data.normalize(data.splits.test.images[: EvalLoader.BATCH_SIZE])
    return Evaluation(
        checkpoint=checkpoint,
        status=recorded(folder).get("status", "without a result.json"),
        data=data.name,
        samples=len(labels),
        test_acc=float(confusion.trace() / confusion.sum()),
        test_loss=float(model.plain_loss(*test)),
        confusion=confusion,
        temperature=temperature,
        ece=(
            expected_calibration_error(answers, labels),
            expected_calibration_error(at_temperature(answers, temperature), labels),
        ),
        milliseconds=1000 * _seconds(model, images[:1]),
        images_per_second=len(images) / _seconds(model, images),
    )


@torch.inference_mode()
def _seconds(model: DigitClassifier, images: Tensor) -> float:
    return median_seconds(lambda: model(images), 20)


@torch.inference_mode()
def _outputs(model: DigitClassifier, loader: EvalLoader) -> tuple[Tensor, Tensor]:
    outputs, labels = zip(*((model(images), labels) for images, labels in loader), strict=True)
    return torch.cat(outputs).float(), torch.cat(labels)


def _answers(model: DigitClassifier, outputs: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return probabilities(model.output, outputs).numpy(), labels.numpy()
