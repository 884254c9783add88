"""The Hydra callback that runs before Hydra makes a run's folder: it checks the config, gets the data, claims the
folder."""

import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from mnist_lit.commands import quote_for_hydra, run_name, to_hydra_value
from mnist_lit.config import IDXData, TrainConfig, parse_config
from mnist_lit.config.checks import KNOWN_SIZES, count_steps, size_problems
from mnist_lit.config.group_files import read_defaults
from mnist_lit.config.schema import DIGITS_MODULE
from mnist_lit.data.files import DataUnavailable, FileSet, count_images, ensure_files
from mnist_lit.errors import FULL_TRACEBACK, UserError, check_installed, describe_error
from mnist_lit.process import RunInterrupted, importing, raising_signals
from mnist_lit.run_folder import CHECKPOINTS, CONFIG, claim_folder, find_run, lock_folder, read_config
from mnist_lit.training.resume import NothingToDo, resumed_config

SWEEPERS = ("basic", "optuna")
AUTO = "auto"  # resume=auto
NO_LETTER = re.compile("[\ud800-\udfff]")  # how Python reads a byte that the locale's encoding does not have


OmegaConf.register_new_resolver("run_name", run_name, replace=True)  # for hydra.run.dir


class Preflight(Callback):
    """If anything is wrong, the program ends before it has written anything."""

    def on_run_start(self, config: DictConfig, config_name: str | None = None, **kwargs: Any) -> None:
        with exiting_on_error():
            self.lock = prepare_run(config)  # held until the process ends

    def on_multirun_start(self, config: DictConfig, config_name: str | None = None, **kwargs: Any) -> None:
        """The sweeper checks the jobs: it alone knows them."""
        with exiting_on_error():
            for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
                if override.key_or_group == "resume":
                    raise UserError(f"{override.input_line}: continues one run; leave out -m")
                if override.key_or_group == "sweep" and override.is_sweep_override():
                    raise UserError(f"{override.input_line}: one at a time; each of them is several runs")
                if override.key_or_group.startswith("sweep.") and override.is_sweep_override():
                    raise UserError(f"{override.input_line}: takes one value; a list is written in brackets, [a,b]")
            check_working_folder(config)
            check_letters(config, config.sweep.resume or config.hydra.sweep.dir)
            sweeper = config.hydra.runtime.choices["hydra/sweeper"]
            if sweeper not in SWEEPERS:
                raise UserError(f"hydra/sweeper={sweeper}: should be one of {', '.join(SWEEPERS)}")
            if config.hydra.sweeper.get("max_batch_size") is not None:
                raise UserError("hydra.sweeper.max_batch_size: jobs do not run in batches; leave it out")
            if sweeper == "optuna":
                check_installed("optuna", "hydra/sweeper=optuna")


def prepare_run(config: DictConfig) -> AbstractContextManager[object]:
    """Check a composed config, get the data and claim the folder, which the config then names. Returns the lock of a
    run that is resumed.

    Raises:
        UserError: naming what is wrong. Nothing has been written then.
        NothingToDo: if a run that is to be resumed is complete.
    """
    check_working_folder(config)
    if given := [text for text in config.hydra.overrides.task if text.startswith("sweep.")]:
        raise UserError(f"{given[0]}: is an option of many runs; add -m")
    if config.get("resume") == AUTO:
        set_resume(config)
    check_letters(config, config.resume or config.hydra.run.dir)
    if config.resume is not None:
        return prepare_resumption(config)
    checked = check_composed(config)
    check_machine(checked, config)
    if reason := get_data(checked):
        with read_write(config), open_dict(config):
            config.data = compose_digits(checked, config, reason)
    with read_write(config.hydra.run):
        config.hydra.run.dir = claim_folder(
            config.hydra.run.dir, chosen_by_user(config, "hydra.run.dir"), "hydra.run.dir"
        )
    return nullcontext()


def check_working_folder(config: DictConfig) -> None:
    if config.hydra.job.chdir:
        raise UserError("hydra.job.chdir=true: does not work here, because relative paths would change")


def check_values(config: DictConfig) -> TrainConfig:
    """The config of a run without Hydra's own part: names and ranges. Raises UserError."""
    return parse_config(_values(config))


def check_composed(config: DictConfig) -> TrainConfig:
    """The same for a config that was just composed, with types. Raises UserError."""
    return parse_config(_values(config), _defaults(config))


def check_machine(checked: TrainConfig, config: DictConfig) -> None:
    """What this machine has to answer: packages, the accelerator, the classes. Raises UserError."""
    for extra in ("mlflow", "wandb"):
        if getattr(checked.logger, extra):
            check_installed(extra, f"logger.{extra}=true")
    with importing():
        from mnist_lit.class_checks import check_classes
        from mnist_lit.training.devices import check_accelerator
        from mnist_lit.training.loggers import check_servers
    check_servers(checked.logger)
    check_accelerator(checked.trainer.accelerator, checked.trainer.devices, checked.trainer.precision)
    check_classes(checked, partial(_defaults, config))


def get_data(checked: TrainConfig) -> str | None:
    """`check_data`. Returns why the digits have to replace MNIST; None if they need not.

    Raises:
        DataUnavailable: if they may not.
        UserError: if the data cannot be used.
    """
    try:
        check_data(checked)
    except DataUnavailable as unavailable:
        if not (isinstance(checked.data, IDXData) and checked.data.fallback):
            raise DataUnavailable(
                f"{unavailable}\nWithout a download: data=digits trains on scikit-learn's 1,797 small digits"
            ) from unavailable
        return str(unavailable)
    return None


def check_data(checked: TrainConfig) -> None:
    """Download and check the data, and try the schedule over all steps of the run. Raises UserError."""
    from mnist_lit.build import build_data, is_from_outside
    from mnist_lit.training.schedulers import check_schedule

    if is_from_outside(checked.data):
        check_schedule(checked, build_data(checked, keep=True).steps_per_epoch)
        return
    images = KNOWN_SIZES[DIGITS_MODULE]
    if isinstance(checked.data, IDXData):
        files = FileSet.from_options(checked.data.options)
        with raising_signals():
            ensure_files(files)
        images = count_images(files)
        if problems := [*size_problems(checked.model_dump(by_alias=True), images)]:
            raise UserError("\n".join(problems))
    check_schedule(checked, count_steps(checked, images[0]))


def check_letters(config: DictConfig, folder: str) -> None:
    """Raises UserError if the locale lacks letters of an option. TensorBoard writes only to paths in UTF-8."""
    texts, path = [*config.hydra.overrides.task, *config.hydra.overrides.hydra], os.path.abspath(str(folder))
    encoding = sys.getfilesystemencoding()
    bad = [text for text in texts if NO_LETTER.search(text)]
    if NO_LETTER.search(path) or not (path.isascii() or encoding == "utf-8"):
        bad = [*bad, path]
    if bad:
        raise UserError(
            f"{bad[0]}: these characters need UTF-8, but the encoding of this locale is {encoding}. "
            "Use ASCII characters only, or set PYTHONUTF8=1 in the environment"
        )


def set_resume(config: DictConfig) -> None:
    """Replace `resume=auto` by the chosen folder if it holds a run, and by nothing otherwise."""
    if not chosen_by_user(config, "hydra.run.dir"):
        raise UserError(f"resume={AUTO}: continues the run in a folder that you name; add hydra.run.dir=FOLDER")
    folder = str(config.hydra.run.dir)
    found = (Path(folder) / CONFIG).exists()
    with read_write(config), open_dict(config):
        config.resume = folder if found else None
    overrides = config.hydra.overrides
    task = [text for text in overrides.task if text.lstrip("+") != f"resume={AUTO}"]
    with read_write(overrides):
        overrides.task = task
        if found:
            if getattr(read_config(Path(folder)).data, "fallback_reason", None):  # the same command, now without MNIST
                task = without_mnist(task)
            overrides.task = [*task, f"resume={to_hydra_value(folder)}"]
            overrides.hydra = [text for text in overrides.hydra if not text.lstrip("+").startswith("hydra.run.dir=")]


def prepare_resumption(config: DictConfig) -> AbstractContextManager[object]:
    """Replace the composed config by the run's own, and the new folder by the run's own, which is now locked.

    Raises:
        UserError: naming what is wrong.
        NothingToDo: if the run is complete.
    """
    folder = find_run(str(config.resume), unfinished=True)
    if chosen_by_user(config, "hydra.run.dir"):
        raise UserError(f"resume={folder}: a resumed run stays in its folder; leave out hydra.run.dir")
    checked = resumed_config(folder, list(config.hydra.overrides.task), _values(config))
    with ExitStack() as stack:
        stack.enter_context(lock_folder(folder))
        has_weights = (folder / CHECKPOINTS).exists()  # then it no longer needs the run that init_from names
        check_machine(checked.model_copy(update={"init_from": None}) if has_weights else checked, config)
        check_data(checked)
        lock = stack.pop_all()  # after an error, nothing holds the lock
    with read_write(config), open_dict(config):
        config.update(checked.model_dump(by_alias=True))
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.run.dir = str(folder)
        config.hydra.output_subdir = None  # .hydra/ keeps the overrides that the run was started with
    return lock


def compose_digits(checked: TrainConfig, config: DictConfig, reason: str) -> DictConfig:
    overrides = overrides_for_digits(config.hydra.overrides.task, reason)
    digits = GlobalHydra.instance().config_loader().load_sweep_config(config, overrides).data
    try:
        data = OmegaConf.to_container(digits, resolve=True)
        check_data(parse_config(checked.model_dump(by_alias=True) | {"data": data}))
    except UserError as error:
        raise UserError(f"{reason}\nThe run would use data=digits instead, but {error}") from error
    return digits


def overrides_for_digits(overrides: Sequence[str], reason: str) -> list[str]:
    return [*without_mnist(overrides), "data=digits", f"data.fallback_reason={quote_for_hydra(reason)}"]


def without_mnist(overrides: Sequence[str]) -> list[str]:
    """The overrides without what they say about MNIST; the batch size stays."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [str(override.input_line) for override in parsed if not is_about_mnist(override.key_or_group)]


def is_about_mnist(key: str) -> bool:
    return key == "data" or (key.startswith("data.") and key != "data.batch_size")


def chosen_by_user(config: DictConfig, key: str) -> bool:
    return any(override.lstrip("+").startswith(f"{key}=") for override in config.hydra.overrides.hydra)


@contextmanager
def exiting_on_error() -> Iterator[None]:
    """Hydra turns the exceptions of a callback into warnings and continues. Here they end the program."""
    try:
        with raising_user_errors():
            yield
    except NothingToDo as complete:
        print(complete)
        sys.exit(0)
    except UserError as error:
        sys.exit(f"error: {error}")


@contextmanager
def raising_user_errors() -> Iterator[None]:
    """Errors of Hydra, and of a data set from outside, which can raise anything, become a UserError."""
    try:
        yield
    except (NothingToDo, UserError, RunInterrupted):
        raise
    except (OmegaConfBaseException, HydraException) as error:
        raise UserError(str(error)) from error
    except (Exception, SystemExit) as error:
        if FULL_TRACEBACK:
            traceback.print_exc()
        raise UserError(describe_error(error)) from error


def _defaults(config: DictConfig) -> dict[str, dict[str, Any]]:
    folders = ",".join(map(quote_for_hydra, config.hydra.searchpath))
    search_path = [f"hydra.searchpath=[{folders}]"] if folders else []
    return read_defaults(config.hydra.runtime.choices, GlobalHydra.instance().config_loader(), search_path)


def _values(config: DictConfig) -> dict[str, Any]:
    try:
        return {str(key): _resolve(config, str(key)) for key in config if key not in ("hydra", "resume", "sweep")}
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from error


def _resolve(config: DictConfig, key: str) -> Any:
    value = config[key]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
