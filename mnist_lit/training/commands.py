"""What to type: to repeat a run, to go on with one or with a sweep. Imports no torch."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mnist_lit


def run_command(overrides: Sequence[str], hydra: Any) -> str:
    """The record of a run, for any machine; the files of conf/sweep/ would make many of it. `hydra` is its section of a
    config."""
    one = ["hydra.mode=RUN"] if any(text.startswith("sweep=") for text in overrides) else []
    return shlex.join(["python", "train.py", *own_configs(hydra), *overrides, *one])


def resume_command(folder: Path) -> str:
    return shlex.join(["python", train_py(), f"resume={_plain_or_quoted(folder)}"])


def resume_sweep_command(overrides: Sequence[str], hydra: Any, folder: Path) -> str:
    go_on = f"sweep.resume={_plain_or_quoted(folder)}"
    return shlex.join(["python", train_py(), *own_configs(hydra), "-m", *overrides, go_on])


def _plain_or_quoted(folder: Path) -> str:
    plain = all(character.isalnum() or character in "/._-" for character in str(folder))
    return str(folder) if plain else quoted(str(folder))


def quoted(text: str) -> str:
    """As a value that Hydra reads as this text, whatever is in it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


def own_configs(hydra: Any) -> list[str]:
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    return [word for folder in folders for word in ("--config-dir", folder)]


def train_py() -> str:
    """As it is found from this folder."""
    script = Path(mnist_lit.__file__).parent.parent / "train.py"
    return "train.py" if script.parent == Path.cwd() or not script.exists() else str(script)
