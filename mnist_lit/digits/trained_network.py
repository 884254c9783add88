"""A trained network that classifies 28 × 28 pictures: a run's checkpoint, or an exported .onnx file.

torch is imported only when a checkpoint is opened. An .onnx file needs onnxruntime instead.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mnist_lit import DIGITS
from mnist_lit.errors import UserError
from mnist_lit.process import importing

if TYPE_CHECKING:
    from torch import Tensor

SHIPPED = Path(__file__).with_name("digits.onnx")  # `python -m benchmarks.shipped_network` writes it


class Network(Protocol):
    """`about` is one line: the network's name and accuracy. `classes` are the names of its ten outputs."""

    about: str
    dataset: str
    classes: tuple[str, ...]

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Pictures [n, 28, 28] uint8, 0 is background → probabilities [n, 10] float32."""


def open_network(path: Path | None) -> Network:
    """A run's folder, a checkpoint, or an exported .onnx file, of a network that reads digits. With None it is the
    network that comes with this package.

    Raises:
        UserError: if it is none of these, reads no digits, or needs a package that is not installed.
    """
    path = path or SHIPPED
    network = read_network(path)
    if network.classes != DIGITS:
        names = ", ".join(network.classes[:2])
        raise UserError(f"{path}: is trained on {network.dataset} ({names}, …), so it reads no digits")
    return network


def read_network(path: Path) -> Network:
    """The same for a network of any classes."""
    return OnnxNetwork(path) if path.suffix == ".onnx" else CheckpointNetwork(path)


class CheckpointNetwork:
    """The network of a run's folder, or of a checkpoint in it."""

    def __init__(self, path: Path) -> None:
        try:
            with importing():
                from mnist_lit.data.loader import Normalize
                from mnist_lit.models.checkpoint_file import load_classifier, read_checkpoint
                from mnist_lit.run_folder import BEST, best_checkpoint, read_result, run_of_checkpoint
        except ModuleNotFoundError as error:
            raise UserError(
                f"{error.name} is not installed, and a checkpoint needs it; an exported .onnx does not"
            ) from error
        self.checkpoint = best_checkpoint(path)
        self.classifier = load_classifier(self.checkpoint)
        data = read_checkpoint(self.checkpoint).get("datamodule_hyper_parameters", {})
        try:
            self.normalize = Normalize(float(data["mean"]), float(data["std"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.checkpoint}: does not say how its pictures were normalized") from error
        self.dataset = str(data.get("name") or "another data set")
        self.classes = tuple(map(str, data.get("classes") or DIGITS))
        run = run_of_checkpoint(self.checkpoint)  # which has tested its best checkpoint alone
        self.result = read_result(run) if run and self.checkpoint.name == BEST else {}
        self.about = self._describe()

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return self.probabilities(torch.from_numpy(pixels)).numpy()

    def probabilities(self, pixels: "Tensor") -> "Tensor":
        """Pictures [n, 28, 28], 0 to 255 → [n, 10]."""
        from mnist_lit.losses import OUTPUTS, probabilities

        output = self.classifier.output
        return probabilities(output, OUTPUTS[output](self.classifier.network(self.normalize(pixels.unsqueeze(1)))))

    def _describe(self) -> str:
        """For example `ConvNet, 75,706 parameters, 99.59% on mnist's 10,000 test images`."""
        try:
            data = self.result["data"]
            accuracy = f"{self.result['test_acc']:.2%} on {data['name']}'s {data['test_size']:,} test images"
        except (KeyError, TypeError, ValueError):
            accuracy = "its accuracy is not recorded"
        return f"{type(self.classifier).__name__}, {self.classifier.parameter_count:,} parameters, {accuracy}"


class OnnxNetwork:
    """The network of a file that `mnist-lit export` has written."""

    def __init__(self, path: Path) -> None:
        import onnxruntime as runtime

        if not path.is_file():
            raise UserError(f"{path}: there is no such file")
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # errors are reported below
        try:
            self.session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            properties = self.session.get_modelmeta().custom_metadata_map
            self.about = json.loads(properties["about"])
            self.classes = tuple(map(str, json.loads(properties["labels"])))
            self.dataset = json.loads(properties.get("dataset", '"another data set"'))
        except Exception as error:  # an unknown file can raise anything here
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{path}: not a model that mnist-lit has exported ({reason})") from error

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"pixels": pixels})[0]
