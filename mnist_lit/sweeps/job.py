"""One job of a sweep, in whatever process it has been put."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mnist_lit.importing import importing
from mnist_lit.sweeps.state import finished, record_failure, record_start
from mnist_lit.training.console import ConsoleHandler
from mnist_lit.training.resume import hold

if TYPE_CHECKING:
    from lightning.pytorch import Callback


def run_sweep_job(cfg: DictConfig) -> float:
    """Hydra's task function: trains what is not trained yet, from its checkpoint if it has one; returns `val_acc`."""
    alone = HydraConfig.get().runtime.choices["hydra/launcher"] == "basic"
    return float(run_begun_or_new(cfg, draws_bar=alone)["val_acc"])


def run_begun_or_new(cfg: DictConfig, *, draws_bar: bool, watchers: "Sequence[Callback]" = ()) -> dict[str, Any]:
    folder = Path(HydraConfig.get().runtime.output_dir)
    with importing():
        from mnist_lit.training.job import run_in
    leave_terminal(draws_bar)
    with hold(folder), failure_recorded(folder):
        result = finished(folder)
        if result and result["status"] == "completed":
            return result
        record_start(folder)
        return run_in(folder, cfg, resume=(folder / "config.yaml").exists(), watchers=watchers)


def leave_terminal(draws_bar: bool) -> None:
    """What a run says goes to its train.log alone: a sweep has a line a job. Of jobs side by side none draws a bar."""
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, ConsoleHandler)]
    if not draws_bar:
        rich.reconfigure(force_terminal=False)


@contextmanager
def failure_recorded(folder: Path) -> Iterator[None]:
    """Also of what fails before a run keeps its own record."""
    try:
        yield
    except Exception as error:
        record_failure(folder, str(error))
        raise
