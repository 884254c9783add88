"""A run's network as one file for other programs: made, checked against the checkpoint on the whole test set, timed."""

import io
import json
import logging
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnist_lit.data.datamodule import DigitDataModule
from mnist_lit.digits.checkpoint import CheckpointNetwork
from mnist_lit.digits.networks import OnnxNetwork
from mnist_lit.digits.prepare import PREPARATION
from mnist_lit.durable import whole_file
from mnist_lit.errors import UserError
from mnist_lit.training.build import build_data
from mnist_lit.training.latency import median_seconds
from mnist_lit.training.resume import run_config

CLOSE = 1e-5  # the largest difference in a probability that an export may make
BATCH = 1000

Answers = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Export:
    """`changed` counts the test images that get another answer, `difference` is the largest in any probability.
    `milliseconds` are of one picture and `images_per_second` of many: (the checkpoint's in torch, the export's)."""

    path: Path
    bytes: int
    images: int
    changed: int
    difference: float
    accuracy: tuple[float, float]
    milliseconds: tuple[float, float]
    images_per_second: tuple[float, float]


def export_run(run: Path, format: str, path: Path, int8: bool = False) -> Export:
    """Write `path` if what would be in it answers as the checkpoint does.

    With `int8` weights and activations are rounded to bytes (ONNX only), and how far its answers are off is for the
    caller to judge.

    Raises:
        UserError: if the run cannot be read, or the answers differ.
    """
    network = CheckpointNetwork(run)
    data = build_data(run_config(network.checkpoint.parent.parent))
    with TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        answers = save_pt2(network, made) if format == "pt2" else save_onnx(network, made, data if int8 else None)
        outcome = compared(network, answers, made, data)
        if not int8 and (outcome.changed or outcome.difference >= CLOSE):
            raise UserError(
                f"{path} is not written: {outcome.changed} of {outcome.images:,} test images would be read "
                f"differently, probabilities by up to {outcome.difference:.1e}"
            )
        with whole_file(path) as stream:
            stream.write(made.read_bytes())
    return Export(**vars(outcome) | {"path": path})


def save_pt2(network: CheckpointNetwork, path: Path) -> Answers:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on weights that lie elsewhere than on the CPU
        torch.export.save(_traced(network), path, extra_files={"metadata.json": json.dumps(_metadata(network))})
    program = torch.export.load(path).module()

    def answers(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return program(torch.from_numpy(pixels)).numpy()

    return answers


def save_onnx(network: CheckpointNetwork, path: Path, quantized_with: DigitDataModule | None) -> Answers:
    """`quantized_with`: round to int8, with ranges as they occur on these data's training images."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on versions of its own dependencies
        program = torch.onnx.export(
            _traced(network), input_names=["pixels"], output_names=["probabilities"], dynamo=True
        )
    assert program is not None
    program.model.metadata_props.update({key: json.dumps(value) for key, value in _metadata(network).items()})
    program.save(path, external_data=False)
    if quantized_with:
        _quantize(path, quantized_with.splits.train.images[:2000, 0].numpy())
    return OnnxNetwork(path)


def compared(network: CheckpointNetwork, answers: Answers, made: Path, data: DigitDataModule) -> Export:
    pixels, labels = data.splits.test.images[:, 0].numpy(), data.splits.test.labels.numpy()
    batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
    before, after = (np.concatenate([answer(batch) for batch in batches]) for answer in (network, answers))
    return Export(
        path=made,
        bytes=made.stat().st_size,
        images=len(pixels),
        changed=int((before.argmax(1) != after.argmax(1)).sum()),
        difference=float(np.abs(before - after).max()),
        accuracy=(float((before.argmax(1) == labels).mean()), float((after.argmax(1) == labels).mean())),
        milliseconds=(1000 * _seconds(network, pixels[:1], 200), 1000 * _seconds(answers, pixels[:1], 200)),
        images_per_second=(
            len(batches[0]) / _seconds(network, batches[0], 5),
            len(batches[0]) / _seconds(answers, batches[0], 5),
        ),
    )


def _seconds(answers: Answers, pixels: np.ndarray, times: int) -> float:
    return median_seconds(lambda: answers(pixels), times)


def _traced(network: CheckpointNetwork) -> torch.export.ExportedProgram:
    example: Tensor = torch.zeros(2, 28, 28, dtype=torch.uint8)
    return torch.export.export(network.reader, (example,), dynamic_shapes=({0: torch.export.Dim("n")},))


def _metadata(network: CheckpointNetwork) -> dict[str, Any]:
    return {
        "about": network.about,
        "labels": [str(digit) for digit in range(10)],
        "preparation": PREPARATION,
        "input": "pixels, uint8 [n, 28, 28], 0 is background; normalised inside",
        "output": "probabilities, float32 [n, 10]",
    }


def _quantize(path: Path, pixels: np.ndarray) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Calibration(CalibrationDataReader):
        batches = iter(np.array_split(pixels, 20))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"pixels": batch}

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a step that changes nothing here
    quantize_static(path, path, Calibration(), quant_format=QuantFormat.QDQ, per_channel=True)
    root.setLevel(level)
