"""The story of a grid: check all jobs, run them through Hydra's launcher, say how each ended, compare them."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, read_write

from mnist_lit.config import parse_sweep
from mnist_lit.errors import UserError
from mnist_lit.signals import RunInterrupted, cleaning_up
from mnist_lit.sweeps.ending import tell_ending
from mnist_lit.sweeps.folder import command, drop_if_unused, open_folder
from mnist_lit.sweeps.job import run_sweep_job
from mnist_lit.sweeps.plan import Job, plan_grid
from mnist_lit.sweeps.state import alive, finished, record_failure, reopen
from mnist_lit.sweeps.watch import Watch, say, warn_of_digits
from mnist_lit.training.commands import quoted
from mnist_lit.training.preflight import error_ends_program
from mnist_lit.training.resume import hold, recorded
from mnist_lit.words import how_many


def run_grid(config: DictConfig, context: HydraContext, arguments: Sequence[str]) -> None:
    """Ends the program with 1 if any job has failed."""
    with error_ends_program():
        sweep = parse_sweep(OmegaConf.to_container(config.sweep, resolve=True))
        if search_only := [text for text in arguments if text.startswith("sweep.") and "resume=" not in text]:
            raise UserError(f"{search_only[0]}: is an option of a search; add hydra/sweeper=optuna")
        jobs = plan_grid(config, context, [text for text in arguments if not text.startswith("sweep.")])
        folder = open_folder(config, sweep, "grid", jobs)
        lock = hold(folder)
    warn_of_digits(sorted({text for job in jobs for text in job.overrides}))
    todo = [job for job in jobs if not completed(folder / job.folder)]
    done = f", {len(jobs) - len(todo)} of them done" if sweep.resume else ""
    say(f"sweep   {folder}: {how_many(len(jobs), 'job')}{done}")
    try:
        for job in todo:
            reopen(folder / job.folder)
        with lock, cleaning_up(), Watch(folder, todo, of=len(jobs)):
            run_all(config, context, folder, todo)
    except RunInterrupted:
        say(f"The sweep was stopped. Go on with: {command(config, folder)}")
        raise
    except UserError as error:
        drop_if_unused(folder)
        sys.exit(f"error: {error}")
    if tell_ending(folder, jobs, command(config, folder)):
        sys.exit(1)


def completed(folder: Path) -> bool:
    return (finished(folder) or {}).get("status") == "completed"


def run_all(config: DictConfig, context: HydraContext, folder: Path, jobs: Sequence[Job]) -> None:
    """Launches until every job has ended by itself, or its process has died under it twice.

    A launcher that loses one process may give up all of its jobs. Those that are left are launched again, and go on
    from their checkpoints; one that has died goes alone, because it may have taken the others with it.

    Raises:
        UserError: if the launcher begins nothing at all.
    """
    died: set[int] = set()
    planned = jobs
    while jobs := unfinished(folder, jobs):
        batch = [job for job in jobs if job.number not in died] or jobs[:1]
        trouble = launch(config, context, folder, batch)
        lost = unfinished(folder, batch)
        died_now = {job.number for job in lost if recorded(folder / job.folder).get("status") == "running"}
        nothing_happened = len(lost) == len(batch) and not died_now
        if nothing_happened and batch == planned:
            raise UserError(f"hydra/launcher={config.hydra.runtime.choices['hydra/launcher']}: {trouble}")
        for job in lost:
            if nothing_happened or job.number in died & died_now:
                record_failure(folder / job.folder, f"its process died ({trouble})")
        died |= died_now


def unfinished(folder: Path, jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if not finished(folder / job.folder)]


def launch(config: DictConfig, context: HydraContext, folder: Path, jobs: Sequence[Job]) -> str:
    """Returns when none of the jobs is being worked on; with what the launcher said if it gave up."""
    for job in jobs:
        reopen(folder / job.folder)
    trouble = "without a word"
    if config.hydra.runtime.choices["hydra/launcher"] == "joblib":
        share_cores(config, len(jobs))
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=run_sweep_job, config=config
    )
    place = f"hydra.sweep.dir={quoted(str(folder.absolute()))}"  # composed anew, perhaps on another machine
    overrides = [[*job.overrides, place, f"hydra.sweep.subdir={quoted(job.folder)}"] for job in jobs]
    try:
        launcher.launch(overrides, initial_job_idx=0)
    except Exception as error:
        trouble = f"{type(error).__name__}: {error}"
    while any(alive(folder / job.folder) for job in jobs):
        time.sleep(0.5)
    return trouble


def share_cores(config: DictConfig, jobs: int) -> None:
    """No more processes than jobs: joblib gives each process an equal share of the cores, in OMP_NUM_THREADS."""
    from joblib import effective_n_jobs

    with read_write(config.hydra.launcher):
        config.hydra.launcher.n_jobs = min(jobs, effective_n_jobs(config.hydra.launcher.n_jobs))
