"""An installed package, docs/python.md and the notebook: what works without the checkout."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import mnist_lit
from mnist_lit.cli import main
from tests.configs import PROJECT
from tests.conftest import OFFLINE, TINY, exit_code
from tests.digits.picture_styles import STYLES

BLOCKS = "\n\n".join(re.findall(r"```python\n(.*?)```", (PROJECT / "docs/python.md").read_text("utf-8"), re.DOTALL))
NOTEBOOK = PROJECT / "examples" / "quickstart.ipynb"
SOURCES = ("mnist_lit", "hydra_plugins", "conf", "pyproject.toml", "README.md", "LICENSE")
Program = Callable[..., "subprocess.CompletedProcess[str]"]


def run_python(folder: Path, path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs Python in this folder. `path` is where it finds mnist_lit."""
    variables = OFFLINE | {"PYTHONPATH": str(path), "MPLBACKEND": "agg"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=os.environ | variables, capture_output=True, encoding="utf-8"
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed in."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "source").mkdir()
    for name in SOURCES:  # a copy, because setuptools writes beside the sources
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, folder / "source"]
    subprocess.run([*pip, *build], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", folder / "site", wheel], check=True)
    return folder / "site"


@pytest.fixture
def program(installed: Path, tmp_path: Path) -> Program:
    """Runs `python -m mnist_lit …` of the installed package in an empty folder."""
    return lambda *arguments: run_python(tmp_path, installed, "-m", "mnist_lit", *arguments)


def test_pyproject_lists_every_package() -> None:
    listed = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    found = [
        path.parent.relative_to(PROJECT).as_posix().replace("/", ".")
        for path in PROJECT.glob("mnist_lit/**/__init__.py")
    ]
    assert set(listed) == {*found, "mnist_lit.conf", "hydra_plugins"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["modle=cnn"], "error: modle: there is no such option; did you mean model?"),
        (["model=cn"], "error: model=cn: there is no such choice; did you mean cnn?"),
        (["optimizer.lr=-1"], "error: optimizer.lr=-1: should be greater than 0"),
        (["--config-dir", "mime"], "error: --config-dir mime: there is no such folder"),
        (["resume=nowhere"], "error: nowhere is not a run's folder"),
        (["-m", "model=cnn,mlp_500", "resume=x"], "error: resume=x: continues one run; leave out -m"),
        (["hydra.callbacks=null"], "error: hydra.callbacks=null: the command line cannot choose"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.slow
def test_a_wrong_option_of_mnist_lit_train_is_one_clear_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run_python(tmp_path, PROJECT, "-m", "mnist_lit", "train", *arguments)
    assert done.returncode == 1
    assert (done.stdout + done.stderr).startswith(message)
    assert len((done.stdout + done.stderr).splitlines()) == 1
    assert [*tmp_path.iterdir()] == []


def test_the_help_of_mnist_lit_names_train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["mnist-lit", "--help"])
    monkeypatch.setattr("mnist_lit.process.set_up_program", lambda: None)
    monkeypatch.setattr("mnist_lit.process.exit_quickly", lambda: None)
    assert exit_code(main) == 0
    assert "mnist-lit train model=cnn" in capsys.readouterr().out


@pytest.mark.slow
def test_the_installed_program_trains_resumes_and_names_itself(program: Program, tmp_path: Path) -> None:
    done = program("train", *TINY, "scheduler=none", "hydra.run.dir=outputs/runs/one")
    assert done.returncode == 0, done.stderr
    (run,) = mnist_lit.runs(tmp_path / "outputs")
    command = shlex.split(run.result["command"])
    assert command[1:] == ["python", "-m", "mnist_lit", "train", *TINY, "scheduler=none"]
    assert run.result["git_commit"] is None
    longer = program("train", "resume=outputs/runs/one", "trainer.max_epochs=3")
    assert longer.returncode == 0, longer.stderr
    assert "epoch 3/3" in longer.stdout
    pasted = subprocess.run(run.result["command"], shell=True, cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert pasted.returncode == 0, pasted.stderr
    assert len(mnist_lit.runs(tmp_path / "outputs")) == 2
    (tmp_path / "seven.jpg").write_bytes(STYLES["photo"](7, np.random.default_rng(7)))
    read = program("predict", "seven.jpg")
    assert read.stdout.split()[:2] == ["seven.jpg", "7"], read.stderr


@pytest.mark.slow
def test_the_installed_program_has_every_flag_and_group(program: Program, tmp_path: Path) -> None:
    (tmp_path / "mine" / "model").mkdir(parents=True)
    own = "_target_: mnist_lit.models.MLP\nhidden: [7]\n"
    (tmp_path / "mine" / "model" / "own.yaml").write_text(own, encoding="utf-8")
    helped = program("train", "--help")
    for group in (path.name for path in (PROJECT / "conf").iterdir() if path.is_dir() and path.name != "hydra"):
        assert f"\n{group}: " in helped.stdout
    assert "lr: 0.003" in program("train", "--cfg", "job", "optimizer.lr=0.003").stdout
    sweep = program("train", "--config-dir", "mine", "-m", *TINY, "model=own,mlp_128_64", "trainer.max_epochs=1")
    assert sweep.returncode == 0, sweep.stderr
    assert "2 jobs" in sweep.stdout
    again = re.search(r"repeat the best row  (.*)", sweep.stdout)
    assert again is not None
    assert "-m mnist_lit train --config-dir" in again[1]
    lesson = program("train", "sweep=width", "data=digits", "trainer.max_epochs=1", "seed=0", "callbacks=none")
    assert lesson.returncode == 0, lesson.stderr
    assert "Try next: python -m mnist_lit train sweep=linear_layers" in " ".join(lesson.stdout.split())
    relative = program("train", "--config-path", "mine", "--config-name", "model/own", "--cfg", "job")
    assert "hidden:\n  - 7" in relative.stdout
    wrong = program("train", "modle=cnn")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)


@pytest.mark.slow
def test_the_installed_package_says_how_to_install_an_extra(program: Program) -> None:
    done = program("train", "-m", "data=digits", "hydra/launcher=ray")
    assert done.returncode == 1
    assert done.stderr.endswith("Not installed: pip install 'mnist-lit[ray]'\n")


@pytest.mark.slow
@pytest.mark.parametrize("place", ["checkout", "installed"])
def test_the_blocks_of_the_python_page_work(request: pytest.FixtureRequest, tmp_path: Path, place: str) -> None:
    path = PROJECT if place == "checkout" else request.getfixturevalue("installed")
    where = "print(mnist_lit.__file__, mnist_lit.runs().rows()[0]['optimizer.lr'])"
    done = run_python(tmp_path, path, "-W", "error::UserWarning:__main__", "-c", f"{BLOCKS}\n{where}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{path / 'mnist_lit' / '__init__.py'} 0.003"
    assert "Predictions(" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("place", ["checkout", "installed"])
def test_the_notebook_works(
    request: pytest.FixtureRequest, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    path = PROJECT if place == "checkout" else request.getfixturevalue("installed")
    for name, value in (OFFLINE | {"PYTHONPATH": str(path)}).items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    texts = ["".join(output.get("text", "") for output in cell.outputs) for cell in code]
    assert "NOT MNIST" in texts[0]
    assert texts[0].count("test accuracy") == 1
    assert "optimizer" in texts[-1]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
