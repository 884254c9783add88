"""result.json: what a run was and how it ended, written when it starts and again when it stops, however it stops."""

import json
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

import mnist_lit
from mnist_lit.durable import write_text
from mnist_lit.training.resume import recorded

RESULT = "result.json"
PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "torchmetrics", "tensorboard")


class RunPruned(Exception):
    """Given up by a search, because others are better at this point."""


class ResultFile:
    """`values` is what result.json holds; `save` writes it whole or not at all.

    A run that is `continued` keeps what it was started with, and adds the command that continues it to `resumed`."""

    def __init__(self, folder: Path, values: dict[str, Any], *, continued: bool = False) -> None:
        self.path = folder / RESULT
        before = recorded(folder) if continued else {}
        before.pop("error", None)
        self.values: dict[str, Any] = {"status": "running"} | before | values | {"status": "running"}
        if continued:
            self.values |= {name: before[name] for name in ("command", "choices") if name in before}
            self.values["resumed"] = [*before.get("resumed", []), values.get("command")]

    def update(self, **values: Any) -> None:
        self.values.update(values)
        self.save()

    @rank_zero_only
    def save(self) -> None:
        write_text(self.path, json.dumps(self.values, indent=2) + "\n")

    @contextmanager
    def status_recorded(self) -> Iterator[None]:
        """Within it, whatever ends the run is written down: completed, interrupted, pruned or failed, and why."""
        self.save()
        try:
            yield
        except (KeyboardInterrupt, SystemExit) as stop:
            self.update(status="interrupted", error=str(stop) or type(stop).__name__)
            raise
        except RunPruned as pruned:
            self.update(status="pruned", error=str(pruned))
            raise
        except BaseException as error:
            self.update(status="failed", error=f"{type(error).__name__}: {error}")
            raise
        self.update(status="completed")


def versions() -> dict[str, str]:
    return {
        "mnist-lit": mnist_lit.__version__,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def git_commit() -> str | None:
    """The commit of the project's checkout, with `-dirty` behind it if files differ; None outside a checkout."""
    command = [
        "git",
        "-C",
        str(Path(mnist_lit.__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
    ]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
