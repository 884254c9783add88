"""What happens before Hydra makes a run's folder: check the config, get the data, claim the folder. No torch here."""

import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from mnist_lit.config import MNISTData, OwnModel, TrainConfig, parse_config
from mnist_lit.data.files import MNISTUnavailable, ensure_mnist
from mnist_lit.errors import UserError
from mnist_lit.extras import check_installed
from mnist_lit.front_door import TRACEBACKS_WANTED
from mnist_lit.signals import cleaning_up
from mnist_lit.training.commands import quoted
from mnist_lit.training.loggers import check_extras
from mnist_lit.training.resume import NothingToDo, hold, resumed_config

TRACES_OF_A_RUN = ("result.json", "config.yaml", "checkpoints", "metrics.csv", "sweep.yaml")
SWEEPERS = ("basic", "optuna")


class Preflight(Callback):
    """A Hydra callback; whatever it objects to ends the program before anything has been written."""

    def on_run_start(self, config: DictConfig, config_name: str | None = None, **kwargs: Any) -> None:
        with error_ends_program():
            if config.hydra.job.chdir:
                raise UserError("hydra.job.chdir=true: a run writes into its folder as it is; paths would not be found")
            if given := [text for text in config.hydra.overrides.task if text.startswith("sweep.")]:
                raise UserError(f"{given[0]}: is an option of many runs; add -m")
            if config.get("resume") is not None:
                self.lock = prepare_resumption(config)  # held until the process ends
                return
            checked = checked_config(config)
            check_surroundings(checked)
            _ = config.hydra.run.dir  # cannot it be resolved, that is said before anything is downloaded
            if reason := missing_data(checked):
                with read_write(config), open_dict(config):
                    config.data = digits_instead(checked, config, config_name, reason)
            with read_write(config.hydra.run):
                config.hydra.run.dir = claim_folder(config.hydra.run.dir, chosen_by_user(config, "hydra.run.dir"))

    def on_multirun_start(self, config: DictConfig, config_name: str | None = None, **kwargs: Any) -> None:
        """The jobs are checked by the sweeper, which alone knows them."""
        with error_ends_program():
            for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
                if override.key_or_group == "resume":
                    raise UserError(f"{override.input_line}: goes on with one run; leave out -m")
                if override.key_or_group == "sweep" and override.is_sweep_override():
                    raise UserError(f"{override.input_line}: one at a time; each makes several runs of its own")
            sweeper = config.hydra.runtime.choices["hydra/sweeper"]
            if sweeper not in SWEEPERS:
                raise UserError(f"hydra/sweeper={sweeper}: should be one of {', '.join(SWEEPERS)}")
            if sweeper == "optuna":
                check_installed("optuna", "hydra/sweeper=optuna")


def checked_config(config: DictConfig) -> TrainConfig:
    """The config of a run without Hydra's own part, resolved and checked.

    Raises:
        UserError: naming every option that is wrong.
    """
    return parse_config(_values(config))


def prepare_resumption(config: DictConfig) -> AbstractContextManager[object]:
    """Put a run's own config in the place of the composed one, and its folder, now locked, in the place of a new one.

    Raises:
        UserError: naming what stands in the way.
        NothingToDo: if the run is complete.
    """
    folder = Path(str(config.resume))
    if chosen_by_user(config, "hydra.run.dir"):
        raise UserError(f"resume={folder}: a resumed run stays in its folder; leave out hydra.run.dir")
    checked = resumed_config(folder, list(config.hydra.overrides.task), _values(config))
    lock = hold(folder)
    check_surroundings(checked)
    if isinstance(checked.data, MNISTData):
        _get_mnist(checked.data)
    with read_write(config), open_dict(config):
        config.update(checked.model_dump(by_alias=True))
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra.run.dir = str(folder)
        config.hydra.output_subdir = None  # .hydra/ keeps the overrides that the run was started with
    return lock


def check_surroundings(config: TrainConfig) -> None:
    """What only this machine can answer: is the accelerator there, does a network from outside the package exist."""
    check_extras(config.logger)
    if config.trainer.accelerator in ("gpu", "mps") or config.trainer.precision == "16-mixed":
        from mnist_lit.training.devices import check_accelerator

        check_accelerator(config.trainer.accelerator, config.trainer.devices, config.trainer.precision)
    if isinstance(config.model, OwnModel):
        from mnist_lit.training.networks import check_network

        check_network(config.model.target, config.model.options())


def missing_data(checked: TrainConfig) -> str | None:
    """Get MNIST, if that is what was asked for; why the digits have to stand in for it, None if they need not.

    Raises:
        MNISTUnavailable: if they may not.
    """
    if isinstance(checked.data, MNISTData):
        try:
            _get_mnist(checked.data)
        except MNISTUnavailable as unavailable:
            if checked.data.fallback is None:
                raise
            return str(unavailable)
    return None


def digits_instead(checked: TrainConfig, config: DictConfig, config_name: str | None, reason: str) -> DictConfig:
    loader = GlobalHydra.instance().config_loader()
    overrides = overrides_for_digits(config.hydra.overrides.task, reason)
    digits = loader.load_configuration(config_name, overrides, RunMode.RUN).data
    try:
        parse_config(checked.model_dump(by_alias=True) | {"data": OmegaConf.to_container(digits, resolve=True)})
    except UserError as error:
        raise UserError(f"{reason}\nThe run would take data=digits instead, but {error}") from error
    return digits


def claim_folder(wanted: str, chosen: bool) -> str:
    """Make the folder and return its path: `wanted`, or with a number behind it if another run has just taken that.

    Raises:
        UserError: if it cannot be written, or the user chose a folder that holds a run already.
    """
    path, number = Path(wanted), 1
    try:
        if chosen:
            if taken := [name for name in TRACES_OF_A_RUN if (path / name).exists()]:
                go_on = f"{'sweep.resume' if 'sweep.yaml' in taken else 'resume'}={path}"
                raise UserError(
                    f"{path} holds a run already ({', '.join(taken)}). Name another folder, or go on with {go_on}"
                )
            path.mkdir(parents=True, exist_ok=True)
            (path / ".writable").touch()
            (path / ".writable").unlink()
            return str(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
                path = Path(f"{wanted}_{number}")
            else:
                return str(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror or error}. Name another folder with hydra.run.dir=FOLDER"
        ) from error


def _get_mnist(data: MNISTData) -> None:
    with cleaning_up():
        ensure_mnist(data.root, data.mirrors)


def _values(config: DictConfig) -> dict[str, Any]:
    try:
        return {str(key): _resolved(config, str(key)) for key in config if key not in ("hydra", "resume", "sweep")}
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from error


def _resolved(config: DictConfig, key: str) -> Any:
    value = config[key]
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def chosen_by_user(config: DictConfig, key: str) -> bool:
    return any(override.lstrip("+").startswith(f"{key}=") for override in config.hydra.overrides.hydra)


def overrides_for_digits(overrides: Sequence[str], reason: str) -> list[str]:
    """The overrides, with data=digits for whatever they say of data that only MNIST has."""
    kept = [
        str(override.input_line)
        for override in OverridesParser.create().parse_overrides(list(overrides))
        if override.key_or_group != "data"
        and not (override.key_or_group.startswith("data.") and override.key_or_group != "data.batch_size")
    ]
    return [*kept, "data=digits", f"data.fallback_reason={quoted(reason)}"]


@contextmanager
def error_ends_program() -> Iterator[None]:
    """Hydra turns a callback's exceptions into warnings and goes on; these must stop it."""
    try:
        yield
    except NothingToDo as complete:
        print(complete)
        sys.exit(0)
    except (UserError, OmegaConfBaseException, HydraException) as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        if TRACEBACKS_WANTED:
            traceback.print_exc()
        sys.exit(f"error: {type(error).__name__}: {error}")
