"""A study: where it is kept, how it samples, which trials count, and what becomes of those whose process died."""

import os
import platform
import time
import warnings
import zlib
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, CmaEsSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError

from mnist_lit.config import SweepSection
from mnist_lit.errors import UserError
from mnist_lit.sweeps.space import Space
from mnist_lit.sweeps.state import alive, finished
from mnist_lit.training.resume import recorded

DIRECTIONS = {
    "val_acc": StudyDirection.MAXIMIZE,
    "val_loss": StudyDirection.MINIMIZE,
    "fit_seconds": StudyDirection.MINIMIZE,
    "params": StudyDirection.MINIMIZE,
}
HERE = platform.node()
HEARTBEAT, SILENCE = 30, 120  # seconds between two signs of life in a database, and without one before a trial is lost

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=ExperimentalWarning)
try_again = RetryHeartbeatStaleTrialCallback(max_retry=1, inherit_intermediate_values=True)
go_on = RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)


def open_study(sweep: SweepSection, space: Space, folder: Path, worker: int = 0) -> optuna.Study:
    """The study, made if it is not there. `worker` tells those of one machine apart: each samples its own way, and so
    does each process of several that share a study.

    Raises:
        UserError: if the storage cannot be reached, or holds a study of something else under that name.
    """
    name = sweep.study or "search"
    storage = open_storage(sweep, folder)
    description = space.described() | {
        "objectives": sweep.objectives,
        "sweep.sampler=grid": [str(sweep.sampler == "grid")],
    }
    directions = [DIRECTIONS[objective] for objective in sweep.objectives]
    try:
        study = optuna.create_study(study_name=name, storage=storage, directions=directions)
        if sweep.sampler == "grid":
            for point in space.every_point():
                study.enqueue_trial(point)
        study.set_user_attr("description", description)  # last: who finds it knows that all is there
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(study_name=name, storage=storage)
        place = f"sweep.study={sweep.study}" if sweep.study else f"sweep.resume={folder}"
        check_same(place, described(study, place), description)
    elsewhere = 0 if is_local(sweep) else zlib.crc32(f"{HERE} {os.getpid()}".encode())
    study.sampler = sampler(sweep.sampler, seed=(elsewhere + len(study.trials) + 1000 * worker) % 2**32)
    study.pruner = pruner(sweep.pruner)
    return study


def described(study: optuna.Study, place: str) -> dict[str, Any]:
    """What the study searches; another machine may just be making it."""
    for _ in range(60):
        if "description" in study.user_attrs:
            return dict(study.user_attrs["description"])
        time.sleep(0.5)
    raise UserError(f"{place}: holds a study that was never finished being made; start another")


def open_storage(sweep: SweepSection, folder: Path) -> BaseStorage:
    if sweep.storage == "journal":
        return JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    url = sweep.storage or f"sqlite:///{folder / 'study.db'}"
    connection = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    connect = partial(
        RDBStorage,
        url,
        engine_kwargs=connection,
        heartbeat_interval=HEARTBEAT,
        grace_period=SILENCE,
        heartbeat_stale_trial_callback=try_again,
    )
    try:
        try:
            storage = connect()
        except (IntegrityError, ProgrammingError):
            time.sleep(2)  # another machine was just making the tables
            storage = connect()
    except Exception as error:  # the URL, the driver, the network, the rights: each fails in a way of its own
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"sweep.storage={without_password(url)}: cannot be opened: {reason}") from error
    if url.startswith("sqlite"):
        lock_before_reading(storage.engine)
    return storage


def lock_before_reading(engine: Engine) -> None:
    """SQLite locks at a transaction's first write. Until then two workers can both read that a trial is waiting, and
    both would take it."""

    @event.listens_for(engine, "connect")
    def leave_transactions_alone(connection: Any, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # connections made before this


def without_password(url: str) -> str:
    with suppress(Exception):
        return make_url(url).render_as_string(hide_password=True)
    return "URL"


def is_local(sweep: SweepSection) -> bool:
    """Whether the study is in the sweep's folder, where no other sweep comes."""
    return sweep.storage in (None, "journal")


def sampler(name: str, seed: int) -> BaseSampler:
    if name == "tpe":
        return TPESampler(seed=seed, constant_liar=True)  # the liar keeps workers from trying the same at once
    if name == "cmaes":
        return CmaEsSampler(seed=seed)
    return RandomSampler(seed=seed)  # a grid's points are queued, and need no sampler


def pruner(name: str) -> BasePruner:
    if name == "median":
        return MedianPruner()
    return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3) if name == "halving" else NopPruner()


def check_same(place: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    objections = []
    for key in dict.fromkeys((*before["axes"], *now["axes"])):
        then, given = before["axes"].get(key), now["axes"].get(key)
        if then != given:
            objections.append(f"{key}: the study has {then or 'nothing'}, given is {given or 'nothing'}")
    for what in ("fixed", "objectives", "sweep.sampler=grid"):
        if before[what] != now[what]:
            objections.append(f"{what}: the study has {' '.join(before[what])}, given is {' '.join(now[what])}")
    if objections:
        raise UserError("\n".join([f"{place}: its study searches something else", *objections]))


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count, by number: without those that were lost and tried again, and those begun in excess."""
    trials = sorted(study.get_trials(deepcopy=False), key=lambda trial: trial.number)
    lost = {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
    return [trial for trial in trials if trial.number not in lost and "in_excess" not in trial.user_attrs]


def to_do(study: optuna.Study, total: int) -> int:
    """How many trials are left to begin."""
    trials = counted(study)
    waiting = sum(trial.state == TrialState.WAITING for trial in trials)
    return waiting + max(0, total - len(trials))


def in_excess(study: optuna.Study, trial: optuna.Trial, total: int) -> bool:
    """Two workers that each saw room for one more trial have both begun one: the later one is in excess."""
    return trial.number not in [other.number for other in counted(study)[:total]]


def slot(trial: optuna.Trial) -> int:
    """The number of the trial, or of the one that it tries again: they share a folder."""
    frozen = next(other for other in trial.study.get_trials(deepcopy=False) if other.number == trial.number)
    original = RetryHeartbeatStaleTrialCallback.retried_trial_number(frozen)
    return trial.number if original is None else original


def retry_lost(study: optuna.Study, local: bool) -> None:
    """Queue again each trial that was running in a process of this machine that is no more: as often as it was
    interrupted, but once where nobody knows why. Nobody of this sweep is at work when it is called. Those of other
    machines are found out by their silence."""
    optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if _is_lost(trial, local):
            with suppress(UpdateFinishedTrialError, ValueError):
                study.tell(trial.number, state=TrialState.FAIL)
                again = go_on if _was_interrupted(trial) else try_again
                again(study, trial)


def _is_lost(trial: FrozenTrial, local: bool) -> bool:
    if "folder" not in trial.user_attrs:
        return local
    folder = Path(trial.user_attrs["folder"])
    if local:
        return not alive(folder)
    if trial.user_attrs.get("host") != HERE or alive(folder):
        return False
    return finished(folder) is None  # if it just ended, another process here is about to tell the study


def _was_interrupted(trial: FrozenTrial) -> bool:
    return "folder" in trial.user_attrs and recorded(Path(trial.user_attrs["folder"])).get("status") == "interrupted"


def best(study: optuna.Study) -> list[FrozenTrial]:
    """The best trial first; of several objectives, those that none beats in all. Empty if none is complete."""
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        return []
    return list(study.best_trials) if len(study.directions) > 1 else [study.best_trial]
