"""`resume=RUN`: the config that a run goes on with, and what may be changed in it. Imports no torch."""

import copy
import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser

from mnist_lit.config import TrainConfig, parse_config
from mnist_lit.errors import UserError

# What changes neither the weights nor what they mean: where, how long, and what is written down.
FREE = (
    "trainer.max_epochs",
    "trainer.accelerator",
    "trainer.log_every_n_steps",
    "trainer.profiler",
    "checkpoint.every_seconds",
    "data.root",
    "data.mirrors",
    "logger",
    "callbacks",
)
OF_A_TRAINER = ("trainer.accelerator", "trainer.devices")  # what trainer=gpu means for a run that goes on
SPANS_THE_RUN = ("cosine", "onecycle")
ABSENT = object()
LOCK_OF_RANKS = ".lock_ranks"


class NothingToDo(Exception):
    """The run is complete, and nothing was asked for that would make it longer."""


def run_config(folder: Path) -> TrainConfig:
    """The config that a run was trained with.

    Raises:
        UserError: if the folder holds none, or one that this version cannot read.
    """
    path = folder / "config.yaml"
    try:
        return parse_config(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UserError(f"{folder} is not a run's folder: {path.name} cannot be read ({reason})") from error
    except UserError as error:
        raise UserError(f"{path} does not fit this version:\n{error}") from error


def resumed_config(folder: Path, overrides: list[str], composed: Mapping[str, Any]) -> TrainConfig:
    """A run's own config with the changes that `overrides` ask for; `composed` is what Hydra made of them.

    Raises:
        UserError: naming each change that is not possible, and why.
        NothingToDo: if the run is complete.
    """
    own = run_config(folder).model_dump(by_alias=True)
    changed, objections = copy.deepcopy(own), []
    for key in changed_keys(overrides):
        given, before = _value(composed, key), _value(own, key)
        if given is ABSENT and before is ABSENT:
            objections.append(f"{key}: a resumed run keeps its own config, which has nothing of that name")
        elif given != before and not key.startswith(FREE):
            objections.append(
                f"{key}={_shown(given)}: a resumed run keeps its own ({_shown(before)}), because its weights were "
                "trained with it. For another start a new run"
            )
        elif given != before:
            _set(changed, key, given)
    if objections:
        raise UserError("\n".join([*objections, f"What may change: {', '.join(FREE)}"]))
    _check_epochs(folder, own, changed)
    return parse_config(changed)


def changed_keys(overrides: list[str]) -> list[str]:
    keys: list[str] = []
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        keys += OF_A_TRAINER if key == "trainer" else [key] if key != "resume" else []
    return keys


def recorded(folder: Path) -> dict[str, Any]:
    """What result.json holds; nothing if it is not there or cannot be read, for it is a record and not a state."""
    try:
        values = json.loads((folder / "result.json").read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def hold(folder: Path) -> AbstractContextManager[object]:
    """The folder's lock, taken until the `with` block ends or the process dies. One process may take it twice.

    Of several ranks the first has a lock of its own beside that of the process that has started them, so that ranks
    which outlive it still keep others out.

    Raises:
        UserError: if another process holds it, or it cannot be written.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _take(folder / LOCK_OF_RANKS, patience=10) if os.environ["RANK"] == "0" else nullcontext()
    if (folder / LOCK_OF_RANKS).exists():
        with _take(folder / LOCK_OF_RANKS):
            pass
    return _take(folder / ".lock")


def _take(path: Path, patience: float = 0) -> AbstractContextManager[object]:
    try:
        return FileLock(path, timeout=patience, is_singleton=True).acquire()
    except Timeout:
        raise UserError(f"{path.parent} is held by a run that is still going. Wait for it, or stop it first") from None
    except OSError as error:
        raise UserError(f"{path.parent} cannot be written: {error.strerror or error}") from error


def _check_epochs(folder: Path, own: dict[str, Any], changed: dict[str, Any]) -> None:
    before, after = own["trainer"]["max_epochs"], changed["trainer"]["max_epochs"]
    result = recorded(folder)
    if before != after and own["scheduler"]["name"] in SPANS_THE_RUN:
        raise UserError(
            f"trainer.max_epochs={after}: scheduler={own['scheduler']['name']} spreads the learning rate over the "
            f"whole run, and this one was planned for {before} epochs: with another number it would have been "
            f"another run from its first step. Legal here: {before}. Runs with scheduler=none or step can be longer"
        )
    if before == after and result.get("status") == "completed":
        raise NothingToDo(
            f"{folder} is complete: {result.get('epochs')} of {before} epochs, test accuracy "
            f"{result.get('test_acc', float('nan')):.2%}. There is nothing to do"
        )


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return ABSENT
        config = config[part]
    return config


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        config = config.setdefault(section, {})
    if value is ABSENT:
        config.pop(name, None)
    else:
        config[name] = value


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_shown(part)}" for name, part in value.items())
    return "null" if value is None else str(value)
