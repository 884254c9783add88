"""What a search does, step by step: check the space, open the study, run the trials in workers, print the best ones."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing.context import SpawnProcess
from pathlib import Path

import optuna
from hydra.core.utils import env_override, setup_globals
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from mnist_lit.config import SweepSection, parse_sweep
from mnist_lit.console import plural, print_line
from mnist_lit.errors import UserError, describe_disk_error
from mnist_lit.preflight import exiting_on_error, overrides_for_digits
from mnist_lit.process import (
    RunInterrupted,
    raise_on_signal,
    raising_signals,
    set_signal_handler,
    stopping_with_parent,
    usable_cores,
)
from mnist_lit.run_folder import lock_folder
from mnist_lit.sweeps.grid_jobs import Job, check_jobs, configs_of, find_missing_mnist
from mnist_lit.sweeps.job_progress import introduce_lesson, print_lesson, warn_about_digits
from mnist_lit.sweeps.job_run import SHUTDOWN_TIME
from mnist_lit.sweeps.search_results import print_results
from mnist_lit.sweeps.search_space import SearchSpace, parse_space
from mnist_lit.sweeps.search_study import (
    LOST_STORAGE,
    count_missing,
    describe_lost_storage,
    is_local,
    open_study,
    requeue_lost_trials,
)
from mnist_lit.sweeps.search_trial import Objective, SearchStopped, StudyLost, TrialFailed
from mnist_lit.sweeps.sweep_folder import JOURNAL, dump_configs, open_folder, removing_if_unused, resume_command


def run_search(config: DictConfig, context: HydraContext, arguments: Sequence[str]) -> None:
    """Ends the program with exit code 1 if no trial is complete."""
    with exiting_on_error():
        sweep = parse_sweep(OmegaConf.to_container(config.sweep, resolve=True))
        overrides = [text for text in arguments if not text.startswith("sweep.")]
        space = check_space(config, context, sweep, parse_space(context, overrides))
        total = len(space.every_point()) if sweep.sampler == "grid" else sweep.trials
        if not is_local(sweep):
            open_study(sweep, space, Path())  # raises its errors before a folder is made
        folder = open_folder(config, sweep, "search")
        with removing_if_unused(folder) if sweep.resume is None else nullcontext():
            lock = lock_folder(folder)
            cut_journal(folder / JOURNAL)
            study = open_study(sweep, space, folder)
            requeue_lost_trials(study, folder, is_local(sweep))
    warn_about_digits(space.fixed)
    started = total - count_missing(study, total)
    print_line(f"search  {folder}: {plural(total, 'trial')}" + (f", {started} already started" if started else ""))
    if config.lesson:
        print_line(introduce_lesson(config.lesson))
    again = f"Continue with: {resume_command(config, folder, space.fixed)}"
    try:
        with lock, raising_signals():
            run_trials(study, Objective(config, context, sweep, space, folder, total))
        is_complete = print_results(study, sweep, space, folder, config)
    except UserError as error:
        sys.exit(f"error: {error}\n{again}")
    except (SearchStopped, OSError) as error:
        sys.exit(f"error: {describe_disk_error(error) or error}. Repair the disk or free some space\n{again}")
    except LOST_STORAGE as error:
        sys.exit(f"error: {describe_lost_storage(sweep, error)}\n{again}")
    except RunInterrupted:
        print_line(f"The search was stopped. {again}")
        raise
    if config.lesson:
        print_lesson(config.lesson, folder)
    if not is_complete:
        sys.exit(1)


def cut_journal(path: Path) -> None:
    """Remove a last line that a full disk or a power failure has cut off. The next line would be appended to it."""
    if path.exists():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)


def check_space(config: DictConfig, context: HydraContext, sweep: SweepSection, space: SearchSpace) -> SearchSpace:
    """The space, on the digits if MNIST is missing. Each of its points can be trained on this machine.

    Raises:
        UserError: with everything that is wrong anywhere in the space.
    """
    if config.hydra.runtime.choices["hydra/launcher"] != "basic":
        raise UserError("hydra/launcher: a search starts its own workers, sweep.workers=N; leave the launcher out")
    if not is_local(sweep) and sweep.study is None:
        raise UserError("sweep.storage: several machines share it, so name the study: sweep.study=NAME")
    if sweep.sampler == "cmaes" and not any(hasattr(axis, "low") for axis in space.axes.values()):
        raise UserError("sweep.sampler=cmaes: searches numbers only; name a range or an interval, or use tpe")
    subdir = str(OmegaConf.to_container(config.hydra.sweep)["subdir"])  # type: ignore[index,call-overload]
    if "hydra.job.num" not in subdir:
        raise UserError(f"hydra.sweep.subdir={subdir}: several trials would use this folder; add ${{hydra.job.num}}")
    jobs = check_edges(config, context, space)
    if sweep.pruner != "none" and any(run.trainer.devices > 1 for run in configs_of(jobs)):
        raise UserError(f"sweep.pruner={sweep.pruner}: cannot stop the ranks of trainer.devices; use none")
    if reasons := [reason for reason in find_missing_mnist(jobs) if reason]:
        if any(key.split(".")[0] == "data" for key in space.axes):
            raise UserError(reasons[0])
        space = replace(space, fixed=tuple(overrides_for_digits(space.fixed, reasons[0])))
        jobs = check_edges(config, context, space)
        find_missing_mnist(jobs)  # none is missing now, but a schedule may not fit the digits
    return replace(space, configs=dump_configs(configs_of(jobs)))


def check_edges(config: DictConfig, context: HydraContext, space: SearchSpace) -> list[Job]:
    jobs = [Job(0, tuple(space.overrides(params))) for params in space.edges()]
    try:
        return check_jobs(config, context, jobs)
    except UserError as error:
        raise UserError("\n".join(map(space.add_hint, str(error).splitlines()))) from error


def run_trials(study: optuna.Study, objective: Objective) -> None:
    """Run trials until none is missing, or the missing ones run on other machines."""
    while missing := count_missing(study, objective.total):
        ended = count_ended(study)
        if objective.sweep.workers == 1:
            run_trials_here(objective)
        elif not run_workers(objective, min(missing, objective.sweep.workers)) and count_ended(study) == ended:
            raise UserError("the workers of the search stopped before a trial ended; their errors are printed above")
        requeue_lost_trials(study, objective.folder, is_local(objective.sweep))


def count_ended(study: optuna.Study) -> int:
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def run_trials_here(objective: Objective, worker: int = 0) -> None:
    study = open_study(objective.sweep, objective.space, objective.folder, worker)
    while count_missing(study, objective.total):
        try:
            study.optimize(objective, n_trials=1, catch=(TrialFailed,))
        except StudyLost as stop:
            raise stop.error from None
        except (UnboundLocalError, AssertionError) as error:  # of Optuna, while it handles the error of its storage
            if cause := find_cause(error, LOST_STORAGE):
                raise cause from None
            raise


def find_cause(error: BaseException, kinds: tuple[type[Exception], ...]) -> BaseException | None:
    """The first error of these kinds among those during which the error was raised."""
    context = error.__context__
    while context and not isinstance(context, kinds):
        context = context.__context__
    return context


def run_workers(objective: Objective, workers: int) -> bool:
    """Run trials in processes. Returns True if all of them ended without an error."""
    spawn = multiprocessing.get_context("spawn")
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, usable_cores() // objective.sweep.workers)))
    with env_override({"OMP_NUM_THREADS": threads}):  # torch reads it once, when it is imported
        processes = [spawn.Process(target=run_worker, args=(objective, worker)) for worker in range(workers)]
        try:
            _start(processes)
            for process in processes:
                process.join()
        except RunInterrupted:
            started = multiprocessing.active_children()
            for child in started:
                child.terminate()
            for child in started:
                child.join(SHUTDOWN_TIME)
            raise
    return all(process.exitcode == 0 for process in processes)


def _start(processes: Sequence[SpawnProcess]) -> None:
    """A new worker has no handler for Ctrl-C yet, so it inherits that Ctrl-C is ignored. This process stops it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for process in processes:
            process.start()
    finally:
        signal.signal(signal.SIGINT, before)


def run_worker(objective: Objective, worker: int) -> None:
    set_signal_handler(raise_on_signal)
    setup_globals()
    try:
        with stopping_with_parent():
            run_trials_here(objective, worker)
    except LOST_STORAGE:
        sys.exit(1)  # the process that started the workers loses it too, and prints the error
