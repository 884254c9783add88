"""The program behind `train.py` and `mnist-lit train`: every mistake that Hydra finds becomes one clear message.
Imports no torch.

Hydra creates its own callbacks, launchers and log handlers by name before the config of a run can be checked. For some
mistakes on the command line it prints a traceback. This module handles both.
"""

import argparse
import os
import re
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import CompactHydraException, HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from mnist_lit import CONFIG_FOLDER
from mnist_lit.commands import to_hydra_value
from mnist_lit.errors import FULL_TRACEBACK, UserError, describe_disk_error, install_command
from mnist_lit.process import importing
from mnist_lit.run_folder import find_run

CODE_OVERRIDE = re.compile(
    r"^[+~]*hydra(=|[./](callbacks|job_logging|hydra_logging)|[./@][^=]*(_target_|=.*[{,]\W*_target_))"
)
# Options of other projects, and what there is instead.
INSTEAD = {
    **dict.fromkeys(("num_workers", "pin_memory"), "the data live on the device, so no workers load them"),
    **dict.fromkeys(
        ("ckpt_path", "resume_from_checkpoint"),
        "use resume=RUN, the folder of the run; init_from=RUN takes its weights alone",
    ),
    **dict.fromkeys(("val_check_interval", "check_val_every_n_epoch"), "a run validates after each epoch"),
    **dict.fromkeys(("epochs", "max_steps", "num_epochs"), "use trainer.max_epochs"),
    "gpus": "use trainer=gpu and trainer.devices",
    "shuffle": "each epoch has its own order, which the seed decides",
}
# Flags of Hydra that take the next word.
FLAGS_WITH_VALUE = re.compile(r"-c|-cp|-cn|-cd|-p|--(cfg|config-(path|name|dir)|package|experimental-rerun)")
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")  # may follow --info
# Options whose value is a text, whatever it looks like. A path may have `=`, commas and brackets in it.
PATHS = ("resume", "sweep.resume", "init_from", "hydra.run.dir", "hydra.sweep.dir")
TEXTS = (*PATHS, "sweep.study", "sweep.storage", "data.root", "data.folder", "data.name")
VARIABLE = re.compile(r"(?:^|(?<=[\[,(:]))\$\{oc\.env:\s*(\w+)\s*(?:,[^{}]*)?\}(?=$|[\]),])")
CONFIG_PATH = ("-cp", "--config-path")
COMPOSES_ONE = ("-c", "--cfg", "--info")  # Hydra shows the config of one run
QUOTED_LIST = r"""(["'])(\[[^"']*\])\1"""
DROPPED_IF_EMPTY = re.compile("(MNIST_LIT|MLFLOW|WANDB)_.*|OMP_NUM_THREADS")


def run_app() -> None:
    """Do what `sys.argv` says. Every error ends the program with one clear message and an exit code above 0."""
    drop_empty_variables()
    try:
        sys.argv[1:] = prepare_arguments(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
    for argument in sys.argv[1:]:
        if CODE_OVERRIDE.search(argument):
            sys.exit(f"error: {argument}: the command line cannot choose the code that Hydra runs")
    if (folder := _parse_arguments(sys.argv[1:]).config_dir) and not Path(folder).is_dir():
        sys.exit(f"error: --config-dir {folder}: there is no such folder")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its exceptions instead of printing them
    try:
        hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="train")(run_task)()
    except CompactHydraException as error:
        sys.exit("\n".join(_errors_in_arguments(sys.argv[1:]) or [format_error(error)]))
    except Exception as error:
        if FULL_TRACEBACK:
            raise
        if own_part := _traceback_from_job(error.__traceback__):
            traceback.print_exception(type(error), error, own_part)
            sys.exit(1)
        if reason := describe_disk_error(error):  # Hydra's own files in the run's folder
            sys.exit(f"error: {reason}. Repair the disk or free some space, then repeat the command")
        sys.exit(f"error: {error}\ngiven: {' '.join(sys.argv[1:])}")


def run_task(cfg: DictConfig) -> None:
    """Hydra's task function."""
    with importing():  # torch, once the config is known to be good
        from mnist_lit.training.job import run_job

    run_job(cfg)


def drop_empty_variables() -> None:
    """An empty variable is one that is not set: docker-compose sets such variables."""
    for name in [name for name, value in os.environ.items() if not value and DROPPED_IF_EMPTY.fullmatch(name)]:
        del os.environ[name]


def prepare_arguments(arguments: Sequence[str]) -> list[str]:
    """The arguments in a form that Hydra reads as they are meant. Hydra's flags come first."""
    flags, overrides = list[str](), list[str]()
    words = deque(_remove_outer_quotes(arguments))
    while words:
        word = words.popleft()
        if not word.startswith("-"):
            overrides.append(prepare_override(word))
        elif word in ("-i", "--info"):
            flags.append(f"--info={words.popleft() if words and words[0] in INFO else 'all'}")
        else:
            flag, _, path = word.partition("=")
            flags.append(f"{flag}={_to_absolute(path)}" if flag in CONFIG_PATH and path else word)
            if FLAGS_WITH_VALUE.fullmatch(word) and words:
                value = words.popleft()
                flags.append(_to_absolute(value) if word in CONFIG_PATH else value)
    composes_one = "hydra.mode=RUN" in overrides or any(flag.partition("=")[0] in COMPOSES_ONE for flag in flags)
    if composes_one:
        return [*flags, *overrides]
    own = _parse_arguments(flags).config_dir
    folders = [*([Path(own)] if own else []), CONFIG_FOLDER]
    return [*flags, *_keep_below_swept_groups(overrides, folders)]


def _to_absolute(config_path: str) -> str:
    """Hydra would look for a relative path beside this module."""
    return config_path if "://" in config_path else os.path.abspath(config_path)


def prepare_override(text: str) -> str:
    """Hydra's grammar would read some values as something else than what is meant, or as an error."""
    key, _, value = text.partition("=")
    name, parsed = key.lstrip("+"), parse_override(text)
    if not value or key.startswith("~"):
        return text
    if name == "init_from" and parsed is not None and isinstance(run := parsed.value(), str):
        text = f"{key}={to_hydra_value(str(find_run(run)))}"  # now: later `latest` would be the first job of a sweep
        parsed = parse_override(text)
    if name in PATHS and re.match("~(/|$)", value):  # a shell does not replace it behind `=`
        text = f"{key}={os.path.expanduser(value)}"
        key, _, value = text.partition("=")
        parsed = parse_override(text)
    if name in TEXTS:
        may_stay = parsed is not None and (
            isinstance(parsed.value(), str | None) or (name not in PATHS and parsed.is_sweep_override())
        )
        return text if may_stay else f"{key}={QuotedString(value, Quote.double).with_quotes()}"
    is_dict = parsed is not None and isinstance(parsed.value(), dict)  # options for the group, not a choice in it
    if name.isidentifier() and (CONFIG_FOLDER / name).is_dir() and not is_dict:
        key = name  # `+experiment=NAME`: the defaults have this group already
    value = VARIABLE.sub(_read_variable, value)  # OmegaConf gives the value of a variable as text, not as a number
    if re.fullmatch(f"(?:{QUOTED_LIST}(?:,|$))+", value):
        value = re.sub(QUOTED_LIST, r"\2", value)  # cmd.exe and PowerShell pass some quotes on
    return f"{key}={value}" if parse_override(f"{key}={value}") else text


def _remove_outer_quotes(arguments: Iterable[str]) -> Iterator[str]:
    """cmd.exe passes single quotes on, and splits what is between them."""
    open_words = list[str]()
    for word in arguments:
        open_words.append(word)
        start = open_words[0][:1]
        if start in ("'", '"') and not (word.endswith(start) and len(word) > 1):
            continue
        text = " ".join(open_words)
        yield text[1:-1] if start in ("'", '"') and "=" in text else text
        open_words = []
    yield from open_words


def _read_variable(match: re.Match[str]) -> str:
    """The value of a variable if it is a number, a truth value, null or a list; else the reference to it."""
    value = os.environ.get(match[1])
    parsed = parse_override(f"key={value}") if value else None
    return str(match[0]) if parsed is None or isinstance(parsed.value(), str) else str(value)


def _keep_below_swept_groups(overrides: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """`optimizer=sgd,rmsprop optimizer.momentum=0.5`: Hydra composes the config with the default optimizer first, which
    may not have the option. Written as `choice(0.5)`, the option is applied only when a job is composed, after its
    optimizer is chosen."""
    parsed = {text: parse_override(text) for text in overrides}
    swept = {it.key_or_group for it in parsed.values() if it and it.is_sweep_override()}
    for text in overrides:
        swept |= _groups_of_lesson(text.removeprefix("sweep="), folders) if text.startswith("sweep=") else set()

    def keep(text: str) -> str:
        key, _, value = text.partition("=")
        section, _, option = key.lstrip("+").partition(".")
        override = parsed[text]
        if not option or not override or override.is_sweep_override() or section in ("hydra", "sweep"):
            return text
        choice = f"{key}=choice({value})"
        return choice if swept.intersection((section, "experiment")) and parse_override(choice) else text

    return [keep(text) for text in overrides]


def _groups_of_lesson(name: str, folders: Sequence[Path]) -> set[str]:
    """What sweep/NAME.yaml in the first of these config folders that has it sweeps."""
    found = [path for folder in folders if (path := folder / "sweep" / f"{name}.yaml").is_file()]
    try:
        params = OmegaConf.select(OmegaConf.load(found[0]), "hydra.sweeper.params") if found else ()
    except (OSError, YAMLError):  # Hydra reports it
        return set()
    return set(map(str, params or ()))


def parse_override(text: str) -> Override | None:
    try:
        (override,) = OverridesParser.create().parse_overrides([text])
        override.value()
    except HydraException:
        return None
    return override


def composition_errors(compose: Callable[[list[str]], object], overrides: Sequence[str]) -> list[str]:
    """Every override that does not fit the config: one line each.

    Hydra stops at the first one. So this composes again without it until the rest composes.
    """
    rest, errors = list(overrides), list[str]()
    while True:
        try:
            compose(rest)
            return errors
        except (HydraException, OmegaConfBaseException) as error:
            bad = _override_of(error, rest)
            if bad is None:
                return errors
            errors.append(format_error(error))
            rest.remove(bad)


def unknown_option(error: Exception) -> str | None:
    """The message for an option that does not exist: similar and legal names. None if the error is another one.

    It replaces Hydra's advice to add a `+`, which only leads to the next error.
    """
    cause = error.__cause__
    if not (str(error).startswith("Could not override") and isinstance(cause, ConfigKeyError | ConfigAttributeError)):
        return None
    if not isinstance(cause.parent_node, DictConfig):
        return None
    parent, key = cause.parent_node, str(cause.key)
    legal = [str(name) for name in parent if name not in ("_target_", "name")]
    inner: list[str] = []
    if cause.full_key == key:  # at the top, where every option belongs to a section
        legal.append("experiment")  # not a key of a composed config
        inner = [f"{section}.{name}" for section in legal for name in _option_names(parent, section)]
    similar = [option for option in inner if option.endswith(key)] or get_close_matches(key, legal, n=1)
    hint = f"did you mean {' or '.join(similar)}? " if similar else ""
    if key in INSTEAD and not similar:
        hint = f"{INSTEAD[key]}; "
    return f"{cause.full_key}: there is no such option; {hint}legal: {', '.join(sorted(legal)) or 'none'}"


def _option_names(config: DictConfig, section: str) -> Iterator[str]:
    options = config.get(section)
    if isinstance(options, DictConfig) and section != "hydra":
        yield from map(str, options)


def _parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--config-name", "-cn", default="train")
    parser.add_argument("overrides", nargs="*")
    return parser.parse_known_args(arguments)[0]


def _errors_in_arguments(arguments: Sequence[str]) -> list[str]:
    given = _parse_arguments(arguments)
    own = [f"hydra.searchpath=['{Path(given.config_dir).absolute()}']"] if given.config_dir else []
    try:
        with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
            return composition_errors(lambda overrides: compose(given.config_name, [*own, *overrides]), given.overrides)
    except Exception:  # then Hydra's first error is the message
        return []


def _override_of(error: Exception, overrides: Sequence[str]) -> str | None:
    """The override that Hydra's error is about."""
    named = re.search(r"Could not (?:override|append to config|delete from config)[^']*'([^']+)'", str(error))
    choice = re.search(r"Could not (?:find|load) '([^']+)/([^'/]+)'", str(error))
    for text in overrides:
        if (override := parse_override(text)) is None:
            continue
        key = override.key_or_group
        if (named and key == named[1]) or (choice and (key, str(override.value())) == (choice[1], choice[2])):
            return text
    return None


def format_error(error: Exception) -> str:
    if unknown := unknown_option(error):
        return f"error: {unknown}"
    text = str(error)
    choice = re.search(r"Could not find '([^']+)/([^'/]+)'\n\nAvailable options in '\1':((?:\n\t.*)*)", text)
    if choice and not _missing_extra(text):
        legal = choice[3].split()
        near = get_close_matches(choice[2].lower(), legal, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"error: {choice[1]}={choice[2]}: there is no such choice; {hint}legal: {', '.join(legal)}"
    cause = f"\n{error.__cause__}" if isinstance(error.__cause__, OmegaConfBaseException) else ""
    return f"{text}{cause}{_missing_extra(text)}"


def _missing_extra(message: str) -> str:
    """What to install if Hydra does not find a launcher that a plugin provides."""
    missing = re.search(r"Could not (?:find|load) 'hydra/launcher/(joblib|ray|submitit)", message)
    return f"\nNot installed: {install_command(missing[1])}" if missing else ""


def _traceback_from_job(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins with our own job; None if no run had begun. It is then an error in a network
    or in this project."""
    while trace and trace.tb_frame.f_globals.get("__name__") != "mnist_lit.training.job":
        trace = trace.tb_next
    return trace
