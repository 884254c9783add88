"""The story of a search: check the space, open the study, let workers try, say what was best."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import optuna
from hydra.core.utils import env_override, setup_globals
from hydra.types import HydraContext
from joblib import cpu_count
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mnist_lit.config import SweepSection, TrainConfig, parse_sweep
from mnist_lit.errors import UserError
from mnist_lit.signals import RunInterrupted, cleaning_up, on_signals, stop
from mnist_lit.sweeps.findings import tell_findings
from mnist_lit.sweeps.folder import command, open_folder
from mnist_lit.sweeps.plan import Job, checked, missing
from mnist_lit.sweeps.space import Space, space_of
from mnist_lit.sweeps.study import is_local, open_study, retry_lost, to_do
from mnist_lit.sweeps.trial import Objective, TrialFailed
from mnist_lit.sweeps.watch import say, warn_of_digits
from mnist_lit.training.preflight import error_ends_program, overrides_for_digits
from mnist_lit.training.resume import hold
from mnist_lit.words import how_many

GRACE = 30  # seconds that workers have to write their checkpoints and stop


def run_search(config: DictConfig, context: HydraContext, arguments: Sequence[str]) -> None:
    """Ends the program with 1 if no trial has come to an end."""
    with error_ends_program():
        sweep = parse_sweep(OmegaConf.to_container(config.sweep, resolve=True))
        space = checked_space(config, context, sweep, [text for text in arguments if not text.startswith("sweep.")])
        total = len(space.every_point()) if sweep.sampler == "grid" else sweep.trials
        if not is_local(sweep):
            open_study(sweep, space, Path())  # before anything is written here
        folder = open_folder(config, sweep, "search")
        lock = hold(folder)
        study = open_study(sweep, space, folder)
        retry_lost(study, is_local(sweep))
    warn_of_digits(space.fixed)
    begun = total - to_do(study, total)
    say(f"search  {folder}: {how_many(total, 'trial')}" + (f", {begun} of them done" if begun else ""))
    try:
        with lock, cleaning_up():
            work_off(study, Objective(config, context, sweep, space, folder, total))
    except RunInterrupted:
        say(f"The search was stopped. Go on with: {command(config, folder)}")
        raise
    if not tell_findings(study, sweep, space, folder, config.hydra):
        sys.exit(1)


def checked_space(config: DictConfig, context: HydraContext, sweep: SweepSection, arguments: Sequence[str]) -> Space:
    """The space, all of which makes runs that can be trained here.

    Raises:
        UserError: naming what is wrong anywhere in it.
    """
    if config.hydra.runtime.choices["hydra/launcher"] != "basic":
        raise UserError("hydra/launcher: a search has workers of its own, sweep.workers=N; leave the launcher out")
    if not is_local(sweep) and sweep.study is None:
        raise UserError("sweep.storage: several machines share it, so name the study in it: sweep.study=NAME")
    space = space_of(context, arguments)
    if sweep.sampler == "cmaes" and not any(hasattr(axis, "low") for axis in space.axes.values()):
        raise UserError("sweep.sampler=cmaes: searches numbers; name a range or an interval, or take tpe")
    runs = check_edges(config, context, space)
    if sweep.pruner != "none" and any(run.trainer.devices > 1 for run in runs):
        raise UserError(f"sweep.pruner={sweep.pruner}: cannot look into the ranks of trainer.devices; take none")
    if reasons := [reason for reason in missing(runs) if reason]:
        if any(key.split(".")[0] == "data" for key in space.axes):
            raise UserError(reasons[0])
        space = replace(space, fixed=tuple(overrides_for_digits(space.fixed, reasons[0])))
        check_edges(config, context, space)
    return space


def check_edges(config: DictConfig, context: HydraContext, space: Space) -> list[TrainConfig]:
    runs, objections = [], dict[str, None]()
    for params in space.edges():
        try:
            runs.append(checked(config, context, Job(0, tuple(space.overrides(params)), ""))[1])
        except (UserError, OmegaConfBaseException) as error:
            objections[str(error)] = None
    if objections:
        raise UserError("\n".join(objections))
    return runs


def work_off(study: optuna.Study, objective: Objective) -> None:
    """Until the study has its trials, or they are all under way on other machines."""
    local = is_local(objective.sweep)
    while left := to_do(study, objective.total):
        ended = len(ended_trials(study))
        workers = min(left, objective.sweep.workers)
        if workers == 1:
            work(objective, 0)
        elif not side_by_side(objective, workers) and len(ended_trials(study)) == ended:
            raise UserError("the workers of the search end without a trial; what they said stands above")
        retry_lost(study, local)


def ended_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]


def work(objective: Objective, worker: int) -> None:
    study = open_study(objective.sweep, objective.space, objective.folder, worker)
    while to_do(study, objective.total):
        study.optimize(objective, n_trials=1, catch=(TrialFailed,))


def side_by_side(objective: Objective, workers: int) -> bool:
    """Whether all of the worker processes came to their end."""
    spawn = multiprocessing.get_context("spawn")
    share = {"OMP_NUM_THREADS": str(max(1, cpu_count() // workers))} | os.environ
    with env_override({"OMP_NUM_THREADS": share["OMP_NUM_THREADS"]}):  # torch reads it once, when it is imported
        processes = [spawn.Process(target=work_beside_others, args=(objective, worker)) for worker in range(workers)]
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # till a worker has its own handlers, this one speaks
        for process in processes:
            process.start()
        signal.signal(signal.SIGINT, before)
    try:
        for process in processes:
            process.join()
    except RunInterrupted:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(GRACE)
        raise
    return all(process.exitcode == 0 for process in processes)


def work_beside_others(objective: Objective, worker: int) -> None:
    on_signals(stop)
    setup_globals()
    work(objective, worker)
