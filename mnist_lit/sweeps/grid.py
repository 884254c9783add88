"""What a grid does, step by step: it checks all jobs, runs them through Hydra's launcher, prints how each one ended,
and compares them."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, read_write

from mnist_lit.commands import quote_for_hydra
from mnist_lit.config import parse_sweep
from mnist_lit.console import plural, print_line
from mnist_lit.errors import UserError, describe_disk_error
from mnist_lit.preflight import exiting_on_error
from mnist_lit.process import RunInterrupted, raising_signals
from mnist_lit.run_folder import lock_folder, read_result
from mnist_lit.sweeps.grid_jobs import Job, plan_grid
from mnist_lit.sweeps.job_progress import (
    introduce_lesson,
    print_lesson,
    print_summary,
    printing_ended_jobs,
    warn_about_digits,
)
from mnist_lit.sweeps.job_run import (
    mark_for_rerun,
    read_finished,
    record_failure,
    run_sweep_job,
    stopping_jobs,
    wait_for_jobs,
)
from mnist_lit.sweeps.sweep_folder import open_folder, remove_if_unused, removing_if_unused, resume_command


def run_grid(config: DictConfig, context: HydraContext, arguments: Sequence[str]) -> None:
    """Run all combinations. Ends the program with exit code 1 if a job failed."""
    with exiting_on_error():
        sweep = parse_sweep(OmegaConf.to_container(config.sweep, resolve=True))
        own = ("sweep.resume=", "sweep.expect_divergence=")
        if search_only := [it for it in arguments if it.startswith("sweep.") and not it.startswith(own)]:
            raise UserError(f"{search_only[0]}: is an option of a search; add hydra/sweeper=optuna")
        jobs = plan_grid(config, context, [text for text in arguments if not text.startswith("sweep.")])
        folder = open_folder(config, sweep, "grid", jobs)
        with removing_if_unused(folder) if sweep.resume is None else nullcontext():
            lock = lock_folder(folder)
    overrides = sorted({text for job in jobs for text in job.overrides})
    warn_about_digits(overrides)
    missing = [job for job in jobs if read_result(folder / job.folder).get("status") != "completed"]
    completed = f", {len(jobs) - len(missing)} already completed" if sweep.resume else ""
    print_line(f"sweep   {folder}: {plural(len(jobs), 'job')}{completed}")
    if config.lesson:
        print_line(introduce_lesson(config.lesson))
    resume = resume_command(config, folder, overrides)
    again = f"Continue with: {resume}"
    if uses_joblib(config):
        share_cores(config, len(jobs))
    try:
        for job in missing:
            mark_for_rerun(folder / job.folder)
        with lock, raising_signals(), printing_ended_jobs(folder, missing, len(jobs)):
            run_jobs(config, context, folder, missing)
    except RunInterrupted:
        print_line(f"The sweep was stopped. {again}")
        raise
    except (UserError, OSError) as error:
        remove_if_unused(folder)
        sys.exit(f"error: {describe_disk_error(error) or error}" + (f"\n{again}" if folder.exists() else ""))
    failed = print_summary(folder, jobs, resume, sweep.expect_divergence)
    if config.lesson:
        print_lesson(config.lesson, folder)
    if failed:
        sys.exit(1)


def run_jobs(config: DictConfig, context: HydraContext, folder: Path, jobs: Sequence[Job]) -> None:
    """Call the launcher until every job has ended by itself, or its process has died twice.

    When a launcher loses one process, it may give up all its jobs. The unfinished ones are launched again and continue
    from their checkpoints. A job whose process died runs alone, because it may have stopped the others.

    Raises:
        UserError: if the launcher starts no job at all.
    """
    died: set[int] = set()
    planned = jobs
    while jobs := select_unfinished(folder, jobs):
        batch = [job for job in jobs if job.number not in died] or jobs[:1]
        error = launch(config, context, folder, batch)
        lost = select_unfinished(folder, batch)
        died_now = {job.number for job in lost if read_result(folder / job.folder).get("status") == "running"}
        nothing_started = len(lost) == len(batch) and not died_now
        if nothing_started and batch == planned:
            raise UserError(f"hydra/launcher={config.hydra.runtime.choices['hydra/launcher']}: {error}")
        for job in lost:
            if nothing_started or job.number in died & died_now:
                record_failure(folder / job.folder, f"its process died ({error})")
        died |= died_now


def select_unfinished(folder: Path, jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if not read_finished(folder / job.folder)]


def launch(config: DictConfig, context: HydraContext, folder: Path, jobs: Sequence[Job]) -> str:
    """Run the jobs and wait until no process works on them. Returns the error of the launcher, if any."""
    for job in jobs:
        mark_for_rerun(folder / job.folder)
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=run_sweep_job, config=config
    )
    # Each job composes its config again, perhaps on another machine: the folder is an absolute path.
    sweep_dir = f"hydra.sweep.dir={quote_for_hydra(str(folder.absolute()))}"
    overrides = [[*job.overrides, sweep_dir, f"hydra.sweep.subdir={quote_for_hydra(job.folder)}"] for job in jobs]
    message = "the launcher reported no error"
    try:
        with stopping_jobs([folder / job.folder for job in jobs]) if uses_joblib(config) else nullcontext():
            launcher.launch(overrides, initial_job_idx=0)
    except Exception as error:
        message = describe_disk_error(error) or f"{type(error).__name__}: {error}"
    wait_for_jobs([folder / job.folder for job in jobs])
    return message


def uses_joblib(config: DictConfig) -> bool:
    return bool(config.hydra.runtime.choices["hydra/launcher"] == "joblib")


def share_cores(config: DictConfig, jobs: int) -> None:
    """Start no more processes than the sweep has jobs: joblib gives each process an equal share of the cores, in
    OMP_NUM_THREADS. The share is the same when only a few jobs are left, so they compute alike."""
    from joblib import effective_n_jobs

    with read_write(config.hydra.launcher):
        config.hydra.launcher.n_jobs = min(jobs, effective_n_jobs(config.hydra.launcher.n_jobs))
