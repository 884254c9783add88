"""A run's folder: the names in it, claiming it, locking it, reading and recording. Imports neither torch nor Lightning.

`result.json` says what a run was and how it ended. It is written when the run starts and again when it stops, however
it stops.
"""

import json
import os
import platform
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import yaml
from filelock import Timeout

from mnist_lit import CHECKOUT, CONFIG, __version__, process
from mnist_lit.atomic_io import lock_file, lock_holder, write_text
from mnist_lit.config import TrainConfig, parse_config
from mnist_lit.errors import UserError, describe_disk_error

RESULT, METRICS, PREDICTIONS = "result.json", "metrics.csv", "test_predictions.npz"
CHECKPOINTS, TENSORBOARD, LOG = "checkpoints", "tensorboard", "train.log"
PICTURES = "predictions.png"
BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
SWEEP = "sweep.yaml"
LOCK, RANKS_LOCK = ".lock", ".lock_ranks"
# What np.load raises for the file of predictions if it is cut off or damaged.
DAMAGED = (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error)

TRIAL = "fast_dev_run"  # the status of a run that only showed that it works
FINISHED = ("completed", "failed", "pruned", TRIAL)  # the run ended by itself
UNFINISHED = ("failed", "interrupted", "running", "pruned", TRIAL)
PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "torchmetrics", "tensorboard")


class FolderInUse(UserError):
    """Another process works in the folder."""


class RunPruned(Exception):
    """A search stopped the run early, because other runs were better at this point."""


def claim_folder(wanted: str, chosen: bool, option: str) -> str:
    """Make the folder and return its path. If another run has just taken the path, a number is added to it.

    `chosen` says that the user named the folder, which is possible with `option`.

    Raises:
        UserError: if it cannot be written, or if the user chose a folder that already holds a run.
    """
    path, number = Path(wanted), 1
    try:
        if chosen:
            _check_empty(path)
            path.mkdir(parents=True, exist_ok=True)
            (path / ".writable").touch()
            (path / ".writable").unlink()
            return str(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                path.mkdir()
                return str(path)
            except FileExistsError:
                number += 1
                path = Path(f"{wanted}_{number}")
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror or error}. Choose another folder with {option}=FOLDER"
        ) from error


def lock_folder(folder: Path) -> AbstractContextManager[object]:
    """Lock the folder until the `with` block ends or the process dies. One process may lock it twice.

    With several ranks, the first rank has a lock of its own beside the lock of the process that started them. So ranks
    that outlive this process still keep others out.

    Raises:
        UserError: if another process holds the lock, or if it cannot be written.
    """
    if process.rank is not None:
        return _acquire(folder / RANKS_LOCK, timeout=10) if is_first_rank() else nullcontext()
    if (folder / RANKS_LOCK).exists():
        with _acquire(folder / RANKS_LOCK):
            pass
    return _acquire(folder / LOCK)


def is_first_rank() -> bool:
    return process.rank in (None, 0)


def read_config(folder: Path) -> TrainConfig:
    """The config that a run was trained with.

    Raises:
        UserError: if the folder holds none, or one that this version cannot read.
    """
    path = folder / CONFIG
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UserError(f"{folder} is not a run's folder: {path.name} cannot be read ({reason})") from error
    if reason := find_old_format(folder, values):
        raise UserError(reason)
    try:
        return parse_config(values)
    except UserError as error:
        raise UserError(f"{path} does not fit this version:\n{error}") from error


def find_old_format(folder: Path, config: Any) -> str | None:
    """The message for a run of release 0.1, which wrote `optimizer: {name: adam}` without `_target_`."""
    optimizer = config.get("optimizer") if isinstance(config, dict) else None
    if not isinstance(optimizer, dict) or "_target_" in optimizer:
        return None
    return f"{folder} is a run of mnist-lit 0.1, which this version cannot read; use release 0.1.0 for it"


def write_config(folder: Path, config: TrainConfig) -> None:
    if is_first_rank():
        write_text(folder / CONFIG, yaml.safe_dump(config.model_dump(by_alias=True), sort_keys=False))


def read_result(folder: Path) -> dict[str, Any]:
    """The content of result.json; empty if the file is missing or cannot be read."""
    try:
        values = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def write_result(folder: Path, values: dict[str, Any]) -> None:
    write_text(folder / RESULT, json.dumps(values, indent=2) + "\n")


def find_run(name: str, *, unfinished: bool = False) -> Path:
    """The folder that a person means: a path, a part of the path of one run below outputs/, or `latest`. If nothing
    fits, the name itself as a path.

    `latest` is the run that was started last: of those that are not complete with `unfinished`, else of those that have
    a checkpoint. A name that ends like the given one comes first: `cnn` is `…_mnist_cnn`, not `…_mnist_cnn_softmax`.

    Raises:
        UserError: if the name is part of several runs, or if there is no latest run.
    """
    if os.path.exists(name):  # unlike Path.exists, it answers no where a folder cannot be read
        return Path(name)
    results = {path.parent: read_result(path.parent) for path in Path("outputs").rglob(RESULT)}
    runs = sorted(results, key=lambda run: (str(results[run].get("started", "")), run.name))
    if name == "latest":
        if unfinished:
            runs = [run for run in runs if results[run].get("status") not in ("completed", TRIAL)]
        if not runs:
            raise UserError(f"latest: there is no {'unfinished ' if unfinished else ''}run below outputs/")
        usable = [run for run in runs if (run / CHECKPOINTS / BEST).exists()]
        return runs[-1] if unfinished or not usable else usable[-1]
    found = (
        [run for run in runs if run.name == name]
        or [run for run in runs if run.name.endswith(f"_{name}")]
        or [run for run in runs if name in run.as_posix()]
    )
    if len(found) > 1:
        shown = "\n".join(f"  {run}" for run in found[-5:])
        raise UserError(
            f"{name}: is part of the names of {len(found)} runs, such as\n{shown}\nGive a longer part of the name"
        )
    return found[0] if found else Path(name)


def best_checkpoint(run: Path) -> Path:
    """The best checkpoint of a run's folder; `run` itself if it is a file. Raises UserError if there is no `run`."""
    if not os.path.exists(run):
        raise UserError(f"{run}: there is no such run or checkpoint")
    return run / CHECKPOINTS / BEST if run.is_dir() else run


def run_of_checkpoint(checkpoint: Path) -> Path | None:
    """The folder of the run that a checkpoint is of; None if the checkpoint is not in a run's folder."""
    folder = checkpoint.parent.parent
    return folder if checkpoint.parent.name == CHECKPOINTS and (folder / CONFIG).exists() else None


class ResultFile:
    """`values` is the content of result.json. Every change replaces the whole file or nothing.

    A resumed run keeps the command that started it, and adds the command that resumes it to `resumed`.
    """

    def __init__(self, folder: Path, values: dict[str, Any], *, resumed: bool = False) -> None:
        self.folder = folder
        before = read_result(folder) if resumed else {}
        before.pop("error", None)
        self.values: dict[str, Any] = {"status": "running"} | before | values | {"status": "running"}
        if resumed:
            kept = ("command", "overrides", "choices", "started")
            self.values |= {name: before[name] for name in kept if name in before}
            self.values["resumed"] = [*before.get("resumed", []), values.get("command")]

    def update(self, **values: Any) -> None:
        self.values.update(values)
        if is_first_rank():
            write_result(self.folder, self.values)

    @contextmanager
    def recording_status(self, success: str = "completed") -> Iterator[None]:
        """Record how the block ends: `success`, interrupted, pruned or failed, and why."""
        self.update()
        try:
            yield
        except (KeyboardInterrupt, SystemExit) as stop:
            self.update(status="interrupted", error=str(stop) or type(stop).__name__)
            raise
        except RunPruned as pruned:
            self.update(status="pruned", error=str(pruned))
            raise
        except BaseException as error:
            self.update(status="failed", error=describe_disk_error(error) or f"{type(error).__name__}: {error}")
            raise
        self.update(status=success)


def package_versions() -> dict[str, str]:
    return {
        "mnist-lit": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def git_commit() -> str | None:
    """The commit of the project's checkout, with `-dirty` behind it if files differ; None outside a checkout."""
    if CHECKOUT is None:
        return None
    command = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _check_empty(path: Path) -> None:
    if found := [name for name in (RESULT, CONFIG, CHECKPOINTS, METRICS, SWEEP) if (path / name).exists()]:
        from mnist_lit.commands import quote, to_hydra_value  # imports Hydra

        option = "sweep.resume" if SWEEP in found else "resume"
        resume = quote(f"{option}={to_hydra_value(str(path))}")
        raise UserError(
            f"{path} already holds a run ({', '.join(found)}). Name another folder, or continue it with {resume}"
        )


def _acquire(path: Path, timeout: float = 0) -> AbstractContextManager[object]:
    try:
        return lock_file(path, timeout)
    except Timeout:
        holder = lock_holder(path)
        raise FolderInUse(
            f"{path.parent} is in use by a run that is still going{f' ({holder})' if holder else ''}. "
            "Wait for it, or stop it first"
        ) from None
    except OSError as error:
        raise UserError(f"{path.parent} cannot be written: {error.strerror or error}") from error
