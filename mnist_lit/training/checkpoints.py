"""Checkpoints: a crash at any moment leaves a good one, and a stranger's file can do no harm when it is read."""

import hashlib
import io
import logging
import os
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from mnist_lit.durable import remove_leftovers, whole_file
from mnist_lit.errors import UserError
from mnist_lit.models import DigitClassifier
from mnist_lit.training.networks import network_class

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
SEAL = b"sha256:"
SEAL_SIZE = len(SEAL) + 64

warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")  # nor should it be
log = logging.getLogger(__name__)


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, to the disk, then renames. What was last.ckpt becomes previous.ckpt when the new one
    is safe. Each file ends with its own SHA-256, in the comment that the zip format leaves room for."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        archive = io.BytesIO()
        torch.save(checkpoint, archive)
        body, no_comment = archive.getbuffer()[:-2], archive.getbuffer()[-2:]
        assert no_comment == b"\0\0"
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as stream:
            stream.write(body)
            stream.write(_comment(body))
            stream.flush()
            os.fsync(stream.fileno())
            if target.name == LAST and target.exists():
                os.replace(target, target.with_name(PREVIOUS))

    def load_checkpoint(
        self, path: Any, map_location: Callable[..., Any] | None = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return read_checkpoint(path)


def _comment(body: memoryview) -> bytes:
    """What ends a zip archive: its SHA-256 as the comment, after the comment's length. torch reads it as before."""
    return SEAL_SIZE.to_bytes(2, "little") + SEAL + hashlib.sha256(body).hexdigest().encode()


def _seal_broken(content: bytes) -> bool:
    """Whether the file ends with the SHA-256 of something else. One without was written elsewhere, and is let pass."""
    sealed = content[-SEAL_SIZE:].startswith(SEAL)
    return sealed and content[-SEAL_SIZE - 2 :] != _comment(memoryview(content)[: -SEAL_SIZE - 2])


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint on the CPU, tensors and plain values only; nothing in the file is executed.

    Raises:
        UserError: if there is no such file, or it is damaged, or holds anything but tensors and plain values.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such checkpoint") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    if _seal_broken(content):
        raise UserError(f"{path}: is damaged (its checksum is wrong)")
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a stranger's file can make the reader stumble in any way
        reason = (str(error) or type(error).__name__).splitlines()[0].partition(" In PyTorch 2.6")[0]  # advice
        raise UserError(f"{path}: not a checkpoint that can be read ({reason})") from error
    expected = {"network": str, "state_dict": dict, "hyper_parameters": dict}
    if not isinstance(checkpoint, dict) or not all(isinstance(checkpoint.get(k), kind) for k, kind in expected.items()):
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


def recover_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run that has stopped, to go on from; None if it never wrote one.

    A damaged last.ckpt is set aside as last.ckpt.damaged, so that it does not take the good one's place later.

    Raises:
        UserError: if there are checkpoints, but none that can be read.
    """
    remove_leftovers(folder)
    damaged: dict[Path, UserError] = {}
    for path in (folder / LAST, folder / PREVIOUS, folder / BEST):
        if not path.exists():
            continue
        try:
            read_checkpoint(path)
        except UserError as error:
            damaged[path] = error
            continue
        for bad, reason in damaged.items():
            log.warning(f"{reason}. Going on from the one before it, {path.name}")
            with suppress(FileNotFoundError):  # another rank was faster
                bad.rename(bad.with_name(f"{bad.name}.damaged"))
        return path
    if damaged:
        raise UserError("none of the run's checkpoints can be read:\n" + "\n".join(map(str, damaged.values())))
    return None


def position(checkpoint: Path, max_epochs: int) -> int:
    """The optimiser step that a run goes on from.

    Raises:
        UserError: if the checkpoint has gone further than the run shall go, or is no state of a training.
    """
    content = read_checkpoint(checkpoint)
    try:
        done = int(content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
        step = int(content["global_step"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{checkpoint}: holds a network, but no state of its training to go on from") from error
    if done > max_epochs:
        raise UserError(f"trainer.max_epochs={max_epochs}: should be at least {done}, which are done")
    return step


class Checkpoint(ModelCheckpoint):
    """Knows its files by where the run's folder is now, so that a run may be moved between a stop and a resumption."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        then, now = state_dict["dirpath"], str(self.dirpath)
        moved = {
            name: path.replace(then, now, 1) for name, path in state_dict.items() if isinstance(path, str) and then
        }
        best = {path.replace(then, now, 1): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | moved | {"best_k_models": best})


def checkpoint_callbacks(folder: Path, monitor: str, mode: str) -> list[ModelCheckpoint]:
    """best.ckpt, where the monitored metric was best, and last.ckpt, after every epoch; in this order, so that the last
    one knows of the best one."""
    common: dict[str, Any] = {
        "dirpath": folder,
        "save_on_train_epoch_end": True,
        "enable_version_counter": False,
        "auto_insert_metric_name": False,
    }
    best = Checkpoint(filename=Path(BEST).stem, monitor=monitor, mode=mode, save_top_k=1, **common)
    last = Checkpoint(filename=Path(LAST).stem, monitor=None, save_top_k=1, **common)
    return [best, last]


class CheckpointEvery(Callback):
    """last.ckpt also within an epoch, between two blocks, when `seconds` have gone by since any checkpoint."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        self._saved_at = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_at = time.monotonic()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return
        due = time.monotonic() - self._saved_at >= self.seconds
        if trainer.strategy.reduce_boolean_decision(due, all=False):  # ranks save together: each waits for the others
            trainer.save_checkpoint(self.path)


def weights_digest(model: torch.nn.Module) -> str:
    """SHA-256 over all weights, bit for bit: equal digests mean equal networks."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
