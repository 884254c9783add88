"""`resume=RUN`: the config that a run continues with, and what may be changed in it. Needs no torch."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from mnist_lit.config import TrainConfig, parse_config
from mnist_lit.config.checks import show
from mnist_lit.config.options import comparable, is_changeable, marked_options
from mnist_lit.config.schema import CHANGEABLE
from mnist_lit.console import plural
from mnist_lit.errors import UserError
from mnist_lit.run_folder import TRIAL, read_config, read_result

TRAINER_GROUP = ("trainer.accelerator", "trainer.devices")  # what trainer=gpu means for a run that continues
ABSENT = object()


class NothingToDo(Exception):
    """The run in `folder` is complete, and nothing was asked for that makes it longer."""

    def __init__(self, folder: Path, text: str) -> None:
        super().__init__(text)
        self.folder = folder


def resumed_config(folder: Path, overrides: list[str], composed: Mapping[str, Any]) -> TrainConfig:
    """A run's own config with the changes that `overrides` ask for. `composed` is the config that Hydra made of them.

    Raises:
        UserError: naming each change that is not possible, and why.
        NothingToDo: if the run is complete.
    """
    own = read_config(folder).model_dump(by_alias=True)
    changed, objections = copy.deepcopy(own), []
    preset = read_result(folder).get("choices", {}).get("experiment")
    for key in _overridden_keys(overrides, preset):
        given, before = _get(composed, key), _get(own, key)
        if given is ABSENT and before is ABSENT:
            objections.append(f"{key}: the run's own config has no such option, and a resumed run keeps its config")
        elif not (is_changeable(key) or _is_same(key, given, before)):
            objections.append(
                f"{key}={_show(given)}: a resumed run keeps its own ({_show(before)}), because its weights were "
                "trained with it. To change it, start a new run"
            )
        elif is_changeable(key):
            _set(changed, key, given)
    then, now = _classes(own["callbacks"]), _classes(changed["callbacks"])
    objections += [
        f"callbacks.{name}: a resumed run keeps its own callback classes, because they can change the weights. "
        "To change them, start a new run"
        for name in dict.fromkeys([*then, *now])
        if then.get(name) != now.get(name)
    ]
    if objections:
        raise UserError("\n".join([*objections, f"What may change: {', '.join(marked_options(CHANGEABLE))}"]))
    _check_epochs(folder, own, changed)
    return parse_config(changed)


def _overridden_keys(overrides: list[str], preset: str | None) -> list[str]:
    """Without the preset that the run was started with: its options are in the run's own config."""
    keys: list[str] = []
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if key == "experiment" and override.value() == preset:
            continue
        keys += TRAINER_GROUP if key == "trainer" else [key] if key != "resume" else []
    return keys


def _is_same(key: str, given: Any, before: Any) -> bool:
    """A section is the same if the options that the run has are the same: a later version may have more."""
    if isinstance(given, Mapping) and isinstance(before, Mapping):
        return all(_is_same(f"{key}.{name}", given.get(name, ABSENT), value) for name, value in before.items())
    return comparable(key, given) == comparable(key, before)


def _classes(section: Any) -> dict[str, Any]:
    """The callbacks from outside the package, which can change the weights; switches cannot."""
    entries = section.items() if isinstance(section, Mapping) else ()
    return {name: entry for name, entry in entries if isinstance(entry, Mapping)}


def _check_epochs(folder: Path, own: dict[str, Any], changed: dict[str, Any]) -> None:
    before, after = own["trainer"]["max_epochs"], changed["trainer"]["max_epochs"]
    if before != after:
        _check_schedule(folder, parse_config(own), after)
    result = read_result(folder)
    if result.get("status") == TRIAL:
        raise UserError(f"{folder} was a trial with trainer.fast_dev_run=true, which leaves no checkpoint to resume")
    if before == after and result.get("status") == "completed":
        raise NothingToDo(
            folder,
            f"{folder} is complete: {result.get('epochs')} of {before} epochs, test accuracy "
            f"{result.get('test_acc', float('nan')):.2%}. There is nothing to do",
        )


def _check_schedule(folder: Path, config: TrainConfig, epochs: int) -> None:
    from mnist_lit.build import spans_run

    if spans_run(config.scheduler):
        planned, name = config.trainer.max_epochs, read_result(folder).get("choices", {}).get("scheduler")
        raise UserError(
            f"trainer.max_epochs={epochs}: scheduler={name or config.scheduler.target} spreads the learning rate over "
            f"the whole run, and this run was planned for {plural(planned, 'epoch')}. With another "
            "number of epochs, the learning rates would have been different from the first step on. "
            f"Legal here: {planned}. Runs with scheduler=none or step can be longer"
        )


def _get(config: Any, key: str) -> Any:
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


def _show(value: Any) -> str:
    return "none" if value is ABSENT else show(value)
