"""One job of a sweep: train it in the current process, and record its state in its folder."""

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import rich
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from mnist_lit.console import ConsoleHandler, print_line
from mnist_lit.errors import describe_disk_error
from mnist_lit.process import RunInterrupted, handler_replaced, importing, raise_on_signal, stopping_with_parent
from mnist_lit.run_folder import CONFIG, FINISHED, FolderInUse, lock_folder, read_result, write_result
from mnist_lit.sweeps.sweep_folder import restore_job_config

if TYPE_CHECKING:
    from lightning.pytorch import Callback

PATIENCE = 10  # seconds before a line says what a sweep waits for
SHUTDOWN_TIME = 30  # seconds that a worker has to write its checkpoint and stop


def run_sweep_job(cfg: DictConfig) -> None:
    """Hydra's task function."""
    launcher = HydraConfig.get().runtime.choices["hydra/launcher"]
    try:
        with stopping_with_parent() if launcher == "joblib" else nullcontext():
            train_or_resume(cfg, progress_bar=launcher == "basic")
    except RunInterrupted as stop:
        if multiprocessing.parent_process() is not None:  # joblib's worker may have more work in its queue
            time.sleep(SHUTDOWN_TIME)  # when a worker ends, joblib kills the others, which may still write
            os._exit(128 + stop.signum)
        raise


@contextmanager
def stopping_jobs(folders: Sequence[Path]) -> Iterator[None]:
    """After a signal, the worker processes get time to write their checkpoints. Joblib alone would kill them at
    once."""

    def stop(signum: int, frame: FrameType | None) -> None:
        workers = multiprocessing.active_children()
        if workers and signum == signal.SIGINT:
            time.sleep(1)  # after Ctrl-C the terminal has stopped them, too
        for worker in workers:
            worker.terminate()
        deadline = time.monotonic() + SHUTDOWN_TIME
        while workers and any(map(is_running, folders)) and time.monotonic() < deadline:
            time.sleep(0.1)
        raise_on_signal(signum, frame)

    with handler_replaced(raise_on_signal, stop):
        yield


def train_or_resume(cfg: DictConfig, *, progress_bar: bool, callbacks: "Sequence[Callback]" = ()) -> None:
    """Train the job, from its last checkpoint if it has one. A completed job is not trained again."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    with importing():
        from mnist_lit.training.job import run_in
    silence_console(progress_bar)
    with lock_folder(folder), recording_failure(folder):
        if read_result(folder).get("status") == "completed":
            return
        restore_job_config(cfg, Path(hydra.sweep.dir), hydra.sweep.subdir)
        _set_status(folder, "running")  # if the process dies before the run writes its own record
        run_in(folder, cfg, resume=(folder / CONFIG).exists(), callbacks=callbacks)


def silence_console(progress_bar: bool) -> None:
    """A job logs to its train.log alone, because a sweep prints one line for each job. Jobs that run at the same time
    have no progress bar."""
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, ConsoleHandler)]
    if not progress_bar:
        rich.reconfigure(force_terminal=False)


@contextmanager
def recording_failure(folder: Path) -> Iterator[None]:
    """Record errors that happen before the run writes its own record, too."""
    try:
        yield
    except Exception as error:
        record_failure(folder, describe_disk_error(error) or str(error))
        raise


def record_failure(folder: Path, error: str) -> None:
    if not read_finished(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _set_status(folder, "failed", error=error.removeprefix("error: "))


def read_finished(folder: Path) -> dict[str, Any] | None:
    """The content of result.json if the job ended by itself, else None."""
    result = read_result(folder)
    return result if result.get("status") in FINISHED else None


def is_running(folder: Path) -> bool:
    """True if another process works in the folder."""
    return find_user(folder) is not None


def find_user(folder: Path) -> FolderInUse | None:
    """The error that names the other process in the folder; None if there is none."""
    if folder.exists():
        try:
            with lock_folder(folder):
                pass
        except FolderInUse as in_use:
            return in_use
    return None


def wait_for_jobs(folders: Sequence[Path]) -> None:
    """Wait until no process works in the folders. A process that was killed on another computer may have left its lock
    there: after a while, a line says who holds it, and which file to delete."""
    warn_at = time.monotonic() + PATIENCE
    while in_use := next(filter(None, map(find_user, folders)), None):
        if time.monotonic() > warn_at:
            print_line(f"waiting: {in_use}")
            warn_at = float("inf")
        time.sleep(0.5)


def mark_for_rerun(folder: Path) -> None:
    """A job that failed, or whose process died, gets the status of a job that was interrupted."""
    if read_result(folder).get("status") in ("failed", "running"):
        _set_status(folder, "interrupted")


def _set_status(folder: Path, status: str, **values: str) -> None:
    write_result(folder, read_result(folder) | {"status": status} | values)
