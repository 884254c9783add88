"""Checkpoints of a run: a crash at any moment leaves a good one."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from mnist_lit.atomic_io import atomic_file, remove_leftovers
from mnist_lit.errors import UserError
from mnist_lit.models.checkpoint_file import read_checkpoint, write_checkpoint
from mnist_lit.run_folder import BEST, LAST, PREVIOUS, is_first_rank

log = logging.getLogger(__name__)


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes a new file to the disk and then renames it. The old last.ckpt becomes previous.ckpt when the new one is
    safe."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target, previous=target.with_name(PREVIOUS) if target.name == LAST else None) as stream:
            write_checkpoint(checkpoint, stream)

    def load_checkpoint(
        self, path: Any, map_location: Callable[..., Any] | None = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return read_checkpoint(path)


def recover_checkpoint(folder: Path) -> Path | None:
    """The newest undamaged checkpoint of a run that stopped; None if it has none.

    A damaged last.ckpt is renamed to last.ckpt.damaged. Otherwise it would replace the good previous.ckpt later.

    Raises:
        UserError: if there are checkpoints, but none that can be read.
    """
    if is_first_rank():  # which may soon write new files
        remove_leftovers(folder.parent)
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
            log.warning(f"{reason}. The run continues from the one before it, {path.name}")
            with suppress(FileNotFoundError):  # another rank was faster
                bad.replace(bad.with_name(f"{bad.name}.damaged"))
        if path.name == BEST:  # if no epoch is left to train, nothing else would write last.ckpt
            with atomic_file(folder / LAST) as stream:
                stream.write(path.read_bytes())
        return path
    if damaged:
        raise UserError("none of the run's checkpoints can be read:\n" + "\n".join(map(str, damaged.values())))
    return None


def step_of_checkpoint(checkpoint: Path, max_epochs: int) -> int:
    """The optimizer step that a run continues from.

    Raises:
        UserError: if the checkpoint has more epochs than the run should have, or holds no state of a training.
    """
    content = read_checkpoint(checkpoint)
    try:
        done = int(content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
        step = int(content["global_step"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{checkpoint}: holds a network, but no state of its training to continue from") from error
    if done > max_epochs:
        raise UserError(f"trainer.max_epochs={max_epochs}: should be at least {done}, the number of finished epochs")
    return step


class _MovableCheckpoint(ModelCheckpoint):
    """Finds its files where the run's folder is now, so that a run may be moved before it is resumed."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        then, now = state_dict["dirpath"], str(self.dirpath)
        moved = {name: path.replace(then, now, 1) for name, path in state_dict.items() if isinstance(path, str)}
        best = {path.replace(then, now, 1): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | moved | {"best_k_models": best})


class BestCheckpoint(_MovableCheckpoint):
    """best.ckpt, from the epoch with the best monitored metric."""


class LastCheckpoint(_MovableCheckpoint):
    """last.ckpt, after every epoch."""


def checkpoint_callbacks(folder: Path, monitor: str, mode: str) -> list[ModelCheckpoint]:
    """In this order, so that last.ckpt knows best.ckpt."""
    common: dict[str, Any] = {
        "dirpath": folder,
        "save_on_train_epoch_end": True,
        "enable_version_counter": False,
        "auto_insert_metric_name": False,
    }
    best = BestCheckpoint(filename=Path(BEST).stem, monitor=monitor, mode=mode, save_top_k=1, **common)
    last = LastCheckpoint(filename=Path(LAST).stem, monitor=None, save_top_k=1, **common)
    return [best, last]


class CheckpointEvery(Callback):
    """Also writes last.ckpt within an epoch, between two blocks, when no checkpoint was written for `seconds`."""

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
        if trainer.strategy.reduce_boolean_decision(due, all=False):  # all ranks save together
            trainer.save_checkpoint(self.path)
