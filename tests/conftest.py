"""Shared fixtures: the real MNIST if it is available, training, `train.py`, a local mirror."""

import io
import json
import logging
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton

from mnist_lit import process
from mnist_lit.data.files import DataUnavailable, FileSet, ensure_files
from mnist_lit.run_folder import RESULT
from mnist_lit.training.run import train
from tests.configs import PROJECT, compose_config
from tests.mirror import Mirror

TINY = ["data=digits", "model=mlp_128_64", "trainer=cpu", "trainer.max_epochs=2"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OFFLINE = {"MNIST_LIT_MIRRORS": "http://127.0.0.1:9/", "MNIST_LIT_DATA": "nowhere"}  # this mirror cannot be reached


@dataclass(frozen=True)
class Run:
    folder: Path
    result: dict[str, Any]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """Trains in this process, on the embedded digits by default."""

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
        return json.loads((self.folder / RESULT).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def find_newest_run(folder: Path) -> Path:
    runs = sorted(folder.glob("outputs/runs/*"))
    return runs[-1] if runs else folder / "none"


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Outcome]:
    """Runs `python train.py …` as a user does, in an empty folder and without MNIST."""

    def start(*arguments: str, **variables: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, str(PROJECT / "train.py"), *arguments],
            cwd=tmp_path,
            env=os.environ | OFFLINE | variables,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=300,
        )
        return Outcome(done.returncode, done.stdout + done.stderr, find_newest_run(tmp_path))

    return start


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Outcome]:
    """Runs `train.py` like `command`, but in this process, which saves the time of the start."""
    return partial(run_script, tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on the embedded digits, for tests that do not change it."""
    done = run_script(tmp_path_factory.mktemp("finished"), *TINY, "hydra.run.dir=outputs/runs/run")
    assert done.code == 0, done.output
    return done.folder


@pytest.fixture
def finished_copy(finished: Path, tmp_path: Path) -> Path:
    """The same folder, for a test that changes it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def run_script(folder: Path, *arguments: str, **variables: str) -> Outcome:
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, unchanged_process(folder):
        patch.chdir(folder)
        patch.setattr(sys, "argv", [str(PROJECT / "train.py"), *arguments])
        patch.setattr(process, "set_signal_handler", lambda handler: None)
        patch.setattr(process, "exit_quickly", lambda: None)
        patch.setenv("HYDRA_FULL_ERROR", "0")  # train.py sets it, and the patch takes that back
        for name, value in (OFFLINE | variables).items():
            patch.setenv(name, value)
        if "PYTHONPATH" in variables:
            patch.syspath_prepend(folder / variables["PYTHONPATH"])
        with redirect_stdout(output), redirect_stderr(output):
            code = exit_code(lambda: runpy.run_path(sys.argv[0], run_name="__main__"))
    return Outcome(code, output.getvalue(), find_newest_run(folder))


def exit_code(program: Callable[[], object]) -> int:
    """The exit code that Python would end with. An error message is printed as Python prints it."""
    try:
        program()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            return 1
        return stop.code or 0
    return 0


@contextmanager
def unchanged_process(folder: Path) -> Iterator[None]:
    """Restores what a run changes in a process: log handlers, Hydra's singletons, and the modules of the folder."""
    root = logging.getLogger()
    handlers, level, singletons = list(root.handlers), root.level, dict(Singleton._instances)
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)  # forgets which levels are enabled; a new value of `level` does not
        Singleton._instances.clear()
        Singleton._instances.update(singletons)
        GlobalHydra.instance().clear()  # an error leaves it initialized
        for name, module in list(sys.modules.items()):
            if Path(getattr(module, "__file__", None) or "/").is_relative_to(folder):
                del sys.modules[name]


@pytest.fixture(params=["in process", pytest.param("command", marks=pytest.mark.slow)])
def train_py(request: pytest.FixtureRequest) -> Callable[..., Outcome]:
    """Runs `train.py` in this process in a quick test, and as a command in a slow one."""
    name = {"in process": "script", "command": "command"}[request.param]
    return request.getfixturevalue(name)  # type: ignore[no-any-return]


def launch(folder: Path, *arguments: str, code: str = "", **options: Any) -> "subprocess.Popen[str]":
    """Starts train.py, or `code` that runs it, and does not wait for its end."""
    return subprocess.Popen(
        [sys.executable, *(["-c", code] if code else []), str(PROJECT / "train.py"), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        **options,
    )


@pytest.fixture(scope="session")
def mnist_root(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the real MNIST, downloaded if necessary. Tests are skipped if MNIST is not available."""
    root = os.environ.get("MNIST_LIT_DATA") or str(tmp_path_factory.mktemp("mnist"))
    mirrors = os.environ.get("MNIST_LIT_MIRRORS")
    try:
        ensure_files(FileSet(root=root, mirrors=mirrors.split(",") if mirrors else None))
    except DataUnavailable as unavailable:
        pytest.skip(str(unavailable))
    return root


@pytest.fixture(scope="module")  # not longer: while it is open, other tests cannot start an event loop
def browser() -> Iterator[Any]:
    """Chromium, driven by playwright. Tests are skipped if one of them is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    if chromium is None:
        pytest.skip(f"no browser is installed ({', '.join(BROWSERS)})")
    with playwright.sync_playwright() as tools:
        opened = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def mirror() -> Iterator[Callable[[Path], Mirror]]:
    """Starts a mirror that serves a folder."""
    with ExitStack() as opened:
        yield lambda folder: opened.enter_context(Mirror(folder))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("markexpr") == "not slow":
        terminalreporter.write_line("These were the quick tests. Run the slow ones with: pytest -m slow")
