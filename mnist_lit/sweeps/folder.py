"""A sweep's folder: claimed for a new one, or checked to be the same that is gone on with. Imports no torch."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, read_write

from mnist_lit.config import SweepSection
from mnist_lit.durable import write_text
from mnist_lit.errors import UserError
from mnist_lit.sweeps.plan import Job
from mnist_lit.training.commands import resume_sweep_command
from mnist_lit.training.preflight import chosen_by_user, claim_folder

RECORD, LOCK = "sweep.yaml", ".lock"


def open_folder(config: DictConfig, sweep: SweepSection, kind: str, jobs: Sequence[Job] = ()) -> Path:
    """The folder that the runs shall go into, made or found; Hydra's config is told. `kind` is grid or search.

    Raises:
        UserError: if it cannot be written, or holds another sweep.
    """
    record = {kind: [_identity(job.overrides) for job in jobs] or [_study(sweep)]}
    if sweep.resume is None:
        folder = Path(claim_folder(config.hydra.sweep.dir, chosen_by_user(config, "hydra.sweep.dir")))
        write_text(folder / RECORD, yaml.safe_dump(record, allow_unicode=True))
    else:
        folder = Path(sweep.resume)
        _check_same(folder, kind, record[kind])
    with read_write(config.hydra.sweep):
        config.hydra.sweep.dir = str(folder)
    return folder


def drop_if_unused(folder: Path) -> None:
    """Nothing but the sweep's own record is in it."""
    if set(os.listdir(folder)) <= {RECORD, LOCK}:
        for name in (RECORD, LOCK):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def command(config: DictConfig, folder: Path) -> str:
    """What to type to go on with the sweep."""
    given = [text for text in config.hydra.overrides.task if not text.startswith("sweep.resume=")]
    launcher = [
        text for text in config.hydra.overrides.hydra if not text.startswith(("hydra.mode=", "hydra.sweep.dir="))
    ]
    return resume_sweep_command([*given, *launcher], config.hydra, folder)


def _check_same(folder: Path, kind: str, now: list[list[str]]) -> None:
    try:
        before: Any = yaml.safe_load((folder / RECORD).read_text())[kind]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it does not say so"
        raise UserError(f"sweep.resume={folder}: is not the folder of a {kind} ({RECORD}: {reason})") from error
    if before != now:
        then_only = [text for text in _flat(before) if text not in _flat(now)]
        now_only = [text for text in _flat(now) if text not in _flat(before)]
        raise UserError(
            f"sweep.resume={folder}: holds another sweep"
            + (f", of {len(before)} jobs where this one has {len(now)}" if len(before) != len(now) else "")
            + (f"; only there: {' '.join(then_only)}" if then_only else "")
            + (f"; only here: {' '.join(now_only)}" if now_only else "")
            + ". Repeat the command that it was started with"
        )


def _flat(jobs: list[list[str]]) -> list[str]:
    return list(dict.fromkeys(text for overrides in jobs for text in overrides))


def _study(sweep: SweepSection) -> list[str]:
    """Where a search keeps its results: those of another study are not those of the runs here."""
    storage = sweep.storage if sweep.storage in (None, "journal") else "a database"  # its URL may hold a password
    return [f"sweep.storage={storage or 'null'}", f"sweep.study={sweep.study or 'null'}"]


def _identity(overrides: Sequence[str]) -> list[str]:
    return [text for text in overrides if not text.startswith("data.fallback_reason=")]  # worded anew each time
