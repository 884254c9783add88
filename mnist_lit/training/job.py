"""Where Hydra calls this project: a composed config becomes a run, and the end of a run becomes an exit code."""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from lightning.pytorch import Callback
from omegaconf import DictConfig

from mnist_lit.commands import resume_command, run_command, typed_overrides
from mnist_lit.errors import UserError, describe_disk_error
from mnist_lit.preflight import check_values
from mnist_lit.process import raising_signals
from mnist_lit.run_folder import CHECKPOINTS, CONFIG, LAST
from mnist_lit.training.ranks import train_in_ranks
from mnist_lit.training.run import train
from mnist_lit.training.step import LossNotFinite


def run_job(cfg: DictConfig) -> None:
    run_in(Path(HydraConfig.get().runtime.output_dir), cfg, resume=cfg.resume is not None)


def run_in(folder: Path, cfg: DictConfig, *, resume: bool, callbacks: Sequence[Callback] = ()) -> None:
    """Run one job in this folder. `callbacks` see the training, if it runs in this process.

    Raises:
        CompactHydraException: Hydra prints its message without a traceback and exits with 1.
    """
    logging.raiseExceptions = False  # otherwise a disk too full for train.log prints a traceback for each line
    threading.excepthook = _report_no_disk_errors
    try:
        run_config(cfg, HydraConfig.get(), folder, resume=resume, callbacks=callbacks)
    except UserError as error:
        raise CompactHydraException(f"error: {error}") from error


def run_config(
    cfg: DictConfig, hydra: Any, folder: Path, *, resume: bool, callbacks: Sequence[Callback] = ()
) -> dict[str, Any]:
    """The same without a change in the process. Returns the content of result.json. `hydra` is the config's section.

    Raises:
        UserError: if the run cannot go on, and what can be done.
    """
    origin = {
        "command": run_command(typed_overrides(hydra), hydra, cfg.data),
        "overrides": list(hydra.overrides.task),
        "choices": {group: name for group, name in hydra.runtime.choices.items() if not group.startswith("hydra/")},
    }
    try:
        config = check_values(cfg)
        with raising_signals():
            if config.trainer.devices > 1:
                return train_in_ranks(config, folder, origin, resume=resume)
            return train(config, folder, origin, resume=resume, callbacks=callbacks)
    except UserError:
        raise
    except LossNotFinite as error:
        last = folder / CHECKPOINTS / LAST
        where = f"{last} was saved before this step and is good" if last.exists() else "No checkpoint had been written"
        raise UserError(f"{error}. {where}") from error
    except Exception as error:  # Lightning's TensorBoard logger raises a ValueError for an error of the disk
        reason = describe_disk_error(error)
        if reason is None:
            raise
        has_begun = (folder / CONFIG).exists()
        again = f"continue with: {resume_command(folder)}" if has_begun else f"start again with: {origin['command']}"
        untouched = "The last checkpoint is untouched. " if (folder / CHECKPOINTS / LAST).exists() else ""
        raise UserError(f"{reason}. {untouched}Repair the disk or free some space, then {again}") from error


def _report_no_disk_errors(failure: threading.ExceptHookArgs) -> None:
    """The run itself meets the error that TensorBoard's thread met, at the next write. It needs no traceback."""
    if describe_disk_error(failure.exc_value) is None:
        threading.__excepthook__(failure)
