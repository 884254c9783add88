"""Where Hydra hands over: a composed config becomes a run, and a run's end an exit code."""

import errno
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from lightning.pytorch import Callback
from omegaconf import DictConfig

from mnist_lit.errors import UserError
from mnist_lit.models.meter import LossNotFinite
from mnist_lit.signals import cleaning_up
from mnist_lit.training.checkpoints import LAST
from mnist_lit.training.commands import resume_command, run_command
from mnist_lit.training.preflight import checked_config
from mnist_lit.training.ranks import train_in_ranks
from mnist_lit.training.run import train

BROKEN_DISK = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def run_job(cfg: DictConfig) -> float:
    """Runs one job; returns its validation accuracy."""
    return float(run_in(Path(HydraConfig.get().runtime.output_dir), cfg, resume=cfg.resume is not None)["val_acc"])


def run_in(folder: Path, cfg: DictConfig, *, resume: bool, watchers: Sequence[Callback] = ()) -> dict[str, Any]:
    """What the result.json of a job's run holds. `watchers` see its training, if that is in one process.

    Hydra prints a CompactHydraException's message without a traceback and exits with 1.
    """
    hydra = HydraConfig.get()
    origin = {
        "command": run_command(hydra.overrides.task, hydra),
        "choices": {group: name for group, name in hydra.runtime.choices.items() if not group.startswith("hydra/")},
    }
    logging.raiseExceptions = False  # a disk too full for train.log shall not print a traceback a line
    try:
        config = checked_config(cfg)
        with cleaning_up():
            if config.trainer.devices > 1:
                return train_in_ranks(config, folder, origin, resume=resume)
            return train(config, folder, origin, resume=resume, watchers=watchers)
    except UserError as error:
        raise CompactHydraException(f"error: {error}") from error
    except LossNotFinite as error:
        kept = folder / "checkpoints" / LAST
        where = f"{kept} is from before" if kept.exists() else "No checkpoint had been written"
        raise CompactHydraException(f"error: {error}. {where}") from error
    except OSError as error:
        if error.errno not in BROKEN_DISK:
            raise
        untouched = "The last checkpoint is untouched. " if (folder / "checkpoints" / LAST).exists() else ""
        raise CompactHydraException(
            f"error: {error.filename or folder} cannot be written: {error.strerror}. {untouched}"
            f"Make room, then go on with: {resume_command(folder)}"
        ) from error
