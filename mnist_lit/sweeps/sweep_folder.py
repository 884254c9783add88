"""The folder of a sweep: a new one, or the one of a sweep that is resumed. `sweep.yaml` records what is swept."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from mnist_lit.atomic_io import soft_lock_path, write_text
from mnist_lit.commands import resume_sweep_command, typed_overrides
from mnist_lit.config import SweepSection, TrainConfig, parse_config
from mnist_lit.config.checks import CLASS_SECTIONS, show
from mnist_lit.config.options import comparable, compared_options, flatten, is_changeable
from mnist_lit.errors import UserError
from mnist_lit.preflight import check_values, chosen_by_user, without_mnist
from mnist_lit.process import importing
from mnist_lit.run_folder import LOCK, SWEEP, claim_folder
from mnist_lit.sweeps.grid_jobs import Job, configs_of

CONFIGS = "configs.json"  # the config of each job of a grid, as it was when the grid began
WORDS = ("data.fallback_reason", "reference", "lesson")  # options that are only printed
STUDY, JOURNAL = "study.db", "study.journal"  # of a search


def open_folder(config: DictConfig, sweep: SweepSection, kind: str, jobs: Sequence[Job] = ()) -> Path:
    """Make or find the folder of the sweep, and set it in Hydra's config. `kind` is grid or search.

    Raises:
        UserError: if the folder cannot be written, or holds another sweep.
    """
    record = [_identifying_overrides(job) for job in jobs] or [_identify_study(sweep)]
    option = "hydra.sweep.dir"
    if sweep.resume is None:
        folder = Path(claim_folder(config.hydra.sweep.dir, chosen_by_user(config, option), option))
        with removing_if_unused(folder):
            write_text(folder / SWEEP, yaml.safe_dump({kind: record}, allow_unicode=True))
            if jobs:
                configs = dump_configs(configs_of(jobs))
                named = {job.folder: config for job, config in zip(jobs, configs, strict=True)}
                write_text(folder / CONFIGS, json.dumps(named) + "\n")
    else:
        folder = Path(sweep.resume)
        _check_same_sweep(folder, kind, record)
        if before := read_configs(folder):
            check_same_configs(f"sweep.resume={folder}", before.values(), dump_configs(configs_of(jobs)))
    with read_write(config.hydra.sweep):
        config.hydra.sweep.dir = str(folder)
    return folder


def remove_if_unused(folder: Path) -> None:
    """Remove the folder if no job wrote into it."""
    names = {SWEEP, CONFIGS, LOCK, soft_lock_path(folder / LOCK).name, STUDY, JOURNAL}
    if set(os.listdir(folder)) <= names:
        for name in names:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


@contextmanager
def removing_if_unused(folder: Path) -> Iterator[None]:
    """If the block fails before a job has begun, nothing is left that looks like a sweep."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            remove_if_unused(folder)
        raise


def dump_configs(configs: Iterable[TrainConfig]) -> list[dict[str, Any]]:
    return [config.model_dump(mode="json", by_alias=True) for config in configs]


def read_configs(folder: Path) -> dict[str, dict[str, Any]]:
    """Folder of the job → its config when the grid began. Empty for a search, and for a grid of release 0.2.0."""
    try:
        configs = json.loads((folder / CONFIGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return configs if isinstance(configs, dict) else {}


def check_same_configs(place: str, before: Iterable[Mapping[str, Any]], now: Iterable[Mapping[str, Any]]) -> None:
    """Raises UserError if the same overrides mean something else now: somebody has edited the files in conf/. An option
    that is newer than the sweep may have its default."""
    before, now = list(before), list(now)
    if sorted(map(repr, map(lasting_options, before))) == sorted(map(repr, map(lasting_options, now))):
        return  # the axes of a search may be in another order
    changes = dict[str, None]()  # an ordered set
    for old_config, new_config in zip(before, now, strict=True):
        old, new = lasting_options(old_config), lasting_options(new_config)
        for key in dict.fromkeys([*old, *new]):
            was, is_now = (show(config[key]) if key in config else "nothing" for config in (old, new))
            if was != is_now and (key in old or not has_default(new_config, key)):
                changes[f"{key}: was {was}, is now {is_now}"] = None
    if changes:
        raise UserError(
            "\n".join([f"{place}: the files of the config have changed since it began", *changes])
            + "\nUndo these changes, or start a new sweep"
        )


def has_default(config: Mapping[str, Any], key: str) -> bool:
    """Whether a class's option has the default of its constructor."""
    section, _, option = key.partition(".")
    if section not in CLASS_SECTIONS or section == "data" or option not in (options := dict(config[section])):
        return False
    with importing():
        from mnist_lit.build import constructor_defaults, import_class
    defaults = constructor_defaults(import_class(options.pop("_target_"), section, options))
    return option in defaults and comparable(key, defaults[option]) == comparable(key, options[option])


def lasting_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that every job of a sweep keeps. The others can change at any time, and do not change its result."""
    options = parse_config(config).model_dump(mode="json", by_alias=True)  # adds the options of a later version
    compared = compared_options(options)
    return {
        key: value
        for key, value in flatten(options).items()
        if (key in compared or not is_changeable(key)) and not key.startswith(WORDS)
    }


def restore_job_config(config: DictConfig, folder: Path, job: str) -> None:
    """Give a job of a grid the config that it had when the grid began, if the files in conf/ have changed since."""
    before = read_configs(folder).get(job)
    if before is not None and lasting_options(before) != lasting_options(dump_configs([check_values(config)])[0]):
        with read_write(config), open_dict(config):
            for section, values in before.items():
                config[section] = values


def restore_common_options(config: DictConfig, configs: Sequence[Mapping[str, Any]]) -> None:
    """Give a trial those options that all edges of its search had when the search began."""
    first, *others = map(lasting_options, configs)
    with read_write(config), open_dict(config):
        for key, value in first.items():
            is_common = all(key in other and other[key] == value for other in others)
            now = OmegaConf.select(config, key)
            if is_common and value != (OmegaConf.to_container(now, resolve=True) if OmegaConf.is_config(now) else now):
                OmegaConf.update(config, key, value)


def resume_command(config: DictConfig, folder: Path, overrides: Iterable[str]) -> str:
    """`overrides` are those of the jobs. If they use the digits because MNIST was missing, they continue with them."""
    given = [text for text in typed_overrides(config.hydra) if not text.startswith("sweep.resume=")]
    if any(text.startswith("data.fallback_reason=") for text in overrides):
        given = [*without_mnist(given), "data=digits"]
    places = ("hydra.mode=", "hydra.sweep.dir=")
    of_hydra = [text for text in typed_overrides(config.hydra, "hydra") if not text.startswith(places)]
    return resume_sweep_command([*given, *of_hydra], config.hydra, folder, config.data)


def _check_same_sweep(folder: Path, kind: str, now: list[list[str]]) -> None:
    try:
        before: Any = yaml.safe_load((folder / SWEEP).read_text(encoding="utf-8"))[kind]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"has no record of a {kind}"
        raise UserError(f"sweep.resume={folder}: is not the folder of a {kind} ({SWEEP}: {reason})") from error
    if before != now:
        old, new = _unique_overrides(before), _unique_overrides(now)
        only_old, only_new = [text for text in old if text not in new], [text for text in new if text not in old]
        raise UserError(
            f"sweep.resume={folder}: holds another sweep"
            + (f", of {len(before)} jobs where this one has {len(now)}" if len(before) != len(now) else "")
            + (f"; only in the sweep of this folder: {' '.join(only_old)}" if only_old else "")
            + (f"; only in this command: {' '.join(only_new)}" if only_new else "")
            + ". Repeat the command that started it"
        )


def _unique_overrides(jobs: list[list[str]]) -> list[str]:
    return list(dict.fromkeys(text for overrides in jobs for text in overrides))


def _identify_study(sweep: SweepSection) -> list[str]:
    """The place of a study. The runs in the folder belong to this study, and to no other."""
    storage = sweep.storage if sweep.storage in (None, "journal") else "a database"  # its URL may hold a password
    return [f"sweep.storage={storage or 'null'}", f"sweep.study={sweep.study or 'null'}"]


def _identifying_overrides(job: Job) -> list[str]:
    """Without the reason of the fallback, because its wording changes from try to try."""
    return [text for text in job.overrides if not text.startswith("data.fallback_reason=")]
