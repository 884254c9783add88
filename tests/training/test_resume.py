"""A run that is stopped and resumed equals a run that never stops, wherever and however it is stopped."""

import functools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from mnist_lit.errors import UserError
from mnist_lit.models import DigitClassifier
from mnist_lit.models.checkpoint_file import load_classifier, read_checkpoint, weights_digest
from mnist_lit.process import RunInterrupted
from mnist_lit.run_folder import BEST, CHECKPOINTS, LAST, RESULT, read_result, write_config
from mnist_lit.training import checkpoints
from mnist_lit.training.resume import resumed_config
from mnist_lit.training.run import train
from tests.configs import PROJECT, compose_config
from tests.conftest import OFFLINE, TINY, Outcome, Run, launch
from tests.selection import slow_except

Start = Callable[..., Run]
Command = Callable[..., Outcome]
BLOCKS = ["trainer.steps_per_execution=3", "trainer.log_every_n_steps=8"]  # an epoch: 20 steps, 7 blocks, the last of 2


class Crash(BaseException):
    """Ends a run without saving anything, as a kill does."""


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def crash() -> None:
    raise Crash


@contextmanager
def stop_at(monkeypatch: pytest.MonkeyPatch, hook: str, call: int, stop: Callable[[], None]) -> Iterator[None]:
    """Within the block, the `call`-th call of a network's hook during fit calls `stop` first."""
    original, calls = getattr(DigitClassifier, hook), 0

    def counted_hook(self: DigitClassifier, *arguments: Any) -> Any:
        nonlocal calls
        calls += self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking
        if calls == call:
            calls += 1
            stop()
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(DigitClassifier, hook, counted_hook)
        yield


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    def start(name: str, *overrides: str, resume: bool = False) -> Run:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        # TensorBoard sorts the files of a run by second, then by their number in the process, as text: 10 before 9.
        time.sleep(1 - time.time() % 1 if resume else 0)
        monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
        config = compose_config(*TINY, *BLOCKS, "trainer.max_epochs=3", *overrides)
        return Run(folder, train(config, folder, {"command": "python train.py"}, resume=resume))

    return start


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Trains the same run without a stop, once for each set of options."""

    @functools.cache
    def whole(*overrides: str) -> Run:
        folder = tmp_path_factory.mktemp("whole")
        return Run(folder, train(compose_config(*TINY, *BLOCKS, "trainer.max_epochs=3", *overrides), folder, {}))

    return whole


def assert_same_run(one: Path, other: Path) -> None:
    for name in (LAST, BEST):
        first, second = (load_classifier(folder / CHECKPOINTS / name) for folder in (one, other))
        assert weights_digest(first) == weights_digest(second), name
    assert (one / "metrics.csv").read_text(encoding="utf-8") == (other / "metrics.csv").read_text(encoding="utf-8")
    with np.load(one / "test_predictions.npz") as first, np.load(other / "test_predictions.npz") as second:
        for name in first.files:
            assert np.array_equal(first[name], second[name]), name
    assert read_curves(one) == read_curves(other)


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag != "fit_seconds"]  # no two runs take the same time
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


COMBINATIONS = [
    ["mlp_128_64", "sgd", "none"],
    ["mlp_4x64", "adam", "cosine"],
    ["cnn", "adamw", "onecycle"],
    ["mlp_128_64", "adagrad", "step"],
    ["mlp_4x64", "rmsprop", "onecycle"],
    ["dropout", "adam", "onecycle"],
    ["dropout", "sgd", "cosine"],
    ["augmented", "sgd", "step"],
    ["convnet", "adamw", "onecycle"],
    ["accumulated", "adam", "cosine"],
    ["mixed", "adam", "cosine"],
    ["averaged", "adam", "none"],
]
QUICK_COMBINATION = ["dropout", "adam", "onecycle"]


def make_options(model: str, optimizer: str, scheduler: str) -> list[str]:
    dropout = ["model=cnn", "~model.activation", "+model.width=24", "model._target_=tests.dropout_network.Dropout"]
    models = {
        "dropout": dropout,
        "augmented": [
            "data.augment={rotation: 10.0, shift: 2.0, elastic: 0.5, stroke: 0.5, noise: 0.1, drawn: 0.2, others: 0.1}"
        ],
        "accumulated": ["trainer.accumulate_grad_batches=2", "trainer.limit_train_batches=40", "data.batch_size=16"],
        "mixed": ["model=cnn", "trainer.precision=bf16-mixed"],
        "averaged": ["+callbacks.average={_target_: lightning.pytorch.callbacks.EMAWeightAveraging, decay: 0.9}"],
        "convnet": ["model=convnet", "model.channels=[4,8]", "model.dropout=0.3"],
    }.get(model, [f"model={model}"])
    return [*models, f"optimizer={optimizer}", f"scheduler={scheduler}"]


@pytest.mark.parametrize("combination", slow_except(COMBINATIONS, QUICK_COMBINATION), ids="-".join)
def test_a_run_interrupted_twice_resumes_exactly(
    combination: list[str],
    start: Start,
    uninterrupted: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = make_options(*combination)
    whole = uninterrupted(*options)
    caplog.set_level(logging.INFO)
    for call, resume in ((3, False), (7, True)):  # the second stop is in the second epoch
        with stop_at(monkeypatch, "training_step", call, interrupt), pytest.raises(RunInterrupted):
            start("stopped", *options, resume=resume)
    resumed = start("stopped", *options, resume=True)
    assert_same_run(whole.folder, resumed.folder)
    assert resumed.result["global_step"] == whole.result["global_step"] == 60
    assert resumed.result["status"] == "completed"
    assert "error" not in resumed.result
    epochs = re.findall(r"epoch \d/\d .* ([\d.]+) s$", caplog.text, re.MULTILINE)
    assert len(epochs) == 3, "each epoch is printed once"
    assert max(map(float, epochs)) < 100


STOPS = [
    ("training_step", 1),
    ("training_step", 7),
    ("training_step", 8),
    ("training_step", 14),
    ("training_step", 21),
    ("validation_step", 1),
    ("validation_step", 2),
    ("on_train_epoch_end", 1),
    ("on_train_epoch_end", 3),
    ("on_save_checkpoint", 1),
    ("on_save_checkpoint", 5),
]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [interrupt, crash], ids=lambda stop: stop.__name__)
@pytest.mark.parametrize(("hook", "call"), STOPS)
def test_a_run_stopped_anywhere_resumes_exactly(
    hook: str,
    call: int,
    stop: Callable[[], None],
    start: Start,
    uninterrupted: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = [*make_options("dropout", "adam", "cosine"), "checkpoint.every_seconds=0.000001"]
    whole = uninterrupted(*options)
    with stop_at(monkeypatch, hook, call, stop), pytest.raises((RunInterrupted, Crash)):
        start("stopped", *options)
    assert_same_run(whole.folder, start("stopped", *options, resume=True).folder)


@pytest.mark.slow
@pytest.mark.parametrize("call", [1, 4, 7])
def test_a_crash_costs_at_most_one_epoch(
    call: int, start: Start, uninterrupted: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = make_options("dropout", "adam", "cosine")
    whole = uninterrupted(*options)
    with stop_at(monkeypatch, "training_step", 7 + call, crash), pytest.raises(Crash):
        start("stopped", *options)
    assert read_checkpoint(tmp_path / "stopped" / CHECKPOINTS / LAST)["global_step"] == 20
    assert_same_run(whole.folder, start("stopped", *options, resume=True).folder)


@pytest.mark.slow
def test_early_stopping_keeps_its_count_after_resume(
    start: Start, uninterrupted: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        *make_options("dropout", "sgd", "none"),
        "optimizer.lr=0.3",
        "trainer.max_epochs=60",
        "trainer.early_stopping_patience=2",
    ]
    whole = uninterrupted(*options)
    epochs = whole.result["epochs"]
    assert 3 < epochs < 60
    assert epochs - whole.result["best_epoch"] == 2
    for call, resume in ((epochs - 1, False), (1, True)):  # the second stop is after the last epoch
        with stop_at(monkeypatch, "on_train_epoch_end", call, interrupt), pytest.raises(RunInterrupted):
            start("stopped", *options, resume=resume)
    assert_same_run(whole.folder, start("stopped", *options, resume=True).folder)


def test_a_run_made_longer_equals_a_run_planned_longer(start: Start, uninterrupted: Start) -> None:
    options = make_options("dropout", "adam", "step")
    whole = uninterrupted(*options, "trainer.max_epochs=4")
    start("longer", *options, "trainer.max_epochs=2")
    longer = start("longer", *options, "trainer.max_epochs=4", resume=True)
    for name in (LAST, BEST):
        digests = [weights_digest(load_classifier(run.folder / CHECKPOINTS / name)) for run in (whole, longer)]
        assert digests[0] == digests[1]
    assert longer.result["epochs"] == 4


@pytest.mark.slow
def test_a_run_can_be_moved_before_it_is_resumed(
    start: Start, uninterrupted: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = uninterrupted()
    with stop_at(monkeypatch, "training_step", 16, interrupt), pytest.raises(RunInterrupted):
        start("here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert_same_run(whole.folder, start("there", resume=True).folder)
    assert not (tmp_path / "here").exists()


@pytest.mark.slow
def test_a_resumed_run_adds_up_times_and_commands(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with stop_at(monkeypatch, "training_step", 16, interrupt), pytest.raises(RunInterrupted):
        start("stopped")
    before = json.loads((tmp_path / "stopped" / "result.json").read_text(encoding="utf-8"))
    after = start("stopped", resume=True).result
    assert before["status"] == "interrupted"
    assert after["fit_seconds"] > before["fit_seconds"] > 0
    assert after["command"] == "python train.py"
    assert len(after["resumed"]) == 1


# ---- damaged checkpoints -------------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20_000])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, Path.unlink])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(
    damage: Callable[[Path], None],
    start: Start,
    uninterrupted: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    options = make_options("dropout", "adam", "cosine")
    whole = uninterrupted(*options)
    with stop_at(monkeypatch, "training_step", 18, interrupt), pytest.raises(RunInterrupted):
        start("stopped", *options)
    folder = tmp_path / "stopped" / CHECKPOINTS
    damage(folder / LAST)
    caplog.clear()
    assert_same_run(whole.folder, start("stopped", *options, resume=True).folder)
    if damage is not Path.unlink:
        assert "last.ckpt" in caplog.text
        assert "one before" in caplog.text
        assert (folder / "last.ckpt.damaged").exists()


def test_two_ranks_recover_from_the_same_damaged_checkpoint(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = start("run").folder / CHECKPOINTS
    flip_a_bit(folder / LAST)
    read = checkpoints.read_checkpoint

    def read_after_another_rank(path: Path) -> dict[str, Any]:
        try:
            return read(path)
        except UserError:
            path.rename(path.with_name(f"{path.name}.damaged"))
            raise

    monkeypatch.setattr(checkpoints, "read_checkpoint", read_after_another_rank)
    assert checkpoints.recover_checkpoint(folder) == folder / "previous.ckpt"
    assert (folder / "last.ckpt.damaged").exists()


def test_a_run_without_a_readable_checkpoint_is_an_error(start: Start) -> None:
    done = start("run")
    for path in (done.folder / CHECKPOINTS).iterdir():
        flip_a_bit(path)
    with pytest.raises(UserError, match="none of the run's checkpoints can be read"):
        start("run", "scheduler=none", resume=True)


@pytest.mark.slow
def test_the_checksum_covers_every_bit(start: Start) -> None:
    path = start("run", "model.hidden=[1]").folder / CHECKPOINTS / LAST
    good = path.read_bytes()
    for position in [*range(0, len(good) - 80, 997), *range(len(good) - 80, len(good), 7)]:
        path.write_bytes(good[:position] + bytes([good[position] ^ 4]) + good[position + 1 :])
        if position < len(good) - 71:  # before the word "sha256:"
            with pytest.raises(UserError):
                read_checkpoint(path)


# ---- the command line ----------------------------------------------------------------------------------------------


class Failing(Callback):
    """Fails before training, after the checkpoint has been restored."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        raise ValueError("of this callback")


def test_an_error_of_a_checkpoint_names_the_checkpoint_and_an_error_of_a_callback_does_not(start: Start) -> None:
    begun = start("run", "trainer.max_epochs=1", "scheduler=none", "callbacks=none")
    longer = compose_config(*TINY, *BLOCKS, "trainer.max_epochs=2", "scheduler=none", "callbacks=none")
    with pytest.raises(ValueError, match="of this callback"):
        train(longer, begun.folder, {}, resume=True, callbacks=[Failing()])
    other = compose_config(*TINY, *BLOCKS, "trainer.max_epochs=2", "scheduler=none", "callbacks=none", "model=mlp_4x64")
    with pytest.raises(UserError, match=r"last\.ckpt: does not fit this run"):
        train(other, begun.folder, {}, resume=True)


def test_resuming_a_complete_run_changes_nothing(train_py: Command, finished: Path) -> None:
    before = (finished / "result.json").read_bytes()
    done = train_py(f"resume={finished}")
    assert done.code == 0
    assert "nothing to do" in done.output
    assert (finished / "result.json").read_bytes() == before


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["optimizer.lr=0.5", "seed=3"], ["optimizer.lr=0.5", "0.001", "seed=3"]),
        (["model=cnn"], ["model"]),
        (["experiment=cnn"], ["experiment"]),
        (["+extra=1"], ["extra"]),
        (["trainer.max_epochs=3"], ["trainer.max_epochs=3", "cosine", "planned for 2"]),
        (["trainer.max_epochs=no"], ["trainer.max_epochs=no"]),
        (["trainer.precision=bf16-mixed"], ["trainer.precision"]),
        (["trainer.devices=2"], ["trainer.devices=2", "keeps its own (1)"]),
        (["hydra.run.dir=elsewhere"], ["hydra.run.dir"]),
        (["-m"], ["-m"]),
    ],
)
def test_a_change_that_resume_does_not_allow_is_an_error_with_its_reason(
    train_py: Command, finished: Path, overrides: list[str], named: list[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"}
    done = train_py(f"resume={finished}", *overrides)
    assert done.code == 1
    assert "Traceback" not in done.output
    for words in named:
        assert words in done.output
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"} == before


@pytest.mark.parametrize("folder", ["nowhere", ".", "[1]", "7"])
def test_resuming_a_folder_without_a_run_is_an_error(train_py: Command, tmp_path: Path, folder: str) -> None:
    done = train_py(f"resume={folder}")
    assert done.code == 1
    assert "not a run's folder" in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_printed_after_ctrl_c_resumes_the_run(tmp_path: Path) -> None:
    train_py = [sys.executable, str(PROJECT / "train.py")]
    short = ["callbacks=none", "trainer.max_epochs=300", "trainer.early_stopping_patience=30"]
    options = [*TINY, *short, "hydra.run.dir=a run"]
    run = subprocess.Popen([*train_py, *options], cwd=tmp_path, stdout=subprocess.PIPE, encoding="utf-8")
    assert run.stdout
    printed = ""
    while "epoch   3/" not in printed:
        printed += run.stdout.readline()
    second = subprocess.run(
        [*train_py, "resume=a run"], cwd=tmp_path, check=False, capture_output=True, encoding="utf-8"
    )
    assert second.returncode == 1
    assert "in use by a run that is still going" in second.stderr
    run.send_signal(signal.SIGINT)
    printed += run.stdout.read()
    assert run.wait() == 130
    (line,) = [line for line in printed.splitlines() if "Continue with: " in line]
    typed = line.split("Continue with: ")[1].replace("python ", f"{sys.executable} ", 1)  # works in any folder
    done = subprocess.run(typed, shell=True, cwd=tmp_path, check=False, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "a run" / "result.json").read_text(encoding="utf-8"))
    assert result["status"] == "completed"
    assert result["command"].endswith("trainer.early_stopping_patience=30")
    assert len(result["resumed"]) == 1


# ---- resume=auto -----------------------------------------------------------------------------------------------------


AUTO = [*TINY, "resume=auto", "hydra.run.dir=outputs/runs/run"]


def run_until_signal(folder: Path, *job: str) -> str:
    """Runs the job until its third epoch, then stops it as a cluster does. Returns what it printed."""
    run = launch(folder, *job, env=os.environ | OFFLINE)
    assert run.stdout
    printed = ""
    while len(re.findall("^epoch", printed, re.MULTILINE)) < 3 and (line := run.stdout.readline()):
        printed += line
    run.terminate()
    printed += run.communicate(timeout=100)[0]
    assert run.returncode == 143, printed
    return printed


@pytest.mark.slow
def test_a_repeated_command_with_resume_auto_starts_a_run_and_continues_it(tmp_path: Path) -> None:
    """A cluster that requeues a job repeats its command. Neither the options of a preset nor those of MNIST, which was
    not available, count as changes."""
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "long.yaml").write_text(
        "# @package _global_\ntrainer: {max_epochs: 2000}\n", encoding="utf-8"
    )
    job = ["--config-dir=own", "data=mnist", "model=mlp_128_64", "trainer=cpu", "experiment=long", *AUTO[-2:]]
    assert "resume  " not in run_until_signal(tmp_path, *job)
    result = tmp_path / "outputs" / "runs" / "run" / RESULT
    assert "resume" not in json.loads(result.read_text(encoding="utf-8"))["command"]
    assert re.search(r"^resume  .*last.ckpt: step \d+", run_until_signal(tmp_path, *job), re.MULTILINE)


def test_resume_auto_of_a_complete_run_changes_nothing(train_py: Command, tmp_path: Path) -> None:
    first = train_py(*AUTO)
    assert first.code == 0, first.output
    before = {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()}
    again = train_py(*AUTO)
    assert again.code == 0, again.output
    assert "There is nothing to do" in again.output
    assert {path: path.read_bytes() for path in first.folder.rglob("*") if path.is_file()} == before
    changed = train_py(*AUTO, "optimizer.lr=0.5")
    assert changed.code == 1
    assert "optimizer.lr=0.5: a resumed run keeps its own" in changed.output


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(AUTO[:-1], "add hydra.run.dir=FOLDER"), (["-m", *AUTO, "seed=0,1"], "continues one run; leave out -m")],
)
def test_resume_auto_needs_the_folder_of_one_run(
    train_py: Command, tmp_path: Path, arguments: list[str], named: str
) -> None:
    done = train_py(*arguments)
    assert done.code == 1
    assert named in done.output
    assert not (tmp_path / "outputs").exists()


def test_a_run_without_last_ckpt_that_resumes_at_its_end_has_it_again(run: Callable[..., Run]) -> None:
    """As after a disk that failed when the last epoch was saved."""
    done = run("trainer.max_epochs=1", "callbacks=none")
    last = done.folder / "checkpoints" / "last.ckpt"
    expected = weights_digest(load_classifier(last))
    last.unlink()
    result = train(compose_config(*TINY, "trainer.max_epochs=1", "callbacks=none"), done.folder, {}, resume=True)
    assert result["status"] == "completed"
    assert weights_digest(load_classifier(last)) == expected


AVERAGE = "{_target_: lightning.pytorch.callbacks.EMAWeightAveraging, decay: 0.5}"
TIMER = "{_target_: lightning.pytorch.callbacks.Timer}"


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ([f"+callbacks.average={AVERAGE}"], ["+callbacks.average=null"], "average"),
        ([], [f"+callbacks.average={AVERAGE}"], "average"),
        ([f"+callbacks.average={AVERAGE}"], ["callbacks=none"], "average"),
        ([f"+callbacks.average={AVERAGE}"], [f"+callbacks.other={TIMER}"], "other"),
        ([f"+callbacks.average={AVERAGE}"], ["callbacks.graph=false"], None),
        ([], ["callbacks=all"], None),
    ],
)
def test_a_resumed_run_keeps_its_callback_classes(
    before: list[str], after: list[str], named: str | None, tmp_path: Path
) -> None:
    write_config(tmp_path, compose_config(*TINY, "scheduler=none", *before))
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        composed = OmegaConf.to_container(compose("train", after), resolve=True)
    assert isinstance(composed, dict)
    longer = [*after, "trainer.max_epochs=9"]
    composed["trainer"]["max_epochs"] = 9
    if named is None:
        assert resumed_config(tmp_path, longer, composed).trainer.max_epochs == 9
        return
    with pytest.raises(UserError, match=f"callbacks.*{named}"):
        resumed_config(tmp_path, longer, composed)


class FailsToSave(Callback):
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        raise IndexError("no such epoch")


def test_an_error_of_writing_a_checkpoint_is_not_one_of_the_old_checkpoint(run: Callable[..., Run]) -> None:
    done = run("scheduler=none")
    longer = compose_config(*TINY, "scheduler=none", "trainer.max_epochs=3")
    with pytest.raises(IndexError, match="no such epoch"):
        train(longer, done.folder, {}, resume=True, callbacks=[FailsToSave()])


def test_no_warning_of_changed_weights_after_a_resume_at_the_end(
    run: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    options = ["scheduler=none", f"+callbacks.average={AVERAGE}"]
    done = run(*options)
    result = train(compose_config(*TINY, *options), done.folder, {}, resume=True)
    assert result["test_acc"] == done.result["test_acc"]
    assert "has changed the weights" not in caplog.text


class ChangesAtTheEnd(Callback):
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        next(pl_module.parameters()).data.add_(1)


def test_a_warning_of_changed_weights_after_a_resume_that_trains(
    run: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    done = run("scheduler=none")
    longer = compose_config(*TINY, "scheduler=none", "trainer.max_epochs=3")
    train(longer, done.folder, {}, resume=True, callbacks=[ChangesAtTheEnd()])
    assert "has changed the weights" in caplog.text


class Requeued(Callback):
    """As submitit does in a job that Slurm stops and starts again."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        exec(compile("import sys\nsys.exit(-1)", "job_environment.py", "exec"), {"__name__": "submitit.core"})


def test_a_job_that_slurm_starts_again_is_interrupted(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        train(compose_config(*TINY), tmp_path, {}, callbacks=[Requeued()])
    assert read_result(tmp_path)["status"] == "interrupted"


@pytest.mark.parametrize("option", ["patience=1", "stopping_threshold=0.3"])
def test_the_decision_of_an_own_early_stopping_lasts(run: Callable[..., Run], option: str) -> None:
    """As after Ctrl-C in the final test."""
    stop = ["_target_=lightning.pytorch.callbacks.EarlyStopping", "monitor=val_acc", "mode=max", option]
    options = ["trainer.max_epochs=30", "scheduler=none", *(f"+callbacks.stop.{it}" for it in stop)]
    done = run(*options)
    assert done.result["epochs"] < 30
    before = weights_digest(load_classifier(done.folder / CHECKPOINTS / LAST))
    again = train(compose_config(*TINY, *options), done.folder, {}, resume=True)
    assert again["epochs"] == done.result["epochs"]
    assert weights_digest(load_classifier(done.folder / CHECKPOINTS / LAST)) == before
