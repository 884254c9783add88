"""Grids: every job is checked before the first, ends by itself, is told of at once, is run again if it has to."""

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext

from mnist_lit.errors import UserError
from mnist_lit.sweeps.plan import Job, plan_grid
from mnist_lit.training.checkpoints import load_classifier, weights_digest
from tests.conftest import PROJECT, TINY, Outcome, Run

Command = Callable[..., Outcome]
QUICK = ["data=digits", "model=mlp_128_64", "trainer=cpu", "callbacks=none", "logger.tensorboard=false"]


def plan(*arguments: str) -> list[Job]:
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        config = compose("train", ["hydra.mode=MULTIRUN"], return_hydra_config=True)
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
        return plan_grid(config, context, arguments)


def results(sweep: Path) -> dict[str, dict[str, object]]:
    return {path.parent.name: json.loads(path.read_text()) for path in sweep.glob("*/result.json")}


def test_jobs_are_the_product_of_the_choices_each_in_a_folder_of_its_own() -> None:
    jobs = plan("data=digits", "model=cnn,mlp_500", "optimizer=adam,sgd", "seed=range(0,3)")
    assert [job.number for job in jobs] == list(range(12))
    assert jobs[0].label == "model=cnn optimizer=adam seed=0"
    assert jobs[11].overrides == ("data=digits", "model=mlp_500", "optimizer=sgd", "seed=2")
    assert jobs[11].folder == "11_model=mlp_500,optimizer=sgd,seed=2"


BAD = [
    (["seed=range(0,0)"], "seed=range(0,0): there is nothing to choose from"),
    (["modle=cnn,mlp_500"], "modle"),
    (["optimizer.lr=0.1,-1"], "optimizer.lr=-1: should be greater than 0"),
    (["+optimizer.foo=1,2"], "optimizer.foo: there is no such option"),
    (["optimizer.lr=interval(0.1,1)"], "hydra/sweeper=optuna"),
    (["loss=cross_entropy,nll"], "model.output=log_softmax"),
]


@pytest.mark.parametrize(("arguments", "named"), BAD, ids=lambda value: " ".join(value))
def test_what_is_wrong_in_any_job_is_named(arguments: list[str], named: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(*arguments)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["optimizer.lr=0.1,-1"], "error: optimizer.lr=-1"),
        pytest.param(
            ["hydra/launcher=ray"],
            "pip install -e '.[ray]'",
            marks=pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="has Ray"),
        ),
        (["sweep.resume=nowhere"], "sweep.resume=nowhere: is not the folder of a grid"),
        (["hydra.sweep.subdir=same"], "hydra.sweep.subdir=same"),
        (["resume=a,b"], "resume=a,b: goes on with one run; leave out -m"),
        (["sweep=losses,softmax"], "sweep=losses,softmax: one at a time"),
    ],
    ids=lambda value: " ".join(value),
)
def test_nothing_is_left_behind(command: Command, tmp_path: Path, arguments: list[str], named: str) -> None:
    done = command("-m", *QUICK, "seed=0,1", *arguments)
    assert done.code == 1
    assert named in done.output
    assert "Traceback" not in done.output
    assert not list(tmp_path.iterdir())


def test_options_of_a_sweep_are_refused_without_m(command: Command) -> None:
    done = command(*QUICK, "sweep.resume=x")
    assert done.code == 1
    assert "sweep.resume=x: is an option of many runs; add -m" in done.output


LRS = [*(f"0.{number}" for number in range(11, 34)), "1e9"]
PLANTED = ["-m", *QUICK, "optimizer=sgd", "data.batch_size=8", "trainer.max_epochs=1", f"optimizer.lr={','.join(LRS)}"]


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return start_command([sys.executable, str(PROJECT / "train.py"), *arguments], cwd=folder)


def start_command(command: list[str], **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def read_until(process: "subprocess.Popen[str]", words: str) -> str:
    printed = ""
    while words not in printed:
        assert process.stdout
        line = process.stdout.readline()
        assert line, f"it ended before it said {words!r}:\n{printed}"
        printed += line
    return printed


def joblib_workers(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in children if b"popen_loky" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the workers in /proc")
def test_24_jobs_side_by_side_with_a_planted_failure_and_a_killed_worker(tmp_path: Path) -> None:
    """Kills a worker, which makes joblib give up all its jobs; then runs the same sweep again."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    side_by_side = [*PLANTED, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    process = start(tmp_path, *side_by_side, "hydra.sweep.dir=sweep")
    printed = read_until(process, " 2/24 ")
    os.kill(joblib_workers(process.pid)[0], signal.SIGKILL)
    printed += process.communicate(timeout=200)[0]
    assert process.returncode == 1, printed
    assert "Traceback" not in printed
    found = {int(name.split("_lr=")[0]): run for name, run in results(tmp_path / "sweep").items()}
    statuses = [found[number]["status"] for number in range(24)]
    assert statuses == ["completed"] * 23 + ["failed"]
    for words in ("24/24  optimizer.lr=", "FAILED: LossNotFinite", "23 configurations", "1 of 24 failed"):
        assert words in printed
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/result.json")}
    again = start(tmp_path, *PLANTED, "sweep.resume=sweep")
    printed = again.communicate(timeout=100)[0]
    assert again.returncode == 1
    assert "24 jobs, 23 of them done" in printed
    run_again = [path.parent.name.split("_")[0] for path, then in before.items() if path.stat().st_mtime_ns != then]
    assert run_again == ["23"]


def test_a_job_is_the_run_that_it_would_have_been_alone(
    command: Command, tmp_path: Path, run: Callable[..., Run]
) -> None:
    """Whatever ran before it in the process: seed, log and memory are its own."""
    code = ENDS_WITH_MODELS_IN_MEMORY.format(train=str(PROJECT / "train.py"))
    arguments = ["-m", *TINY, "seed=3,1,4", "hydra.sweep.dir=sweep"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "MODELS 0" in done.stdout, "what a job leaves behind is freed"
    alone = run("seed=1")
    job = tmp_path / "sweep" / "1_seed=1"
    one, other = (weights_digest(load_classifier(folder / "checkpoints/last.ckpt")) for folder in (alone.folder, job))
    assert one == other
    assert (alone.folder / "metrics.csv").read_text() == (job / "metrics.csv").read_text()
    assert (job / "train.log").read_text().count("epoch 2/2") == 1
    assert "epoch 2/2" not in done.stdout, "a line a job, not its story"
    assert results(tmp_path / "sweep")[job.name]["command"] == f"python train.py {' '.join(TINY)} seed=1"


ENDS_WITH_MODELS_IN_MEMORY = """
import gc, runpy, sys
sys.argv[0] = {train!r}
runpy.run_path({train!r}, run_name='__main__')
gc.collect()
from mnist_lit.models import DigitClassifier
print('MODELS', sum(isinstance(thing, DigitClassifier) for thing in gc.get_objects()))
"""


def test_a_stopped_grid_says_how_to_go_on_and_goes_on(tmp_path: Path) -> None:
    grid = ["-m", *QUICK, "scheduler=none", "seed=0,1", "hydra.sweep.dir=sweep"]
    process = start(tmp_path, *grid, "trainer.max_epochs=100000")
    while not list(tmp_path.glob("sweep/0_*/checkpoints/last.ckpt")):
        assert process.poll() is None, process.communicate()[0]
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=30)[0]
    assert process.returncode == 130, printed
    assert "sweep.resume=sweep" in printed
    other = start(tmp_path, *grid, "trainer.max_epochs=3", "sweep.resume=sweep")
    printed = other.communicate(timeout=60)[0]
    assert other.returncode == 1
    assert "only there: trainer.max_epochs=100000; only here: trainer.max_epochs=3" in printed


def test_a_sweep_that_is_going_on_is_not_gone_on_with_twice(tmp_path: Path) -> None:
    grid = ["-m", *QUICK, "seed=0,1", "hydra.sweep.dir=sweep", "trainer.max_epochs=100000"]
    process = start(tmp_path, *grid)
    while not list(tmp_path.glob("sweep/0_*/config.yaml")):
        assert process.poll() is None, process.communicate()[0]
    second = start(tmp_path, *grid, "sweep.resume=sweep")
    printed = second.communicate(timeout=60)[0]
    process.kill()
    process.communicate()
    assert second.returncode == 1
    assert "error: sweep is held by a run that is still going" in printed


LESSON = "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {model.hidden: '[16],[32]'}}}\n"


def test_a_lesson_is_a_sweep_and_the_command_of_one_of_its_runs_is_one_run(command: Command, tmp_path: Path) -> None:
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    (tmp_path / "conf" / "sweep" / "lesson.yaml").write_text(LESSON)
    lesson = command("--config-dir=conf", "sweep=lesson", *QUICK, "hydra.sweep.dir=sweep", "trainer.max_epochs=1")
    assert lesson.code == 0, lesson.output
    runs = results(tmp_path / "sweep")
    assert len(runs) == 2
    assert sorted(runs) == ["0_hidden=16", "1_hidden=32"], "what TensorBoard calls them says what they are"
    again = command("--config-dir=conf", *shlex.split(str(runs["1_hidden=32"]["command"]))[2:])
    assert again.code == 0, again.output
    assert again.result["params"] == runs["1_hidden=32"]["params"] == 784 * 32 + 362
