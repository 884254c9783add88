"""Where Hydra hands over: a composed config becomes a run, and a run's end an exit code."""

import shlex
import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from mnist_lit.errors import UserError
from mnist_lit.models.meter import LossNotFinite
from mnist_lit.training.interrupts import RunInterrupted
from mnist_lit.training.preflight import checked_config
from mnist_lit.training.run import train


def run_job(cfg: DictConfig) -> float:
    """Runs one job and returns its validation accuracy, for whoever searches.

    Hydra prints a CompactHydraException's message without a traceback and exits with 1.
    """
    hydra = HydraConfig.get()
    origin = {
        "command": shlex.join(["python", "train.py", *hydra.overrides.task]),
        "choices": {group: name for group, name in hydra.runtime.choices.items() if not group.startswith("hydra/")},
    }
    try:
        result = train(checked_config(cfg), Path(hydra.runtime.output_dir), origin)
    except (UserError, LossNotFinite) as error:
        raise CompactHydraException(f"error: {error}") from error
    except RunInterrupted as interrupted:
        sys.exit(interrupted.exit_code)
    return float(result["val_acc"])
