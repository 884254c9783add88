"""Text that a person pastes into a shell: commands, values for Hydra, and folder names that need no quotes."""

import os
import re
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf

from mnist_lit import CHECKOUT, CONFIG_FOLDER
from mnist_lit.config.options import is_compared

RUN_AS_MODULE = ("mnist_lit", "__main__.py")  # the end of sys.argv[0]
LONGEST_NAME = 64  # characters
LONGEST_RUN_NAME = 36  # of these, behind the time


def run_command(overrides: Sequence[str], hydra: Any, data: Mapping[str, Any] | None = None) -> str:
    """The command that repeats a run. `hydra` and `data` are the sections of these names in a config."""
    lesson = any(text.startswith("sweep=") for text in overrides)  # a file in conf/sweep/ makes many runs
    options = [*config_options(hydra), *search_path(hydra), *overrides, *(["hydra.mode=RUN"] if lesson else [])]
    return format_command([*train_program(), *options], find_variables(overrides, data))


def resume_command(folder: Path) -> str:
    """The run has its own config, so neither options nor variables for the config are needed."""
    return format_command([*train_program(), f"resume={to_hydra_value(str(folder))}"], find_variables())


def resume_sweep_command(
    overrides: Sequence[str], hydra: Any, folder: Path, data: Mapping[str, Any] | None = None
) -> str:
    resume = f"sweep.resume={to_hydra_value(str(folder))}"
    options = [*config_options(hydra), "-m", *overrides, resume]
    return format_command([*train_program(), *options], find_variables(overrides, data))


def report_command(folder: Path) -> str:
    return format_command([*mnist_lit_program(), "report", str(folder), "--html", "page.html"], {})


def fetch_command(name: str, root: Path) -> str:
    return format_command([*mnist_lit_program(), "data", "fetch", name, "--root", str(root)], {})


def format_command(words: Iterable[str], variables: Mapping[str, str]) -> str:
    """A line for bash and zsh."""
    return " ".join([*(f"{name}={quote(value)}" for name, value in variables.items()), *map(quote, words)])


def quote(word: str) -> str:
    return f"'{word}'" if re.fullmatch(r"=[\w=.,/-]*", word, re.ASCII) else shlex.quote(word)  # zsh expands `=word`


def typed_overrides(hydra: Any, kind: str = "task") -> list[str]:
    """The overrides as they were typed. Reading them from the config puts values in the place of `${…}`."""
    texts: Any = OmegaConf.to_container(hydra.overrides[kind], resolve=False)
    return list(texts)


def config_options(hydra: Any) -> list[str]:
    """`--config-path`, `--config-dir` and `--config-name`, as far as they were given."""
    options = []
    for source in hydra.runtime.config_sources:
        path = os.path.abspath(source.path) if source.schema == "file" else f"{source.schema}://{source.path}"
        if source.provider == "main" and Path(path).resolve() != CONFIG_FOLDER:
            options += ["--config-path", path]
        elif source.provider == "command-line":
            options += ["--config-dir", path]
    return options if hydra.job.config_name == "train" else [*options, "--config-name", hydra.job.config_name]


def search_path(hydra: Any) -> list[str]:
    """`hydra.searchpath`, if it was given on the command line."""
    sources = [
        source for source in hydra.runtime.config_sources if source.provider == "hydra.searchpath in command-line"
    ]
    paths = [quote_for_hydra(f"{source.schema}://{source.path}") for source in sources]
    return [f"hydra.searchpath=[{','.join(paths)}]"] if paths else []


def find_variables(overrides: Iterable[str] = (), data: Mapping[str, Any] | None = None) -> dict[str, str]:
    """The variables of the environment that a run depends on: where its own classes are, where its data are, and those
    that its options name. Passwords are left out, and so are the URLs of databases, which may hold one."""
    options = [text for text in overrides if not text.startswith("sweep.")]
    names = [name for text in options for name in re.findall(r"\$\{oc\.env:\s*(\w+)", text)]
    names = [name for name in names if not re.search("key|token|secret|pass|credential", name, re.IGNORECASE)]
    names += [
        name
        for name, option in (("MNIST_LIT_DATA", "root"), ("MNIST_LIT_MIRRORS", "mirrors"))
        if data is not None and data.get(option) and os.environ.get(name) == data[option]
    ]
    variables = {name: os.environ[name] for name in names if os.environ.get(name)}
    own = os.pathsep.join(filter(holds_imported_module, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    return ({"PYTHONPATH": own} if own else {}) | variables


def holds_imported_module(folder: str) -> bool:
    """True for a folder in PYTHONPATH without which this program would not find a module that it has imported."""
    path = os.path.abspath(folder)
    found_anyway = [*sysconfig.get_paths().values(), *([str(CHECKOUT)] if CHECKOUT else [])]
    if not os.path.isdir(path) or path in found_anyway:
        return False
    for name in {entry.removesuffix(".py") for entry in os.listdir(path)}.intersection(sys.modules):
        module = sys.modules[name]
        places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
        if any(os.path.join(place, "").startswith(os.path.join(path, name)) for place in places):
            return True
    return False


def train_program() -> list[str]:
    """The interpreter and train.py, as they are called from the current folder; or `mnist-lit train`, if that is what
    the person has typed, or if there is no train.py."""
    if CHECKOUT is None or is_mnist_lit(sys.argv[0]):
        return [*mnist_lit_program(), "train"]
    return [find_python(), "train.py" if Path.cwd() == CHECKOUT else str(CHECKOUT / "train.py")]


def name_program(text: str) -> str:
    """Replaces `python train.py` in the text by the command that works here."""
    return text.replace("python train.py", format_command(train_program(), {}))


def mnist_lit_program() -> list[str]:
    by_module = Path(sys.argv[0]).parts[-2:] == RUN_AS_MODULE
    return ["mnist-lit"] if shutil.which("mnist-lit") and not by_module else [find_python(), "-m", "mnist_lit"]


def is_mnist_lit(program: str) -> bool:
    return Path(program).name == "mnist-lit" or Path(program).parts[-2:] == RUN_AS_MODULE


def find_python() -> str:
    """`python`, if this is the interpreter that runs now."""
    found = shutil.which("python")
    return "python" if found and Path(found).parent == Path(sys.executable).parent else sys.executable


def to_hydra_value(text: str) -> str:
    """The text as it is if Hydra reads it as this text, else in quotes."""
    try:
        (override,) = OverridesParser.create().parse_overrides([f"key={text}"])
    except HydraException:
        return quote_for_hydra(text)
    return text if override.value() == text and "${" not in text else quote_for_hydra(text)


def quote_for_hydra(text: str) -> str:
    """A value that Hydra and OmegaConf read as this text, whatever it contains. A line break becomes a space."""
    no_interpolation = re.sub(r"(\\*)\$\{", r"\1\1\\${", text.replace("\n", " "))
    return QuotedString(no_interpolation, Quote.double).with_quotes()


def folder_name(options: Iterable[tuple[str, str]], longest: int = LONGEST_NAME) -> str:
    """`lr-0.01_hidden-300-100` for the options (key, value), without the sections of the keys.

    No shell needs quotes for it: only letters, digits, `-`, `_` and `.`.
    """
    name = "_".join(f"{_to_plain(key.rpartition('.')[2])}-{_to_plain(value) or 'empty'}" for key, value in options)
    return name[:longest].strip("-_.")


def run_name(_root_: Any) -> str:
    """`mnist_cnn_lr-0.01` for a composed config: data, preset or model, and the options that were given.

    A path with it, `outputs/runs/TIME_NAME`, fits a line of 80 columns.
    """
    hydra, choices = _root_.hydra, _root_.hydra.runtime.choices
    unnamed = {"data", "experiment", "trainer", "logger", "callbacks", "init_from", "resume", "sweep"}
    if not choices.experiment:
        unnamed.add("model")
    options = [
        (it.key_or_group, str(it.input_line).partition("=")[2])
        for it in OverridesParser.create().parse_overrides(list(hydra.overrides.task))
        if it.key_or_group not in unnamed and is_compared(it.key_or_group)
    ]
    start = f"{_to_plain(_root_.data.name)}_{_to_plain(choices.experiment or choices.model)}"
    return "_".join(filter(None, (start, folder_name(options))))[:LONGEST_RUN_NAME].strip("-_.")


def _to_plain(text: str) -> str:
    text = re.sub(r"[][(){}'\"~+]", "", text).strip()  # `+` because 1e+09 is 1e09, but not 1e-09
    return re.sub(r"[^\w.-]+", "-", re.sub(r"[^\x00-\x7f]", "_", text))
