"""Optuna's study: its storage, its sampler, which trials count, and what happens when the process of a trial dies."""

import os
import platform
import time
import warnings
import zlib
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from mnist_lit.config import SweepSection
from mnist_lit.errors import UserError
from mnist_lit.reports.leaderboard import LARGEST_FIRST
from mnist_lit.run_folder import read_result
from mnist_lit.sweeps.job_run import is_running, read_finished
from mnist_lit.sweeps.search_space import SearchSpace
from mnist_lit.sweeps.sweep_folder import JOURNAL, STUDY, check_same_configs

Direction = Literal["minimize", "maximize"]
LOST_STORAGE = (SQLAlchemyError, optuna.exceptions.StorageInternalError)
HOST = platform.node()
ANSWER_LIMIT = 10  # seconds for the answer of a database
HEARTBEAT, GRACE_PERIOD = 30, 120  # seconds between two heartbeats, and without one until a trial counts as lost

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=ExperimentalWarning)
retry = RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)


class Database(RDBStorage):
    """A heartbeat that fails is left out. In Optuna, it ends the thread that sends the heartbeats."""

    def record_heartbeat(self, trial_id: int) -> None:
        with suppress(*LOST_STORAGE):
            super().record_heartbeat(trial_id)


def open_study(sweep: SweepSection, space: SearchSpace, folder: Path, worker: int = 0) -> optuna.Study:
    """Make or load the study. `worker` is the number of this process among those of this machine: every process
    samples differently.

    Raises:
        UserError: if the storage cannot be opened, or if the study of this name searches something else.
    """
    name = sweep.study or "search"
    storage = open_storage(sweep, folder)
    description = space.description() | {
        "objectives": sweep.objectives,
        "sweep.sampler=grid": [str(sweep.sampler == "grid")],
    }
    directions: list[Direction] = ["maximize" if it in LARGEST_FIRST else "minimize" for it in sweep.objectives]
    try:
        study = optuna.create_study(study_name=name, storage=storage, directions=directions)
        if sweep.sampler == "grid":
            for point in space.every_point():
                study.enqueue_trial(point)
        study.set_user_attr("description", description)  # last, as the sign that the study is complete
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage)
        place = f"sweep.study={sweep.study}" if sweep.study else f"sweep.resume={folder}"
        check_same_study(place, wait_for_description(study, place), description)
    machine = 0 if is_local(sweep) else zlib.crc32(f"{HOST} {os.getpid()}".encode())
    study.sampler = make_sampler(sweep.sampler, seed=(machine + len(study.trials) + 1000 * worker) % 2**32)
    study.pruner = make_pruner(sweep.pruner)
    return study


def wait_for_description(study: optuna.Study, place: str) -> dict[str, Any]:
    """The description of the study. Waits if another machine is making the study at this moment."""
    for _ in range(60):
        if "description" in study.user_attrs:
            return dict(study.user_attrs["description"])
        time.sleep(0.5)
    raise UserError(f"{place}: the study is incomplete, because its first process stopped early; use another name")


def open_storage(sweep: SweepSection, folder: Path) -> BaseStorage:
    if sweep.storage == "journal":
        journal = str(folder / JOURNAL)  # Optuna's default lock is a symbolic link, which many systems lack
        return JournalStorage(JournalFileBackend(journal, lock_obj=JournalFileOpenLock(journal)))
    url = sweep.storage or f"sqlite:///{folder / STUDY}"
    connection: dict[str, Any] = {"pool_pre_ping": True}  # a connection may break between two trials
    if url.startswith("sqlite"):
        connection = {"connect_args": {"timeout": 60}}
    elif url.startswith("postgresql") and "connect_timeout" not in url:  # by default it waits for minutes
        connection["connect_args"] = {"connect_timeout": ANSWER_LIMIT, "tcp_user_timeout": 1000 * ANSWER_LIMIT}
    connect = partial(
        Database,
        url,
        engine_kwargs=connection,
        # The trials of one machine are found by their locks. A computer that sleeps sends no heartbeats.
        heartbeat_interval=None if is_local(sweep) else HEARTBEAT,
        grace_period=GRACE_PERIOD,
        heartbeat_stale_trial_callback=queue_again,
    )
    try:
        try:
            storage = connect()
        except (IntegrityError, ProgrammingError):
            time.sleep(2)  # another machine made the tables at the same moment
            storage = connect()
    except Exception as error:  # the URL, the driver, the network and the rights each raise another type
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"sweep.storage={hide_password(url)}: cannot be opened: {reason}") from error
    if url.startswith("sqlite"):
        lock_before_reading(storage.engine)
    return storage


def lock_before_reading(engine: Engine) -> None:
    """Take SQLite's lock when a transaction begins. By default SQLite takes it at the first write. Two workers could
    then both read that a trial is waiting, and both would run it."""

    @event.listens_for(engine, "connect")
    def disable_own_transactions(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # closes the connections that were made before


def describe_lost_storage(sweep: SweepSection, error: Exception) -> str:
    reason = str(error.__cause__ or error).splitlines()[0]
    place = hide_password(sweep.storage) if sweep.storage else "null"
    return f"sweep.storage={place}: the study cannot be read or written: {reason}"


def hide_password(url: str) -> str:
    with suppress(Exception):
        return make_url(url).render_as_string(hide_password=True)
    return "URL"


def is_local(sweep: SweepSection) -> bool:
    """True if the study is in the folder of the sweep, where no other sweep uses it."""
    return sweep.storage in (None, "journal")


def make_sampler(name: str, seed: int) -> BaseSampler:
    if name == "tpe":
        return TPESampler(seed=seed, constant_liar=True)  # so that workers do not try the same point together
    if name == "cmaes":
        return CmaEsSampler(seed=seed)
    return RandomSampler(seed=seed)  # the points of a grid are in the queue and need no sampler


def make_pruner(name: str) -> BasePruner:
    if name == "median":
        return MedianPruner()
    return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3) if name == "halving" else NopPruner()


def check_same_study(place: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    pairs = {key: (before["axes"].get(key), now["axes"].get(key)) for key in (before["axes"] | now["axes"])}
    pairs["fixed"] = (" ".join(sorted(before["fixed"])), " ".join(sorted(now["fixed"])))
    for name in ("objectives", "sweep.sampler=grid"):
        pairs[name] = (" ".join(before[name]), " ".join(now[name]))
    errors = [
        f"{name}: the study has {old or 'nothing'}, this command has {new or 'nothing'}"
        for name, (old, new) in pairs.items()
        if old != new
    ]
    if errors:
        raise UserError("\n".join([f"{place}: its study searches something else", *errors]))
    check_same_configs(place, before.get("configs", now["configs"]), now["configs"])


def counted_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count, by number. Surplus trials, and lost ones that were queued again, do not count."""
    trials = sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number)
    lost = {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
    return [trial for trial in trials if trial.number not in lost and "surplus" not in trial.user_attrs]


def count_missing(study: optuna.Study, total: int) -> int:
    """How many trials have not started yet."""
    trials = counted_trials(study)
    waiting = sum(trial.state == TrialState.WAITING for trial in trials)
    return waiting + max(0, total - len(trials))


def is_surplus(study: optuna.Study, trial: optuna.Trial, total: int) -> bool:
    """True for the later one of two trials that two workers started when only one was missing."""
    return trial.number not in [other.number for other in counted_trials(study)[:total]]


def folder_number(trial: optuna.Trial) -> int:
    frozen = next(other for other in trial.study.get_trials(deepcopy=False) if other.number == trial.number)
    return first_number(frozen)


def first_number(trial: FrozenTrial) -> int:
    """The number of the trial. A retried trial has the number, and so the folder, of its first try."""
    original = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if original is None else original


def requeue_lost_trials(study: optuna.Study, sweep_folder: Path, local: bool) -> None:
    """Queue each trial again that was running in a dead process of this machine.

    An interrupted trial is queued every time. A trial that died for an unknown reason is queued once. Call this while
    no process of this sweep is running. A trial of another machine counts as lost when its heartbeats stop.
    """
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if _is_lost(trial, sweep_folder, local):
            with suppress(UpdateFinishedTrialError, ValueError):
                study.tell(trial.number, state=TrialState.FAIL)
                queue_again(study, trial)
    optuna.storages.fail_stale_trials(study)  # those of other machines


def queue_again(study: optuna.Study, trial: FrozenTrial) -> None:
    """A trial whose process died is queued once, and one that was interrupted is queued every time."""
    deaths = trial.user_attrs.get("deaths", 0) + (not _was_interrupted(trial))
    if deaths <= 1:
        trial.user_attrs["deaths"] = deaths  # the new trial has the attributes of this one
        retry(study, trial)


def _is_lost(trial: FrozenTrial, sweep_folder: Path, local: bool) -> bool:
    if "folder" not in trial.user_attrs:
        return local
    folder = Path(trial.user_attrs["folder"])
    if is_running(folder):
        return False
    if local:
        return True
    if trial.user_attrs.get("host") != HOST:
        return False
    is_own = folder.parent == sweep_folder.absolute()
    return is_own or read_finished(folder) is None  # another sweep may report a trial that just ended


def _was_interrupted(trial: FrozenTrial) -> bool:
    return "folder" in trial.user_attrs and read_result(Path(trial.user_attrs["folder"])).get("status") == "interrupted"


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The best trial. With several objectives: the trials that no other trial beats in all of them."""
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return []
    return list(study.best_trials) if len(study.directions) > 1 else [study.best_trial]
