"""Locales that are not UTF-8: LC_ALL=C, cp1252, gbk."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.run_folder import LOG
from tests.configs import PROJECT
from tests.conftest import TINY, Outcome

Command = Callable[..., Outcome]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # Python alone would use UTF-8
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems set the locale in another way")


@linux
@pytest.mark.slow
@pytest.mark.parametrize("variables", [ASCII, {"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "gbk"}])
def test_a_run_its_log_and_its_report_are_whole_in_any_locale(
    command: Command, tmp_path: Path, variables: dict[str, str]
) -> None:
    done = command(*TINY, "trainer.profiler=simple", **variables)
    assert done.code == 0, done.output
    assert "test accuracy" in done.output
    log = (done.folder / LOG).read_text(encoding="utf-8")
    assert "╭" in log
    assert "1 × 1 × 28 × 28" in log
    report = [sys.executable, "-m", "mnist_lit", "report", "outputs", "--html", "page.html"]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)} | variables
    subprocess.run(report, cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not page.isascii()
    assert page.rstrip().endswith("</html>")


@linux
@pytest.mark.slow
def test_a_resumed_sweep_knows_letters_outside_ascii(command: Command, tmp_path: Path, mnist_root: str) -> None:
    (tmp_path / "données").symlink_to(mnist_root)
    jobs = ["model=mlp_128_64", "trainer=cpu", "trainer.max_epochs=1", "callbacks=none", 'data.root="données"']
    started = command("-m", *jobs, "seed=0,1", "hydra.sweep.dir=sweep")
    assert started.code == 0, started.output
    shutil.rmtree(next((tmp_path / "sweep").glob("1_*")))
    resumed = command("-m", *jobs, "seed=0,1", "sweep.resume=sweep", PYTHONIOENCODING="cp1252")
    assert resumed.code == 0, resumed.output


@linux
@pytest.mark.parametrize(
    "arguments",
    [[*TINY, 'hydra.run.dir="trénné"'], [*TINY[1:], 'data.root="données"'], ["-m", *TINY, 'hydra.sweep.dir="trénné"']],
)
@pytest.mark.slow
def test_letters_that_a_locale_lacks_are_one_clear_error(
    command: Command, tmp_path: Path, arguments: list[str]
) -> None:
    done = command(*arguments, **ASCII)
    assert done.code == 1
    assert "PYTHONUTF8=1" in done.output
    assert "Traceback" not in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_leaves_no_file(finished: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("the page of yesterday", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(os, "fsync", full)
        done = CliRunner().invoke(app, ["report", str(finished.parent), "--html", str(page)])
    assert "cannot be written: No space left on device" in str(done.exception)
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["the page of yesterday"]
