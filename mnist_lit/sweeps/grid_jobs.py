"""The jobs of a grid. All of them are composed and checked before the first one starts."""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from mnist_lit.commands import LONGEST_NAME, folder_name
from mnist_lit.config import IDXData, TrainConfig
from mnist_lit.errors import UserError
from mnist_lit.hydra_app import composition_errors
from mnist_lit.preflight import check_composed, check_machine, get_data, is_about_mnist, overrides_for_digits


@dataclass(frozen=True)
class Job:
    """`options` are those in which the jobs differ: (key, value). `folder` is relative to the folder of the sweep.
    `config` is what the overrides mean when the sweep begins; a checked job has it."""

    number: int
    overrides: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()
    folder: str = ""
    config: TrainConfig | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        return format_options(self.options)


def plan_grid(config: DictConfig, context: HydraContext, arguments: Sequence[str]) -> list[Job]:
    """All combinations of the choices in `arguments`. Downloads MNIST if a job needs it.

    Raises:
        UserError: with everything that is wrong in any job, or with what this machine lacks.
    """
    jobs = check_jobs(config, context, expand_grid(context, arguments))
    reasons = find_missing_mnist(jobs)
    if reason := next(filter(None, reasons), None):
        if swept := [key for key, _ in jobs[0].options if is_about_mnist(key.lstrip("+"))]:
            raise UserError(f"{reason}\n{swept[0]}: cannot be varied on the digits that would replace MNIST")
        jobs = check_jobs(config, context, map(use_digits, jobs, reasons))
        find_missing_mnist(jobs)  # none is missing now, but a schedule may not fit the digits
    if len({job.folder for job in jobs}) < len(jobs):
        raise UserError(
            f"hydra.sweep.subdir={jobs[0].folder}: several jobs would use this folder; add ${{hydra.job.num}}"
        )
    return jobs


def expand_grid(context: HydraContext, arguments: Sequence[str]) -> list[Job]:
    parsed = OverridesParser.create(context.config_loader).parse_overrides(list(arguments))
    overrides = {override.get_key_element(): override for override in parsed}  # the last one of a key counts
    jobs = []
    for number, texts in enumerate(product(*map(list_choices, overrides.values()))):
        values = {key: text.partition("=")[2] for key, text in zip(overrides, texts, strict=True)}
        options = tuple((key, values[key]) for key, override in overrides.items() if not fixed_text(override))
        jobs.append(Job(number, texts, options))
    return jobs


def fixed_text(override: Override) -> str | None:
    """The override that all jobs have; None if they differ in it. `key=choice(VALUE)` is `key=VALUE`."""
    text = str(override.input_line)
    if not override.is_sweep_override():
        return text
    value = override.value()
    is_single = isinstance(value, ChoiceSweep) and len(value.list) == 1
    found = re.fullmatch(r"([^=]+=)choice\((.+)\)", text)
    return found[1] + found[2] if is_single and found else None


def list_choices(override: Override) -> list[str]:
    """One override for each value."""
    if fixed := fixed_text(override):
        return [fixed]
    if not override.is_discrete_sweep():
        raise UserError(f"{override.input_line}: a grid cannot list an interval; search it with hydra/sweeper=optuna")
    values = [f"{override.get_key_element()}={value}" for value in list_values(override)]
    if not values:
        raise UserError(f"{override.input_line}: there are no values to choose from")
    return values


def list_values(override: Override) -> list[str]:
    """The values of a sweep. `shuffle` gives the same order in each process, so that the sweep can be resumed."""
    state = random.getstate()
    random.seed(0)
    try:
        return list(override.sweep_string_iterator())
    finally:
        random.setstate(state)


def check_jobs(config: DictConfig, context: HydraContext, jobs: Iterable[Job]) -> list[Job]:
    """The jobs with their folders and their configs.

    Raises:
        UserError: with everything that is wrong in any job. An error of several jobs appears once.
    """
    compose = partial(context.config_loader.load_sweep_config, config)
    checked, errors = [], list[str]()
    for job in jobs:
        try:
            composed = compose(list(job.overrides))
            name_job(composed, job.number, job.options)
            run = check_composed(composed)
            if run.trainer.fast_dev_run:
                raise UserError("trainer.fast_dev_run=true: tries one run; leave out -m")
            checked.append((replace(job, folder=str(composed.hydra.sweep.subdir), config=run), run, composed))
        except UserError as error:
            errors += str(error).splitlines()
        except (HydraException, OmegaConfBaseException) as error:
            errors += composition_errors(compose, job.overrides) or [str(error)]
    for _, run, composed in checked if not errors else ():
        try:
            check_machine(run, composed)
        except UserError as error:
            errors += str(error).splitlines()
    if errors:
        raise UserError("\n".join(dict.fromkeys(text.removeprefix("error: ") for text in errors)))
    return [job for job, _, _ in checked]


def name_job(composed: DictConfig, number: int, options: Sequence[tuple[str, str]]) -> None:
    """Set the two values from which Hydra builds the name of the job's folder. TensorBoard shows the same name."""
    naming = composed.hydra.job.config.override_dirname
    if (naming.kv_sep, naming.item_sep) != ("=", ","):
        raise UserError(
            "hydra.job.config.override_dirname: only exclude_keys can be set. The separators are fixed, so that folder "
            "names need no quotes in a shell"
        )
    options = [option for option in options if option[0].lstrip("+") not in naming.exclude_keys]
    options = options or [("model", composed.hydra.runtime.choices.model)]
    with open_dict(composed):
        composed.hydra.job.num = number
        composed.hydra.job.override_dirname = folder_name(options, LONGEST_NAME - len(f"{number}_"))


def format_options(options: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"{key}={value}" for key, value in options)


def find_missing_mnist(jobs: Iterable[Job]) -> list[str | None]:
    """For each checked job: why it has to use the digits instead of MNIST; None if it can be trained as it is.

    Raises:
        UserError: if other data is missing, or if the data cannot be used.
    """
    reasons: dict[str, str | None] = {}  # each source of MNIST that is missing is tried once
    places = []
    for config in configs_of(jobs):
        data, place = config.data, repr((config.data, config.trainer, config.scheduler, config.optimizer))
        if isinstance(data, IDXData):
            place = repr((data.name, data.root, data.folder, data.mirrors, data.files))
        places.append(place)
        is_checked = place in reasons and (reasons[place] is not None or not isinstance(data, IDXData))
        if not is_checked:  # jobs may split the same files in different ways
            reasons[place] = get_data(config)
    return [reasons[place] for place in places]


def configs_of(jobs: Iterable[Job]) -> list[TrainConfig]:
    return [job.config for job in jobs if job.config]


def use_digits(job: Job, reason: str | None) -> Job:
    return replace(job, overrides=tuple(overrides_for_digits(job.overrides, reason))) if reason else job
