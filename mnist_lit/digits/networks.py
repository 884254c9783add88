"""What reads a digit: a run's checkpoint through torch, or an exported model through onnxruntime and without torch."""

import json
from pathlib import Path
from typing import Protocol

import numpy as np

from mnist_lit.errors import UserError
from mnist_lit.extras import needs
from mnist_lit.importing import importing


class Network(Protocol):
    """`about` is one line: which network this is, and how good."""

    about: str

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Pictures [n, 28, 28] uint8, 0 for background → probabilities [n, 10] float32."""


def open_network(path: Path) -> Network:
    """A run's folder, a checkpoint, or an exported .onnx file.

    Raises:
        UserError: if it is none of these, or what it needs is not installed.
    """
    if path.suffix == ".onnx":
        return OnnxNetwork(path)
    try:
        with importing():
            from mnist_lit.digits.checkpoint import CheckpointNetwork
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed, and a checkpoint needs it; an exported .onnx does not"
        ) from error
    return CheckpointNetwork(path)


class OnnxNetwork:
    def __init__(self, path: Path) -> None:
        runtime = needs("onnxruntime", "export")
        if not path.is_file():
            raise UserError(f"{path}: there is no such file")
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # what is wrong is said below
        try:
            self.session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            known = self.session.get_modelmeta().custom_metadata_map
            self.about = json.loads(known["about"])
        except Exception as error:  # a stranger's file can make the reader stumble in any way
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{path}: not a model that mnist-lit has exported ({reason})") from error

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        return self.session.run(None, {"pixels": pixels})[0]
