"""The jobs of a grid, each composed and checked before the first one starts. Imports no torch."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from mnist_lit.config import MNISTData, TrainConfig
from mnist_lit.errors import UserError
from mnist_lit.misspelt import no_such_option
from mnist_lit.training.preflight import check_surroundings, checked_config, missing_data, overrides_for_digits


@dataclass(frozen=True)
class Job:
    """`label`: the overrides in which the jobs of the sweep differ. `folder` is relative to the sweep's."""

    number: int
    overrides: tuple[str, ...]
    label: str
    folder: str = ""


def plan_grid(config: DictConfig, context: HydraContext, arguments: Sequence[str]) -> list[Job]:
    """All combinations of the choices in `arguments`. Gets MNIST if any of them needs it.

    Raises:
        UserError: naming every option that is wrong in any of them, or what is not to be had on this machine.
    """
    jobs, objections = [], dict[str, None]()  # many jobs object to the same thing
    for job in combinations(context, arguments):
        try:
            jobs.append(checked(config, context, job))
        except (UserError, OmegaConfBaseException) as error:
            objections[str(error)] = None
    if objections:
        raise UserError("\n".join(objections))
    ready = [
        job if reason is None else checked(config, context, on_digits(job, reason))[0]
        for (job, _), reason in zip(jobs, missing(run for _, run in jobs), strict=True)
    ]
    check_folders(ready)
    return ready


def on_digits(job: Job, reason: str) -> Job:
    return replace(job, overrides=tuple(overrides_for_digits(job.overrides, reason)))


def combinations(context: HydraContext, arguments: Sequence[str]) -> list[Job]:
    parsed = OverridesParser.create(context.config_loader).parse_overrides(list(arguments))
    choices = {override.get_key_element(): values_of(override) for override in parsed}
    swept = [override.is_sweep_override() for override in {o.get_key_element(): o for o in parsed}.values()]
    return [
        Job(number, overrides, " ".join(text for text, varies in zip(overrides, swept, strict=True) if varies))
        for number, overrides in enumerate(product(*choices.values()))
    ]


def values_of(override: Override) -> list[str]:
    """The override once for each of its values."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if not override.is_discrete_sweep():
        raise UserError(f"{override.input_line}: an interval cannot be enumerated; search it with hydra/sweeper=optuna")
    values = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    if not values:
        raise UserError(f"{override.input_line}: there is nothing to choose from")
    return values


def checked(config: DictConfig, context: HydraContext, job: Job) -> tuple[Job, TrainConfig]:
    """The job with its folder, and the config that it is going to run.

    Raises:
        UserError: naming every option that is wrong.
    """
    try:
        composed = context.config_loader.load_sweep_config(config, list(job.overrides))
    except HydraException as error:
        raise UserError(no_such_option(error) or str(error)) from error
    number_job(composed, job.number, job.label)
    return replace(job, folder=str(composed.hydra.sweep.subdir)), checked_config(composed)


def number_job(composed: DictConfig, number: int, label: str) -> None:
    """What the job's folder is named by, and so its curves in TensorBoard: its number and what it differs in."""
    last_keys = re.sub(r"[\w/@]+\.(?=[\w.]+=)", "", label)
    plain = re.sub(r"[^\w=.+-]+", ",", re.sub(r"[][{}'\"]", "", last_keys))[:80].strip(",")
    with open_dict(composed):
        composed.hydra.job.num = number
        composed.hydra.job.override_dirname = plain or composed.hydra.runtime.choices.model


def missing(configs: Iterable[TrainConfig]) -> Iterator[str | None]:
    """Of each why the digits have to stand in for its MNIST, None if they need not; asked for once, not once a job.

    Raises:
        UserError: if something is not on this machine without which it cannot be run.
    """
    reasons: dict[str, str | None] = {}
    for config in configs:
        check_surroundings(config)
        place = repr((config.data.root, config.data.mirrors)) if isinstance(config.data, MNISTData) else ""
        if place not in reasons:
            reasons[place] = missing_data(config)
        yield reasons[place]


def check_folders(jobs: Sequence[Job]) -> None:
    if len({job.folder for job in jobs}) < len(jobs):
        raise UserError(
            f"hydra.sweep.subdir={jobs[0].folder}: several jobs would write there; it should contain ${{hydra.job.num}}"
        )
