"""Writes a run's network as one file for other programs. The file is checked against the checkpoint on the whole test
set, and timed."""

import io
import json
import logging
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnist_lit.atomic_io import atomic_file
from mnist_lit.build import build_data
from mnist_lit.data.datamodule import DigitDataModule
from mnist_lit.digits.preparation import PREPARATION
from mnist_lit.digits.trained_network import CheckpointNetwork, OnnxNetwork
from mnist_lit.errors import UserError
from mnist_lit.evaluation.run_evaluation import median_seconds, recorded_config

TOLERANCE = 1e-5  # largest allowed difference of a probability
BATCH = 1000

Classify = Callable[[np.ndarray], np.ndarray]  # pictures [n, 28, 28] uint8 → probabilities [n, 10]


@dataclass(frozen=True)
class Export:
    """`changed` is the number of test images with another prediction, `difference` the largest difference of a
    probability. Pairs are (checkpoint in torch, exported file). `milliseconds` are for one picture,
    `images_per_second` for large batches."""

    path: Path
    bytes: int
    images: int
    changed: int
    difference: float
    accuracy: tuple[float, float]
    milliseconds: tuple[float, float]
    images_per_second: tuple[float, float]


class PixelNetwork(nn.Module):
    """The network with normalization before it and softmax after it: [n, 28, 28] uint8 → probabilities [n, 10]."""

    def __init__(self, checkpoint: CheckpointNetwork) -> None:
        super().__init__()
        self.network = checkpoint.classifier.network  # registers the weights that `probabilities` uses
        self.probabilities = checkpoint.probabilities

    def forward(self, pixels: Tensor) -> Tensor:
        return self.probabilities(pixels)


def export_run(run: Path, format: str, path: Path, int8: bool = False, data_root: Path | None = None) -> Export:
    """Write `path`, unless its predictions differ from the checkpoint's.

    With `int8` (ONNX only) weights and activations are quantized. Then differences are reported and not an error.

    Raises:
        UserError: if the run cannot be read, the predictions differ, or the file cannot be written.
    """
    network = CheckpointNetwork(run)
    data = build_data(recorded_config(network.checkpoint, data_root))
    with TemporaryDirectory() as folder:
        file = Path(folder) / path.name
        classify = save_pt2(network, file) if format == "pt2" else save_onnx(network, file, data if int8 else None)
        result = compare_with_checkpoint(network, classify, file, data)
        if not int8 and (result.changed or result.difference >= TOLERANCE):
            raise UserError(
                f"{path} is not written: {result.changed} of {result.images:,} test images get another prediction, "
                f"probabilities differ by up to {result.difference:.1e}"
            )
        try:
            with atomic_file(path) as stream:
                stream.write(file.read_bytes())
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    return replace(result, path=path)


def save_pt2(network: CheckpointNetwork, path: Path) -> Classify:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of weights that are not on the CPU
        torch.export.save(_trace(network), path, extra_files={"metadata.json": json.dumps(_metadata(network))})
    program = torch.export.load(path).module()

    def classify(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return program(torch.from_numpy(pixels)).numpy()

    return classify


def save_onnx(network: CheckpointNetwork, path: Path, int8_data: DigitDataModule | None) -> Classify:
    """With `int8_data` the file is quantized to int8. The value ranges are measured on its training images."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.onnx warns of the versions of its own dependencies
        traced = _trace(network)
        try:
            program = torch.onnx.export(traced, input_names=["pixels"], output_names=["probabilities"], dynamo=True)
        except Exception as error:  # ONNX lacks an operation, for example
            raise _not_exportable(network, error) from error
    assert program is not None
    for node in program.model.graph:
        node.metadata_props.clear()  # they hold the paths of this machine
    program.model.metadata_props.update({key: json.dumps(value) for key, value in _metadata(network).items()})
    program.save(path, external_data=False)
    if int8_data:
        _quantize(path, int8_data.splits.train.images[:2000, 0].numpy())
    return OnnxNetwork(path)


def compare_with_checkpoint(
    network: CheckpointNetwork, classify: Classify, file: Path, data: DigitDataModule
) -> Export:
    pixels, labels = data.splits.test.images[:, 0].numpy(), data.splits.test.labels.numpy()
    batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
    before, after = (np.concatenate([call(batch) for batch in batches]) for call in (network, classify))
    one, many = pixels[:1], batches[0]
    return Export(
        path=file,
        bytes=file.stat().st_size,
        images=len(pixels),
        changed=int((before.argmax(1) != after.argmax(1)).sum()),
        difference=float(np.abs(before - after).max()),
        accuracy=(float((before.argmax(1) == labels).mean()), float((after.argmax(1) == labels).mean())),
        milliseconds=(1000 * _seconds(network, one, 200), 1000 * _seconds(classify, one, 200)),
        images_per_second=(len(many) / _seconds(network, many, 5), len(many) / _seconds(classify, many, 5)),
    )


def _seconds(classify: Classify, pixels: np.ndarray, times: int) -> float:
    return median_seconds(lambda: classify(pixels), times)


def _trace(network: CheckpointNetwork) -> torch.export.ExportedProgram:
    """Raises UserError, for example if the network's path depends on the values of its input."""
    example = torch.zeros(2, 28, 28, dtype=torch.uint8)
    dynamic_shapes = ({0: torch.export.Dim("n")},)
    try:
        return torch.export.export(PixelNetwork(network).eval(), (example,), dynamic_shapes=dynamic_shapes)
    except Exception as error:  # torch.export raises errors of many kinds
        raise _not_exportable(network, error) from error


def _not_exportable(network: CheckpointNetwork, error: Exception) -> UserError:
    reason = next(filter(None, str(error).splitlines()), type(error).__name__)
    return UserError(f"{network.checkpoint}: torch cannot export this network ({reason})")


def _metadata(network: CheckpointNetwork) -> dict[str, Any]:
    result = network.result
    return {
        "about": network.about,
        **{name: result[name] for name in ("command", "seed", "versions", "test_acc") if name in result},
        "dataset": network.dataset,
        "labels": network.classes,
        "preparation": PREPARATION,
        "input": "pixels, uint8 [n, 28, 28], 0 is background; normalized inside",
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
    root.setLevel(logging.ERROR)  # onnxruntime advises a step that changes nothing here
    quantize_static(path, path, Calibration(), quant_format=QuantFormat.QDQ, per_channel=True)
    root.setLevel(level)
