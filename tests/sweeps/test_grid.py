"""Grids: all jobs are checked first, each one ends by itself and is reported, and failed ones can be run again."""

import errno
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.types import HydraContext

from mnist_lit import run_folder
from mnist_lit.commands import quote_for_hydra
from mnist_lit.errors import UserError
from mnist_lit.models.checkpoint_file import load_classifier, weights_digest
from mnist_lit.sweeps import job_run
from mnist_lit.sweeps.grid_jobs import Job, expand_grid, plan_grid
from mnist_lit.sweeps.job_run import is_running
from mnist_lit.sweeps.sweep_folder import check_same_configs, dump_configs
from tests.configs import PROJECT, compose_config
from tests.conftest import TINY, Outcome, Run

Command = Callable[..., Outcome]
QUICK = ["data=digits", "model=mlp_128_64", "trainer=cpu", "callbacks=none", "logger.tensorboard=false"]

GRID = ["seed=0,1"]
SEARCH = ["hydra/sweeper=optuna", "seed=0,1", "sweep.sampler=grid"]
SEARCH_IN_JOURNAL = [*SEARCH, "sweep.storage=journal"]
SWEEPS = [GRID, SEARCH, SEARCH_IN_JOURNAL]
SWEEP_NAMES = ["grid", "search", "journal"]


def plan(*arguments: str) -> list[Job]:
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        config = compose("train", ["hydra.mode=MULTIRUN"], return_hydra_config=True)
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
        return plan_grid(config, context, arguments)


def results(sweep: Path) -> dict[str, dict[str, object]]:
    return {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in sweep.glob("*/result.json")}


def test_jobs_are_the_product_of_the_choices() -> None:
    jobs = plan("data=digits", "model=cnn,mlp_500", "optimizer=adam,sgd", "seed=range(0,3)")
    assert [job.number for job in jobs] == list(range(12))
    assert jobs[0].label == "model=cnn optimizer=adam seed=0"
    assert jobs[11].overrides == ("data=digits", "model=mlp_500", "optimizer=sgd", "seed=2")
    assert jobs[11].folder == "11_model-mlp_500_optimizer-sgd_seed-2"


BAD = [
    (["seed=range(0,0)"], "seed=range(0,0): there are no values to choose from"),
    (["modle=cnn,mlp_500"], "modle"),
    (["optimizer.lr=0.1,-1"], "optimizer.lr=-1: should be greater than 0"),
    (["+optimizer.foo=1,2"], "optimizer.foo: there is no such option"),
    (["optimizer.lr=interval(0.1,1)"], "hydra/sweeper=optuna"),
    (["loss=cross_entropy,nll"], "model.output=log_softmax"),
]


@pytest.mark.parametrize(("arguments", "named"), BAD, ids=lambda value: " ".join(value))
def test_an_error_in_any_job_is_named(arguments: list[str], named: str) -> None:
    with pytest.raises(UserError) as caught:
        plan(*arguments)
    assert named in str(caught.value)


def test_all_errors_of_a_job_are_named_once() -> None:
    with pytest.raises(UserError) as caught:
        plan("seed=0,1", "modle=cnn", "optimizer.foo=1", "loss=none", "trainer=cpu")
    lines = str(caught.value).splitlines()
    for words in (
        "modle: there is no such option",
        "optimizer.foo: there is no such option",
        "loss=none: there is no such choice",
    ):
        assert sum(words in line for line in lines) == 1
    with pytest.raises(UserError) as caught:
        plan("seed=0,1", "optimizer.lr=0.1,-1", "trainer.max_epochs=0", "data.batch_size=many")
    options = [line.split("=")[0] for line in str(caught.value).splitlines()]
    assert sorted(options) == ["data.batch_size", "optimizer.lr", "trainer.max_epochs"]


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
        (["resume=a,b"], ": continues one run; leave out -m"),
        (["sweep=losses,softmax"], "sweep=losses,softmax: one at a time"),
    ],
    ids=lambda value: " ".join(value),
)
def test_an_error_leaves_no_files(train_py: Command, tmp_path: Path, arguments: list[str], named: str) -> None:
    done = train_py("-m", *QUICK, "seed=0,1", *arguments)
    assert done.code == 1
    assert named in done.output
    assert "Traceback" not in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("choices", [GRID, SEARCH], ids=["grid", "search"])
def test_a_sweep_that_cannot_be_locked_leaves_no_files(
    script: Command, tmp_path: Path, choices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise UserError(f"{folder} cannot be written: Input/output error")

    module = "search" if choices == SEARCH else "grid"
    monkeypatch.setattr(f"mnist_lit.sweeps.{module}.lock_folder", refuse)
    refused = script("-m", *QUICK, "trainer.max_epochs=1", *choices, "hydra.sweep.dir=sweep")
    assert refused.code == 1
    assert "error: sweep cannot be written: Input/output error" in refused.output
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    done = script("-m", *QUICK, "trainer.max_epochs=1", *choices, "hydra.sweep.dir=sweep")
    assert done.code == 0, done.output
    monkeypatch.setattr(f"mnist_lit.sweeps.{module}.lock_folder", refuse)
    before = sorted(tmp_path.rglob("*"))
    assert script("-m", *QUICK, "trainer.max_epochs=1", *choices, "sweep.resume=sweep").code == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_options_of_a_sweep_need_multirun(train_py: Command) -> None:
    done = train_py(*QUICK, "sweep.resume=x")
    assert done.code == 1
    assert "sweep.resume=x: is an option of many runs; add -m" in done.output


LRS = [*(f"0.{number}" for number in range(11, 34)), "1e9"]
ONE_FAILS = [
    "-m",
    *QUICK,
    "optimizer=sgd",
    "data.batch_size=8",
    "trainer.max_epochs=1",
    f"optimizer.lr={','.join(LRS)}",
]


def start(folder: Path, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
    return start_command([sys.executable, str(PROJECT / "train.py"), *arguments], cwd=folder, **options)


def start_command(command: list[str], **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", **options)


def read_until(process: "subprocess.Popen[str]", words: str) -> str:
    printed = ""
    while words not in printed:
        assert process.stdout
        line = process.stdout.readline()
        assert line, f"the process ended before it printed {words!r}:\n{printed}"
        printed += line
    return printed


def children(parent: int) -> list[int]:
    return list(map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="utf-8").split()))


def joblib_workers(parent: int) -> list[int]:
    return [child for child in children(parent) if b"popen_loky" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the workers in /proc")
def test_24_jobs_with_one_failing_job_and_one_killed_worker(tmp_path: Path) -> None:
    """Joblib gives up all its jobs when a worker is killed. Then the same sweep is resumed."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    parallel = [*ONE_FAILS, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    process = start(tmp_path, *parallel, "hydra.sweep.dir=sweep")
    printed = read_until(process, " 2/24 ")
    os.kill(joblib_workers(process.pid)[0], signal.SIGKILL)
    printed += process.communicate(timeout=200)[0]
    assert process.returncode == 1, printed
    assert "Traceback" not in printed
    found = {int(name.split("_lr-")[0]): run for name, run in results(tmp_path / "sweep").items()}
    statuses = [found[number]["status"] for number in range(24)]
    assert statuses == ["completed"] * 23 + ["failed"]
    for words in ("24/24  optimizer.lr=", "FAILED: LossNotFinite", "23 configurations", "1 of 24 failed"):
        assert words in printed
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sweep/*/result.json")}
    again = start(tmp_path, *ONE_FAILS, "sweep.resume=sweep")
    printed = again.communicate(timeout=100)[0]
    assert again.returncode == 1
    assert "24 jobs, 23 already completed" in printed
    run_again = [path.parent.name.split("_")[0] for path, then in before.items() if path.stat().st_mtime_ns != then]
    assert run_again == ["23"]


IN_PARALLEL = {
    "hydra_plugins.hydra_joblib_launcher": ["seed=0,1,2,3", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "optuna": ["seed=0,1,2,3", "hydra/sweeper=optuna", "sweep.sampler=grid", "sweep.workers=2"],
}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the workers in /proc")
@pytest.mark.parametrize("package", IN_PARALLEL)
def test_workers_of_a_killed_sweep_write_checkpoints_and_end(tmp_path: Path, package: str) -> None:
    """Two of four jobs train."""
    pytest.importorskip(package)
    endless = [*QUICK, "trainer.max_epochs=100000", *IN_PARALLEL[package]]
    process = start(tmp_path, "-m", *endless, "hydra.sweep.dir=sweep")
    wait_for(lambda: len(list(tmp_path.glob("sweep/*/checkpoints/last.ckpt"))) == 2, "both jobs train")
    workers = children(process.pid)
    assert len(workers) >= 2
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers), "the workers end", limit=25)
    statuses = [run["status"] for run in results(tmp_path / "sweep").values()]
    assert statuses == ["interrupted"] * 2, "no worker starts another job"


def wait_for(condition: Callable[[], bool], what: str, limit: float = 60) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {limit} s"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the workers in /proc")
@pytest.mark.parametrize(("package", "signum"), zip(IN_PARALLEL, (signal.SIGINT, signal.SIGTERM), strict=True))
def test_workers_of_a_stopped_sweep_write_checkpoints(tmp_path: Path, package: str, signum: int) -> None:
    """The signal reaches the sweep's own process alone, as `kill` sends it."""
    pytest.importorskip(package)
    endless = [*QUICK, "trainer.max_epochs=100000", "data.batch_size=8", *IN_PARALLEL[package]]
    process = start(tmp_path, "-m", *endless, "hydra.sweep.dir=sweep")
    wait_for(lambda: len(list(tmp_path.glob("sweep/*/checkpoints/last.ckpt"))) == 2, "both jobs train")
    process.send_signal(signum)
    printed = process.communicate(timeout=60)[0]
    assert process.returncode == 128 + signum, printed
    assert "sweep.resume=sweep" in printed
    assert "Traceback" not in printed
    statuses = [run["status"] for run in results(tmp_path / "sweep").values()]
    assert statuses == ["interrupted"] * 2, "each has written its state, and no worker starts another job"


DIES = """
import os, signal
from mnist_lit.models import MLP
class Dies(MLP):
    def on_train_epoch_start(self):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kills a process")
def test_a_job_that_kills_its_process_each_time_fails_alone(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    (tmp_path / "dies.py").write_text(DIES, encoding="utf-8")
    jobs = ["model._target_=mnist_lit.models.MLP,dies.Dies", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    command = ["-m", *QUICK, *jobs, "trainer.max_epochs=1", "hydra.sweep.dir=sweep"]
    process = start(tmp_path, *command, env=os.environ | {"PYTHONPATH": "."})
    printed = process.communicate(timeout=200)[0]
    assert process.returncode == 1, printed
    assert "1 of 2 failed" in printed
    assert "its process died" in printed
    assert sorted(run["status"] for run in results(tmp_path / "sweep").values()) == ["completed", "failed"]


@pytest.mark.slow
def test_a_job_equals_the_same_run_alone(command: Command, tmp_path: Path, run: Callable[..., Run]) -> None:
    """Jobs that ran before it in the process change neither its seed nor its log, and leave no memory in use."""
    code = COUNT_MODELS_IN_MEMORY.format(train=str(PROJECT / "train.py"))
    arguments = ["-m", *TINY, "seed=3,1,4", "hydra.sweep.dir=sweep"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "MODELS 0" in done.stdout, "the memory of a finished job is freed"
    alone = run("seed=1")
    job = tmp_path / "sweep" / "1_seed-1"
    one, other = (weights_digest(load_classifier(folder / "checkpoints/last.ckpt")) for folder in (alone.folder, job))
    assert one == other
    assert (alone.folder / "metrics.csv").read_text(encoding="utf-8") == (job / "metrics.csv").read_text(
        encoding="utf-8"
    )
    assert (job / "train.log").read_text(encoding="utf-8").count("epoch 2/2") == 1
    assert "epoch 2/2" not in done.stdout, "the sweep prints one line for each job, not the log"
    assert results(tmp_path / "sweep")[job.name]["command"] == f"python {PROJECT}/train.py {' '.join(TINY)} seed=1"


COUNT_MODELS_IN_MEMORY = """
import gc, runpy, sys
sys.argv[0] = {train!r}
runpy.run_path({train!r}, run_name='__main__')
gc.collect()
from mnist_lit.models import DigitClassifier
print('MODELS', sum(isinstance(thing, DigitClassifier) for thing in gc.get_objects()))
"""


@pytest.mark.slow
def test_a_stopped_grid_prints_the_command_that_resumes_it(tmp_path: Path) -> None:
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
    assert "trainer.max_epochs=100000; only in this command: trainer.max_epochs=3" in printed


@pytest.mark.slow
def test_a_running_sweep_is_not_resumed(tmp_path: Path) -> None:
    grid = ["-m", *QUICK, "seed=0,1", "hydra.sweep.dir=sweep", "trainer.max_epochs=100000"]
    process = start(tmp_path, *grid)
    while not list(tmp_path.glob("sweep/0_*/config.yaml")):
        assert process.poll() is None, process.communicate()[0]
    second = start(tmp_path, *grid, "sweep.resume=sweep")
    printed = second.communicate(timeout=60)[0]
    process.kill()
    process.communicate()
    assert second.returncode == 1
    assert "error: sweep is in use by a run that is still going" in printed


@pytest.mark.slow
def test_a_printed_command_works_in_a_shell(command: Command, tmp_path: Path) -> None:
    """The folder and the values have spaces, brackets and letters outside ASCII, and two configs are the user's own."""
    configs = tmp_path / "my configs [ä]"
    configs.mkdir()
    (configs / "mine.yaml").write_text(
        "defaults:\n  - train\n  - _self_\ntrainer:\n  max_epochs: 1\n", encoding="utf-8"
    )
    folder = "my sweep, lr=0.1 [ä] (1)"
    own = [f"--config-dir={configs}", "--config-name=mine"]
    overrides = [*QUICK, "optimizer=sgd", "data.batch_size=8", "optimizer.lr=0.1,1e9"]
    done = command(*own, "-m", *overrides, f"hydra.sweep.dir={quote_for_hydra(folder)}")
    assert done.code == 1, done.output
    assert "1 of 2 failed" in done.output
    (printed,) = re.findall(r"run the failed jobs again  (.*)", done.output)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    again = subprocess.run(
        ["bash", "-c", printed], cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8"
    )
    assert "2 jobs, 1 already completed" in again.stdout, again.stderr
    assert again.returncode == 1
    assert [run["epochs"] for run in results(tmp_path / folder).values() if run["status"] == "completed"] == [1]


LESSON = """# @package _global_
lesson: {shows: Two widths., point: Both train., minutes: 1, try_next: "COMMAND\\nIt trains one more."}
hydra: {mode: MULTIRUN, sweeper: {params: {model.hidden: '[16],[32]'}}}
"""


LONG = "python train.py -m sweep=lesson 'model.hidden=[8]' optimizer.lr=0.001,0.01,0.1 seed=0,1,2"


@pytest.mark.slow
def test_a_lesson_is_a_sweep_and_the_command_of_its_run_is_one_run(train_py: Command, tmp_path: Path) -> None:
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    (tmp_path / "conf" / "sweep" / "lesson.yaml").write_text(LESSON.replace("COMMAND", LONG), encoding="utf-8")
    lesson = train_py("--config-dir=conf", "sweep=lesson", *QUICK, "hydra.sweep.dir=sweep", "trainer.max_epochs=1")
    assert lesson.code == 0, lesson.output
    assert "lesson  Two widths. It takes about 1 minute on two CPU cores with MNIST." in lesson.output
    assert "The point: Both train." in lesson.output
    command = LONG.replace("python train.py", f"python {PROJECT}/train.py")
    assert f"\nTry next: {command}\nIt trains one more.\n" in lesson.output, "a command is one line"
    runs = results(tmp_path / "sweep")
    assert len(runs) == 2
    assert sorted(runs) == ["0_hidden-16", "1_hidden-32"], "TensorBoard shows these names"
    again = train_py(*shlex.split(str(runs["1_hidden-32"]["command"]))[2:])
    assert again.code == 0, again.output
    assert again.result["params"] == runs["1_hidden-32"]["params"] == 784 * 32 + 362


@pytest.mark.parametrize(
    "arguments", [["hydra.mode=RUN"], ["--cfg=job"], ["hydra.mode=RUN", "--cfg=job"]], ids=" ".join
)
def test_one_run_of_a_lesson_is_a_run_with_its_options(train_py: Command, arguments: list[str]) -> None:
    """As in the command that repeats it. The lesson sweeps the optimizer."""
    one = ["sweep=learning_rates", "optimizer=sgd", "optimizer.lr=0.5", "data=digits"]
    done = train_py(*one, "trainer.max_epochs=1", "callbacks=none", *arguments)
    assert done.code == 0, done.output
    if "--cfg=job" in arguments:
        assert "lr: 0.5" in done.output
    else:
        assert done.result["status"] == "completed"


def test_options_of_mnist_are_not_varied_on_the_digits_that_replace_it(script: Command, tmp_path: Path) -> None:
    """Each job would be the same run."""
    done = script("-m", "data.train_size=100,200", "trainer.max_epochs=1", "callbacks=none")
    assert done.code == 1
    assert "data.train_size: cannot be varied on the digits that would replace MNIST" in done.output
    assert not (tmp_path / "outputs").exists()


def test_a_folder_that_cannot_be_made_names_the_option_of_a_sweep(script: Command, tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("no folder", encoding="utf-8")
    done = script("-m", *TINY, "seed=0,1")
    assert done.code == 1
    assert "Choose another folder with hydra.sweep.dir=FOLDER" in done.output


@pytest.mark.mnist
@pytest.mark.slow
@pytest.mark.parametrize("kind", [[], SEARCH[:1]], ids=["grid", "search"])
def test_a_sweep_on_the_digits_is_resumed_on_them_when_mnist_is_there(
    command: Command, tmp_path: Path, mnist_root: str, kind: list[str]
) -> None:
    """The printed command is repeated as it is."""
    jobs = ["trainer.max_epochs=1", "data.batch_size=8", "optimizer=sgd", "callbacks=none", "data.val_size=100"]
    lr = "optimizer.lr=0.1,1e30" if not kind else "optimizer.lr=choice(0.1,0.2)"
    first = command("-m", *kind, *jobs, lr, "hydra.sweep.dir=sweep", *(["sweep.trials=1"] if kind else []))
    assert "NOT MNIST" in first.output, first.output
    if kind:
        again = ["-m", *kind, *jobs, lr, "data=digits", "sweep.resume=sweep", "sweep.trials=2"]
        again.remove("data.val_size=100")
    else:
        (line,) = [text for text in first.output.splitlines() if text.startswith("run the failed jobs again")]
        again = shlex.split(line.partition("train.py ")[2])
    assert "data=digits" in again
    second = command(*again, MNIST_LIT_DATA=mnist_root)
    assert "another sweep" not in second.output
    assert "searches something else" not in second.output
    assert "1 already" in second.output, second.output


MINE = "# @package _global_\ndata: {{batch_size: {size}}}\noptimizer: {{lr: 0.01}}\n"
EDITOR = """
from pathlib import Path
from lightning.pytorch import Callback

class Editor(Callback):
    def on_fit_start(self, trainer, module):
        path = Path("conf/experiment/mine.yaml")
        path.write_text(path.read_text().replace("32", "64"))
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A preset of one's own in the folder conf."""
    path = tmp_path / "conf" / "experiment" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(MINE.format(size=32), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("choices", SWEEPS, ids=SWEEP_NAMES)
def test_a_sweep_is_not_resumed_with_an_edited_preset(
    script: Command, tmp_path: Path, mine: Path, choices: list[str]
) -> None:
    sweep = ["--config-dir=conf", "-m", *QUICK, "experiment=mine", "trainer.max_epochs=1", *choices]
    done = script(*sweep, "hydra.sweep.dir=sweep")
    assert done.code == 0, done.output
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "sweep").glob("*/*")}
    (removed,) = (tmp_path / "sweep").glob("1_*/result.json")
    removed.unlink()
    mine.write_text(MINE.format(size=64).replace("0.01", "0.01, weight_decay: 0.1"), encoding="utf-8")
    refused = script(*sweep, "sweep.resume=sweep")
    assert refused.code == 1
    assert "error: sweep.resume=sweep: the files of the config have changed since it began" in refused.output
    assert "data.batch_size: was 32, is now 64" in refused.output
    assert "optimizer.weight_decay: was 0.0, is now 0.1" in refused.output
    assert "optimizer.lr" not in refused.output
    for path, changed in before.items():
        assert path == removed or path.stat().st_mtime_ns == changed
    words = "checkpoint: {every_seconds: 30}\nlesson: {shows: Two seeds., point: Both train.}\n"
    mine.write_text(MINE.format(size=32) + words, encoding="utf-8")
    resumed = script(*sweep, "sweep.resume=sweep", "logger.csv=true")
    assert resumed.code == 1, "another option is another sweep"
    resumed = script(*sweep, "sweep.resume=sweep")
    assert resumed.code == 0, resumed.output


@pytest.mark.slow
@pytest.mark.parametrize("choices", SWEEPS, ids=SWEEP_NAMES)
def test_a_job_keeps_its_config_if_the_preset_is_edited_while_the_sweep_runs(
    script: Command, tmp_path: Path, mine: Path, choices: list[str]
) -> None:
    (tmp_path / "my_editor.py").write_text(EDITOR, encoding="utf-8")
    editor = "+callbacks.editor={_target_: my_editor.Editor}"
    sweep = ["--config-dir=conf", "-m", *QUICK, "experiment=mine", "trainer.max_epochs=1", editor, *choices]
    done = script(*sweep, "hydra.sweep.dir=sweep", PYTHONPATH=".")
    assert done.code == 0, done.output
    assert "batch_size: 64" in mine.read_text(encoding="utf-8")
    configs = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in tmp_path.glob("sweep/*/config.yaml")]
    assert [config["data"]["batch_size"] for config in configs] == [32, 32]


def test_a_folder_that_cannot_be_locked_is_an_error_and_not_a_running_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a grid on a disk that became read-only would wait for ever."""
    assert not is_running(tmp_path)
    read_only = OSError(errno.EROFS, "Read-only file system")
    monkeypatch.setattr(run_folder, "lock_file", lambda path, timeout=0: (_ for _ in ()).throw(read_only))
    with pytest.raises(UserError, match="cannot be written: Read-only file system"):
        is_running(tmp_path)


def test_an_option_that_is_newer_than_the_sweep_may_have_its_default() -> None:
    (now,) = dump_configs([compose_config("model=fast_cnn", "data=digits")])
    before = now | {"model": {name: value for name, value in now["model"].items() if name != "crop"}}
    check_same_configs("sweep.resume=x", [before], [now])
    other = now | {"model": now["model"] | {"crop": 2}}
    with pytest.raises(UserError, match=r"model\.crop: was nothing, is now 2"):
        check_same_configs("sweep.resume=x", [before], [other])


HOLDS_LOCK = """
import sys, time
from pathlib import Path
from mnist_lit.run_folder import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(2)
"""


def test_a_sweep_says_what_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """As after a job that was killed on another computer, until somebody deletes its lock."""
    monkeypatch.setattr(job_run, "PATIENCE", 0)
    holder = subprocess.Popen([sys.executable, "-c", HOLDS_LOCK, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout
    holder.stdout.readline()
    job_run.wait_for_jobs([tmp_path])
    assert holder.wait() == 0
    assert capsys.readouterr().out.count(f"waiting: {tmp_path} is in use") == 1


@pytest.mark.parametrize("option", ["sweep.objectives=val_acc,fit_seconds", "sweep.expect_divergence=true,false"])
def test_options_of_the_sweep_take_one_value(train_py: Command, option: str) -> None:
    done = train_py("-m", *QUICK, "seed=0,1", option)
    assert done.code == 1
    assert f"{option}: takes one value" in done.output


def test_shuffled_jobs_have_the_same_order_in_each_process() -> None:
    """Else a sweep could not be resumed."""
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks())
        seeds = [[job.options for job in expand_grid(context, ["seed=shuffle(range(0,9))"])] for _ in range(2)]
    assert seeds[0] == seeds[1] != sorted(seeds[0])
    assert len(seeds[0]) == 9


def test_an_option_below_a_group_that_an_own_lesson_sweeps_is_kept(train_py: Command, tmp_path: Path) -> None:
    """The default optimizer has no momentum."""
    (tmp_path / "conf" / "sweep").mkdir(parents=True)
    lesson = LESSON.replace("model.hidden: '[16],[32]'", "optimizer: 'sgd,rmsprop'").replace("COMMAND", "x")
    (tmp_path / "conf" / "sweep" / "own.yaml").write_text(lesson, encoding="utf-8")
    short = ["trainer.max_epochs=1", "hydra.sweep.dir=sweep"]
    done = train_py("--config-dir=conf", "sweep=own", "optimizer.momentum=0.5", *QUICK, *short)
    assert done.code == 0, done.output
    assert len(results(tmp_path / "sweep")) == 2
