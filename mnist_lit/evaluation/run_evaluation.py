"""Test a finished run again, from its folder alone: accuracy, calibration, latency. Or test several runs together."""

import statistics
import timeit
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from mnist_lit.build import GIVEN, build_data, build_loss
from mnist_lit.config import IDXData, TrainConfig, parse_config
from mnist_lit.config.schema import DIGITS_MODULE, MNIST_MODULE
from mnist_lit.data.files import recorded_root
from mnist_lit.data.loader import EvalLoader
from mnist_lit.errors import UserError
from mnist_lit.evaluation.statistics import (
    confusion_matrix,
    ensemble_accuracy,
    format_class_table,
    format_confusion_matrix,
    wilson_interval,
)
from mnist_lit.losses import probabilities
from mnist_lit.models import DigitClassifier
from mnist_lit.models.checkpoint_file import load_classifier, read_checkpoint
from mnist_lit.run_folder import (
    CHECKPOINTS,
    CONFIG,
    DAMAGED,
    PREDICTIONS,
    best_checkpoint,
    read_config,
    read_result,
    run_of_checkpoint,
)


@dataclass(frozen=True)
class Evaluation:
    """`status` is how the run ended. `confusion` [10, 10] counts test images: rows are the true classes, columns the
    predictions. `calibration_error` is that of the probabilities as they are, and that after division of the scores by
    `temperature`, which is fitted on the validation set. `milliseconds` is for one image, `images_per_second` for
    batches."""

    checkpoint: Path
    status: str
    data: str
    classes: tuple[str, ...]
    samples: int
    test_acc: float
    test_loss: float
    confusion: np.ndarray
    temperature: float
    calibration_error: tuple[float, float]
    milliseconds: float
    images_per_second: float


def evaluate_run(run: Path, data_root: Path | None = None) -> Evaluation:
    """Test a run's best checkpoint, or the given checkpoint, on the test set of the run's own data.

    Raises:
        UserError: if the folder is not a run's, or if its checkpoint or data cannot be read.
    """
    checkpoint = best_checkpoint(run)
    config = recorded_config(checkpoint, data_root)
    model = load_classifier(checkpoint)
    data = build_data(config)
    val, test = (_predict(model, EvalLoader(part, data.normalize)) for part in (data.splits.val, data.splits.test))
    temperature = fit_temperature(*_to_probabilities(model, *val))
    answers, labels = _to_probabilities(model, *test)
    confusion = confusion_matrix(labels, answers.argmax(1))
    loss = build_loss(config.loss).evaluation()
    loss.output = model.output
    images = data.normalize(data.splits.test.images[: EvalLoader.BATCH_SIZE])
    return Evaluation(
        checkpoint=checkpoint,
        status=read_result(checkpoint.parent.parent).get("status", "unknown"),
        data=config.data.name,
        classes=data.classes,
        samples=len(labels),
        test_acc=float(confusion.trace() / confusion.sum()),
        test_loss=float(loss(*test)),
        confusion=confusion,
        temperature=temperature,
        calibration_error=(
            expected_calibration_error(answers, labels),
            expected_calibration_error(apply_temperature(answers, temperature), labels),
        ),
        milliseconds=1000 * _measure_seconds(model, images[:1]),
        images_per_second=len(images) / _measure_seconds(model, images),
    )


@dataclass(frozen=True)
class Ensemble:
    """Several networks on the same test images. `accuracies` are those of each network, in the order of `runs`."""

    runs: tuple[Path, ...]
    data: str
    samples: int
    accuracies: tuple[float, ...]
    accuracy: float


def evaluate_ensemble(runs: Sequence[Path], data_root: Path | None = None) -> Ensemble:
    """Test the best checkpoints of several runs together.

    Raises:
        UserError: if a run cannot be tested or is given twice, or if the test images are not the same for all runs.
    """
    checkpoints = [best_checkpoint(run).resolve() for run in runs]
    for index, checkpoint in enumerate(checkpoints):
        if checkpoint in checkpoints[:index]:
            raise UserError(f"{runs[index]}: is given twice; each network counts once")
    names = [recorded_config(checkpoint, data_root).data.name for checkpoint in checkpoints]
    answers = [_read_answers(run) or _compute_answers(run, data_root) for run in runs]
    labels = answers[0][1]
    for run, name, (_, other) in zip(runs, names, answers, strict=True):
        if name != names[0] or not np.array_equal(other, labels):
            raise UserError(f"{run}: was not tested on the same images as {runs[0]}")
    networks = [probabilities for probabilities, _ in answers]
    return Ensemble(
        tuple(runs),
        names[0],
        len(labels),
        tuple(ensemble_accuracy([network], labels) for network in networks),
        ensemble_accuracy(networks, labels),
    )


def _read_answers(run: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Probabilities and labels as the run has stored them. None for a checkpoint, for a run of an older version, and
    for a run that is not completed: after a resume its best checkpoint may be newer than them."""
    if read_result(run).get("status") != "completed":
        return None
    try:
        with np.load(run / PREDICTIONS, allow_pickle=False) as file:
            return file["probabilities"], file["label"]
    except DAMAGED:
        return None


def _compute_answers(run: Path, data_root: Path | None) -> tuple[np.ndarray, np.ndarray]:
    checkpoint = best_checkpoint(run)
    model, data = load_classifier(checkpoint), build_data(recorded_config(checkpoint, data_root))
    return _to_probabilities(model, *_predict(model, EvalLoader(data.splits.test, data.normalize)))


def format_ensemble(ensemble: Ensemble) -> str:
    low, high = wilson_interval(ensemble.accuracy, ensemble.samples)
    interval = f"95 % interval {low:.2%} to {high:.2%}"
    lines = [f"{accuracy:.2%}  {run}" for run, accuracy in zip(ensemble.runs, ensemble.accuracies, strict=True)]
    together = f"{ensemble.accuracy:.2%}  together ({interval}): mean of the probabilities"
    return "\n".join([f"{ensemble.data}: {ensemble.samples:,} test images", *lines, together])


def recorded_config(checkpoint: Path, data_root: Path | None = None) -> TrainConfig:
    """The config of the run that a checkpoint is from. A checkpoint that is not in a run's folder knows its network and
    its data itself.

    The data are in `data_root`; if that is None, where the run had them; if they are not there, in MNIST_LIT_DATA.

    Raises:
        UserError: if the checkpoint alone is not enough, or if its data have no folder.
    """
    folder = run_of_checkpoint(checkpoint)
    config = read_config(folder) if folder else _config_of_file(checkpoint)
    data = config.data
    if data_root and not isinstance(data, IDXData):
        raise UserError(f"--data-root {data_root}: data={data.name} is not in a folder of MNIST's format")
    if isinstance(data, IDXData):
        data = data.model_copy(update={"root": str(data_root or recorded_root(data.options))})
    return config.model_copy(update={"data": data})


def _config_of_file(checkpoint: Path) -> TrainConfig:
    content = read_checkpoint(checkpoint)
    data = content.get("datamodule_hyper_parameters", {})
    kind = next((path for path in (MNIST_MODULE, DIGITS_MODULE) if path.rpartition(".")[2] in content), None)
    if kind is None:
        raise UserError(
            f"{checkpoint}: is not in the folder of its run (RUN/{CHECKPOINTS}/{checkpoint.name} beside RUN/{CONFIG}), "
            "and does not say alone what data it was trained on. It is enough for mnist-lit predict and demo"
        )
    return parse_config(
        {
            "data": {"_target_": kind, **{name: value for name, value in data.items() if name not in GIVEN["data"]}},
            "model": {"_target_": content["network"], **content["hyper_parameters"]},
            **({"loss": content["loss"]} if "loss" in content else {}),
            "optimizer": {"_target_": "torch.optim.Adam"},  # not used
        }
    )


def median_seconds(call: Callable[[], object], times: int) -> float:
    """The median over `times` calls. One more call before them is a warm-up and does not count."""
    return statistics.median(timeit.repeat(call, number=1, repeat=times + 1)[1:])


def format_evaluation(outcome: Evaluation) -> str:
    notes = {"completed": "", "unknown": " (the folder of its run is not here)"}
    unfinished = notes.get(outcome.status, f", of a run that is {outcome.status}")
    before, after = outcome.calibration_error
    return f"""\
{outcome.checkpoint}{unfinished}
{outcome.data}: {outcome.samples:,} test images
test_acc   {outcome.test_acc:.2%}
test_loss  {outcome.test_loss:.4f}

{format_class_table(outcome.confusion, outcome.classes)}

{format_confusion_matrix(outcome.confusion, outcome.classes)}

calibration error  {before:.4f}; {after:.4f} at temperature {outcome.temperature:.2f}, fitted on validation
latency            {outcome.milliseconds:.2f} ms for one image, {outcome.images_per_second:,.0f} a second"""


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean difference between confidence and accuracy, in 15 equal bins of confidence (Guo et al. 2017).

    `probabilities` is [n, 10], `labels` [n]. 0 is perfect.
    """
    answers, truth = torch.from_numpy(probabilities), torch.from_numpy(labels)
    return float(multiclass_calibration_error(answers, truth, num_classes=10, n_bins=15, norm="l1"))


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the highest likelihood of these labels. Above 1: the network was overconfident."""

    def loss(log_temperature: float) -> float:
        softened = apply_temperature(probabilities, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(softened[np.arange(len(labels)), labels], 1e-30)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """The softmax of the same scores divided by `temperature`."""
    scores = np.log(np.maximum(probabilities.astype(np.float64), 1e-30)) / temperature
    return np.asarray(softmax(scores, axis=1))


@torch.inference_mode()
def _measure_seconds(model: DigitClassifier, images: Tensor) -> float:
    return median_seconds(lambda: model(images), 20)


@torch.inference_mode()
def _predict(model: DigitClassifier, loader: EvalLoader) -> tuple[Tensor, Tensor]:
    outputs, labels = zip(*((model(images), labels) for images, labels in loader), strict=True)
    return torch.cat(outputs).float(), torch.cat(labels)


def _to_probabilities(model: DigitClassifier, outputs: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return probabilities(model.output, outputs).numpy(), labels.numpy()
