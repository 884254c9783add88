"""One trial of a search: its parameters become a run in its own folder, and the run gives the values to optimize."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from hydra.core.utils import configure_log, run_job
from hydra.types import HydraContext
from omegaconf import DictConfig
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_lit.commands import quote_for_hydra
from mnist_lit.config import SweepSection
from mnist_lit.console import print_line
from mnist_lit.errors import describe_disk_error
from mnist_lit.run_folder import RunPruned, lock_folder
from mnist_lit.sweeps.grid_jobs import format_options, name_job
from mnist_lit.sweeps.job_progress import format_count, format_result
from mnist_lit.sweeps.job_run import mark_for_rerun, read_finished, train_or_resume
from mnist_lit.sweeps.search_space import Axis, SearchSpace
from mnist_lit.sweeps.search_study import HOST, LOST_STORAGE, counted_trials, folder_number, is_surplus
from mnist_lit.sweeps.sweep_folder import restore_common_options

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer

log = logging.getLogger(__name__)


class TrialFailed(Exception):
    """The run of a trial ended without a value. The study continues."""


class SearchStopped(SystemExit):
    """The disk failed, which is no fault of the trial. Optuna counts the trial as running after an exit, so it runs
    again when the search is resumed."""


class StudyLost(SystemExit):
    """The storage of the study does not answer, which is no fault of the trial, either."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Objective:
    """The function that Optuna calls with each trial. `total`: the number of trials in the study."""

    config: DictConfig
    context: HydraContext
    sweep: SweepSection
    space: SearchSpace
    folder: Path
    total: int

    def __call__(self, trial: optuna.Trial) -> Sequence[float]:
        try:
            return self.run(trial)
        except LOST_STORAGE as error:
            raise StudyLost(error) from error

    def run(self, trial: optuna.Trial) -> Sequence[float]:
        if is_surplus(trial.study, trial, self.total):
            trial.set_user_attr("surplus", True)
            raise TrialFailed
        params = {key: suggest(trial, key, axis) for key, axis in self.space.axes.items()}
        options = [(key, format_value(value)) for key, value in params.items()]
        sweep_dir = f"hydra.sweep.dir={quote_for_hydra(str(self.folder))}"
        overrides = [*self.space.overrides(params), sweep_dir]
        job = self.context.config_loader.load_sweep_config(self.config, overrides)
        restore_common_options(job, self.space.configs)
        name_job(job, folder_number(trial), options)
        folder = self.folder / str(job.hydra.sweep.subdir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with lock_folder(folder):  # shows other processes that this one is alive
                trial.set_user_attr("folder", str(folder.absolute()))
                trial.set_user_attr("host", HOST)
                result = self.train(job, trial, folder)
        except Exception as error:
            reason = describe_disk_error(error)
            if reason is None:
                raise
            with suppress(OSError):
                mark_for_rerun(folder)
            raise SearchStopped(reason) from error
        return self.report(trial, format_options(options), result)

    def train(self, job: DictConfig, trial: optuna.Trial, folder: Path) -> dict[str, Any]:
        """The content of result.json. It also holds the error if the run fails. An error of the disk is raised."""
        callbacks = [] if self.sweep.pruner == "none" else [pruning_callback(trial, self.sweep.objectives[0])]
        failures: list[Exception] = []

        def run_trial(cfg: DictConfig) -> None:
            try:
                train_or_resume(cfg, progress_bar=self.sweep.workers == 1, callbacks=callbacks)
            except Exception as error:
                failures.append(error)
                raise

        run_job(
            hydra_context=self.context,
            task_function=run_trial,
            config=job,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        configure_log(job.hydra.hydra_logging)  # closes the run's log
        if failures and describe_disk_error(failures[0]):
            raise failures[0]
        result = read_finished(folder)
        assert result is not None
        return result

    def report(self, trial: optuna.Trial, label: str, result: dict[str, Any]) -> Sequence[float]:
        """Print how the trial ended, and return its values."""
        ended = sum(other.state.is_finished() for other in counted_trials(trial.study)) + 1
        print_line(f"{format_count(ended, self.total)}  {format_result(label, result)}")
        if result["status"] == "pruned":
            raise optuna.TrialPruned
        if result["status"] == "failed":
            trial.set_user_attr("error", str(result.get("error")))
            raise TrialFailed
        return [float(result[objective]) for objective in self.sweep.objectives]


def pruning_callback(trial: optuna.Trial, monitor: str) -> "Callback":
    """Reports the metric to the pruner after each epoch, and stops the run if the pruner asks for it."""
    from lightning.pytorch.callbacks import LambdaCallback  # only now, because a run starts

    lost: list[int] = []

    def report_epoch(trainer: "Trainer", _: "LightningModule") -> None:
        epoch = trainer.current_epoch + 1
        value = float(trainer.callback_metrics[monitor])
        should_prune = False
        try:
            trial.report(value, epoch)
            should_prune = epoch < (trainer.max_epochs or 0) and trial.should_prune()
        except (*LOST_STORAGE, optuna.exceptions.UpdateFinishedTrialError):
            if not lost:
                log.warning("The study does not answer, so this run is not compared with the others; it goes on")
            lost.append(epoch)
        if should_prune:
            raise RunPruned(f"{monitor} {value:.4f} after {epoch} of {trainer.max_epochs} epochs")

    return LambdaCallback(on_train_epoch_end=report_epoch)


def suggest(trial: optuna.Trial, key: str, axis: Axis) -> Any:
    match axis:
        case CategoricalDistribution():
            return trial.suggest_categorical(key, axis.choices)
        case IntDistribution():
            return trial.suggest_int(key, axis.low, axis.high, step=axis.step, log=axis.log)
        case FloatDistribution():
            return trial.suggest_float(key, axis.low, axis.high, step=axis.step, log=axis.log)


def format_value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
