"""Names of runs: what a folder is called, and the short names that stand for it."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from mnist_lit.errors import UserError
from mnist_lit.run_folder import RESULT, find_run
from tests.configs import PROJECT
from tests.conftest import OFFLINE, TINY, Outcome

Script = Callable[..., Outcome]
TIME = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["data=digits", "model=mlp_128_64", "trainer=cpu"], "digits_mlp_128_64"),
        (["experiment=debug"], "digits_debug"),
        (["experiment=debug", "model=mlp_4x64", "seed=3"], "digits_debug_model-mlp_4x64_seed-3"),
        (
            ["data=digits", "model=mlp_500", "optimizer.lr=0.01", "model.hidden=[30,10]", "tags=[a]", "callbacks=none"],
            "digits_mlp_500_lr-0.01_hidden-30-10",
        ),
        (
            ["data=digits", "model=mlp_128_64", "data.augment={rotation: 10.0, shift: 2.0, scale: 0.1}"],
            "digits_mlp_128_64_augment-rotation",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_the_folder_says_what_the_run_is(overrides: list[str], name: str, script: Script, tmp_path: Path) -> None:
    done = script(*overrides, "trainer.fast_dev_run=true")
    assert done.code == 0, done.output
    (folder,) = (tmp_path / "outputs/runs").iterdir()
    assert re.fullmatch(rf"{TIME}_{re.escape(name)}.*", folder.name)
    assert len(folder.name) <= 56
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", folder.name)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, started, status in (
        ("outputs/runs/2026-01-01_10-00-00_mnist_cnn", "2026-01-01T10:00:00", "interrupted"),
        ("outputs/sweeps/2026-01-01_11-00-00/0_seed-0", "2026-01-01T11:00:01", "completed"),
        ("outputs/runs/2026-01-01_09-00-00_mnist_mlp_500", "2026-01-01T09:00:00", "completed"),
    ):
        Path(folder).mkdir(parents=True)
        (Path(folder) / RESULT).write_text(json.dumps({"started": started, "status": status}), encoding="utf-8")


@pytest.mark.usefixtures("runs")
def test_latest_is_the_run_that_was_started_last() -> None:
    assert find_run("latest") == Path("outputs/sweeps/2026-01-01_11-00-00/0_seed-0")
    assert find_run("latest", unfinished=True) == Path("outputs/runs/2026-01-01_10-00-00_mnist_cnn")


@pytest.mark.usefixtures("runs")
def test_latest_has_a_checkpoint_if_one_is_needed() -> None:
    """A job that diverged may have none."""
    best = Path("outputs/runs/2026-01-01_10-00-00_mnist_cnn/checkpoints/best.ckpt")
    best.parent.mkdir()
    best.touch()
    assert find_run("latest") == best.parent.parent


@pytest.mark.usefixtures("runs")
def test_a_name_that_ends_like_the_given_one_comes_first() -> None:
    longer = Path("outputs/runs/2026-01-01_12-00-00_mnist_cnn_softmax")
    longer.mkdir()
    (longer / RESULT).write_text("{}", encoding="utf-8")
    assert find_run("cnn").name == "2026-01-01_10-00-00_mnist_cnn"
    assert find_run("mnist_cnn").name == "2026-01-01_10-00-00_mnist_cnn"
    assert find_run("cnn_softmax") == longer


@pytest.mark.usefixtures("runs")
def test_a_part_of_a_name_stands_for_a_run_if_it_is_unique() -> None:
    assert find_run("mlp_500").name == "2026-01-01_09-00-00_mnist_mlp_500"
    assert find_run("2026-01-01_10-00-00").name == "2026-01-01_10-00-00_mnist_cnn"
    assert find_run("11-00-00/0_seed").name == "0_seed-0"
    assert find_run("outputs/sweeps") == Path("outputs/sweeps"), "a path that exists stands for itself"
    assert find_run("nothing") == Path("nothing")
    with pytest.raises(UserError, match="part of the names of 2 runs"):
        find_run("mnist")


def test_without_runs_there_is_no_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="latest: there is no unfinished run below outputs/"):
        find_run("latest", unfinished=True)


@pytest.mark.slow
def test_resume_and_init_from_take_short_names(script: Script, tmp_path: Path) -> None:
    assert script(*TINY, "model.hidden=[20]").code == 0
    (first,) = (tmp_path / "outputs/runs").iterdir()
    longer = script("resume=latest", "trainer.max_epochs=3")
    assert "no unfinished run" in longer.output, "the latest run is complete"
    done = script(*TINY, "model.hidden=[20]", "init_from=max_epochs-2")
    assert done.code == 0, done.output
    (_, second) = sorted((tmp_path / "outputs/runs").iterdir(), key=lambda folder: folder.stat().st_ctime)
    command = json.loads((second / RESULT).read_text(encoding="utf-8"))
    assert f"init_from=outputs/runs/{first.name}" in command["overrides"]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120])
def test_every_line_of_a_run_fits_the_terminal(columns: int, tmp_path: Path) -> None:
    """No path, number or command breaks."""
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    command = [sys.executable, str(PROJECT / "train.py"), "data=digits", "trainer.max_epochs=11", "model=mlp_500"]
    options = [
        "model.hidden=[300,100,50]",
        "optimizer.lr=0.00123",
        "data.batch_size=16",
        "seed=123",
        "trainer.print_every_n_steps=50",
    ]
    environment = os.environ | OFFLINE | {"TERM": "xterm", "COLUMNS": str(columns)}
    process = subprocess.Popen([*command, *options], cwd=tmp_path, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    output = b""
    while True:
        try:
            part = os.read(reader, 65536)
        except OSError:
            break
        if not part:
            break
        output += part
    assert process.wait() == 0, output.decode()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode())
    lines = [line for row in text.split("\n") for line in row.split("\r") if line.strip()]
    assert len(lines) > 40
    too_long = [line for line in lines if cell_len(line) > columns]
    assert too_long == []
    (folder,) = (tmp_path / "outputs/runs").iterdir()
    assert f"outputs/runs/{folder.name}" in text
    assert "tensorboard --logdir outputs/runs" in text


@pytest.mark.usefixtures("runs")
def test_a_name_stands_for_the_same_run_whether_it_is_complete_or_not() -> None:
    complete = Path("outputs/runs/2026-01-01_09-00-00_mnist_mlp_500")
    assert find_run("mlp_500", unfinished=True) == find_run("mlp_500") == complete
    longer = Path("outputs/runs/2026-01-01_12-00-00_mnist_mlp_500_tanh")
    longer.mkdir()
    (longer / RESULT).write_text('{"status": "interrupted"}', encoding="utf-8")
    assert find_run("mlp_500", unfinished=True) == complete


def test_a_name_that_no_file_can_have_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_run("x" * 5000) == Path("x" * 5000)
