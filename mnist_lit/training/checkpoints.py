"""Checkpoints: a crash at any moment leaves a good one, and a stranger's file can do no harm when it is read."""

import hashlib
import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from mnist_lit.errors import UserError
from mnist_lit.models import DigitClassifier
from mnist_lit.training.networks import network_class


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, to the disk, then renames: the file is the old one or the new one, whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as stream:
            try:
                torch.save(checkpoint, stream)
                stream.flush()
                os.fsync(stream.fileno())
                os.replace(stream.name, target)
            except BaseException:
                os.unlink(stream.name)
                raise
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def load_checkpoint(
        self, path: Any, map_location: Callable[..., Any] | None = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return read_checkpoint(path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint on the CPU, tensors and plain values only; nothing in the file is executed.

    Raises:
        UserError: if there is no such file, or it is damaged, or holds anything but tensors and plain values.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such checkpoint") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: not a checkpoint that can be read ({str(error).splitlines()[0]})") from error
    if not isinstance(checkpoint, dict) or not {"network", "state_dict", "hyper_parameters"} <= checkpoint.keys():
        raise UserError(f"{path}: not a checkpoint of this project (it names no network)")
    return checkpoint


def load_classifier(path: str | Path) -> DigitClassifier:
    """The network of a checkpoint, from the file alone: on the CPU, in eval mode.

    Raises:
        UserError: if the file is not a checkpoint of a network that can be imported here, or the two do not fit.
    """
    checkpoint = read_checkpoint(path)
    options = checkpoint["hyper_parameters"]
    network = network_class(checkpoint["network"], options)
    try:
        model = network(**options)
        model.load_state_dict(checkpoint["state_dict"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: does not fit {checkpoint['network']}: {error}") from error
    return model.eval()


def checkpoint_callbacks(folder: Path, monitor: str, mode: str) -> list[ModelCheckpoint]:
    """best.ckpt, where the monitored metric was best, and last.ckpt, after every epoch; in this order, so that the last
    one knows of the best one."""
    common: dict[str, Any] = {
        "dirpath": folder,
        "save_on_train_epoch_end": True,
        "enable_version_counter": False,
        "auto_insert_metric_name": False,
    }
    best = ModelCheckpoint(filename="best", monitor=monitor, mode=mode, save_top_k=1, **common)
    last = ModelCheckpoint(filename="last", monitor=None, save_top_k=1, **common)
    return [best, last]


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 over all weights, bit for bit: equal digests mean equal networks."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
