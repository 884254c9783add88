"""What tests share: the real MNIST where it is to be had, real runs through `train.py`, a loopback mirror."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mirror import Mirror
from benchmarks.product import config_of as compose_config
from mnist_lit.data.files import MNISTUnavailable, ensure_mnist
from mnist_lit.training.run import train

PROJECT = Path(__file__).parent.parent
TINY = ["data=digits", "model=mlp_128_64", "trainer=cpu", "trainer.max_epochs=2"]


@dataclass(frozen=True)
class Run:
    folder: Path
    result: dict[str, Any]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Trains in this process, on the embedded digits unless told otherwise."""

    def start(*overrides: str, name: str = "run") -> Run:
        folder = tmp_path / name
        folder.mkdir()
        return Run(folder, train(compose_config(*TINY, *overrides), folder, {"command": "python train.py"}))

    return start


@dataclass(frozen=True)
class Outcome:
    code: int
    output: str
    folder: Path

    @property
    def result(self) -> dict[str, Any]:
        return json.loads((self.folder / "result.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Outcome]:
    """`python train.py …` as a person types it, from an empty folder, with no mirror but a dead one."""

    def start(*arguments: str, **variables: str) -> Outcome:
        environment = os.environ | {"MNIST_LIT_MIRRORS": "http://127.0.0.1:9/", "MNIST_LIT_DATA": "nowhere"} | variables
        done = subprocess.run(
            [sys.executable, str(PROJECT / "train.py"), *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        runs = sorted(tmp_path.glob("outputs/runs/*"))
        return Outcome(done.returncode, done.stdout + done.stderr, runs[-1] if runs else tmp_path / "none")

    return start


def launch(folder: Path, *arguments: str, code: str = "", **options: Any) -> "subprocess.Popen[str]":
    """Starts train.py, or `code` that runs it."""
    return subprocess.Popen(
        [sys.executable, *(["-c", code] if code else []), str(PROJECT / "train.py"), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


@pytest.fixture(scope="session")
def mnist_root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the real MNIST, downloaded if need be; the test is skipped where it cannot be had."""
    root = os.environ.get("MNIST_LIT_DATA") or str(tmp_path_factory.mktemp("mnist"))
    mirrors = os.environ.get("MNIST_LIT_MIRRORS")
    try:
        ensure_mnist(root, mirrors.split(",") if mirrors else None)
    except MNISTUnavailable as unavailable:
        pytest.skip(str(unavailable))
    return root


@pytest.fixture
def mirror() -> Iterator[Callable[[Path], Mirror]]:
    with ExitStack() as opened:
        yield lambda folder: opened.enter_context(Mirror(folder))
