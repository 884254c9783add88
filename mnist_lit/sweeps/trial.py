"""One trial: parameters → a run in a folder of its own → what it was worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from hydra.core.utils import configure_log, run_job
from hydra.types import HydraContext
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_lit.config import SweepSection
from mnist_lit.sweeps.job import run_begun_or_new
from mnist_lit.sweeps.plan import number_job
from mnist_lit.sweeps.space import Space
from mnist_lit.sweeps.state import finished
from mnist_lit.sweeps.study import HERE, counted, in_excess, slot
from mnist_lit.sweeps.watch import line, say
from mnist_lit.training.commands import quoted
from mnist_lit.training.resume import hold


class TrialFailed(Exception):
    """The run of a trial ended without a value; the study goes on."""


@dataclass(frozen=True)
class Objective:
    """What Optuna calls with each trial. `total`: how many trials the study shall have."""

    config: DictConfig
    context: HydraContext
    sweep: SweepSection
    space: Space
    folder: Path
    total: int

    def __call__(self, trial: optuna.Trial) -> Sequence[float]:
        if in_excess(trial.study, trial, self.total):
            trial.set_user_attr("in_excess", True)
            raise TrialFailed
        params = {key: suggest(trial, key, axis) for key, axis in self.space.axes.items()}
        job = compose_trial(self.config, self.context, self.folder, self.space.overrides(params))
        number_job(job, slot(trial), label(params))
        folder = self.folder / str(job.hydra.sweep.subdir)
        folder.mkdir(exist_ok=True)
        with hold(folder):  # the sign that the trial's process lives
            trial.set_user_attr("folder", str(folder.absolute()))
            trial.set_user_attr("host", HERE)
            result = self.train(job, trial, folder)
        return self.value(trial, params, result)

    def train(self, job: DictConfig, trial: optuna.Trial, folder: Path) -> dict[str, Any]:
        """What result.json holds; whatever goes wrong with the run is in there."""
        watchers = []
        if self.sweep.pruner != "none":
            from mnist_lit.sweeps.pruning import Prune

            watchers = [Prune(trial, self.sweep.objectives[0])]
        run_job(
            hydra_context=self.context,
            task_function=partial(run_begun_or_new, draws_bar=self.sweep.workers == 1, watchers=watchers),
            config=job,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        configure_log(job.hydra.hydra_logging)  # closes the run's log
        result = finished(folder)
        assert result is not None
        return result

    def value(self, trial: optuna.Trial, params: dict[str, Any], result: dict[str, Any]) -> Sequence[float]:
        done = sum(other.state.is_finished() for other in counted(trial.study)) + 1
        say(f"{done:{len(str(self.total))}}/{self.total}  {line(label(params), result)}")
        if result["status"] == "pruned":
            raise optuna.TrialPruned
        if result["status"] == "failed":
            trial.set_user_attr("error", str(result.get("error")))
            raise TrialFailed
        return [float(result[objective]) for objective in self.sweep.objectives]


def compose_trial(config: DictConfig, context: HydraContext, folder: Path, overrides: Sequence[str]) -> DictConfig:
    place = f"hydra.sweep.dir={quoted(str(folder))}"
    return context.config_loader.load_sweep_config(config, [*overrides, place])


def suggest(trial: optuna.Trial, key: str, axis: BaseDistribution) -> Any:
    match axis:
        case CategoricalDistribution():
            return trial.suggest_categorical(key, axis.choices)
        case IntDistribution():
            return trial.suggest_int(key, axis.low, axis.high, step=axis.step, log=axis.log)
        case FloatDistribution():
            return trial.suggest_float(key, axis.low, axis.high, step=axis.step, log=axis.log)


def label(params: dict[str, Any]) -> str:
    return " ".join(f"{key}={shown(value)}" for key, value in params.items())


def shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
