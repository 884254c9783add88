"""A run that was stopped, anywhere and in any way, and resumed, is the run that never stopped."""

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
from lightning.pytorch.trainer.states import TrainerFn
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from mnist_lit.errors import UserError
from mnist_lit.models import DigitClassifier
from mnist_lit.signals import RunInterrupted
from mnist_lit.training import checkpoints
from mnist_lit.training.checkpoints import load_classifier, read_checkpoint, weights_digest
from mnist_lit.training.run import train
from tests.conftest import PROJECT, TINY, Outcome, Run, compose_config

Start = Callable[..., Run]
Command = Callable[..., Outcome]
BLOCKS = ["trainer.steps_per_execution=3", "trainer.log_every_n_steps=8"]  # 20 steps an epoch: 7 blocks, the last of 2


class Crash(BaseException):
    """Ends a run with nothing saved, as a kill does."""


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def crash() -> None:
    raise Crash


@contextmanager
def stopping(monkeypatch: pytest.MonkeyPatch, hook: str, call: int, stop: Callable[[], None]) -> Iterator[None]:
    """Within it, `stop` is called in the `call`-th fit call of a network's hook."""
    original, calls = getattr(DigitClassifier, hook), 0

    def counting(self: DigitClassifier, *arguments: Any) -> Any:
        nonlocal calls
        calls += self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking
        if calls == call:
            calls += 1
            stop()
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(DigitClassifier, hook, counting)
        yield


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    def start(name: str, *overrides: str, resume: bool = False) -> Run:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        # TensorBoard orders a run's files by the second, then by their number in the process, as text: 10 before 9.
        time.sleep(1 - time.time() % 1 if resume else 0)
        monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
        config = compose_config(*TINY, *BLOCKS, "trainer.max_epochs=3", *overrides)
        return Run(folder, train(config, folder, {"command": "python train.py"}, resume=resume))

    return start


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """The same run without a stop; each is made once."""

    @functools.cache
    def whole(*overrides: str) -> Run:
        folder = tmp_path_factory.mktemp("whole")
        return Run(folder, train(compose_config(*TINY, *BLOCKS, "trainer.max_epochs=3", *overrides), folder, {}))

    return whole


def assert_same(one: Path, other: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        first, second = (load_classifier(folder / "checkpoints" / name) for folder in (one, other))
        assert weights_digest(first) == weights_digest(second), name
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()
    with np.load(one / "test_predictions.npz") as first, np.load(other / "test_predictions.npz") as second:
        for name in first.files:
            assert np.array_equal(first[name], second[name]), name
    assert curves(one) == curves(other)


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


COMBINATIONS = [
    ("mlp_128_64", "sgd", "none"),
    ("mlp_4x64", "adam", "cosine"),
    ("cnn", "adamw", "onecycle"),
    ("mlp_128_64", "adagrad", "step"),
    ("mlp_4x64", "rmsprop", "onecycle"),
    ("dropout", "adam", "onecycle"),
    ("dropout", "sgd", "cosine"),
    ("augmented", "sgd", "step"),
    ("convnet", "adamw", "onecycle"),
]


def chosen(model: str, optimizer: str, scheduler: str) -> list[str]:
    dropout = ["model=cnn", "~model.activation", "+model.width=24", "model._target_=benchmarks.dropout.Dropout"]
    models = {
        "dropout": dropout,
        "augmented": ["data.augment={rotation: 10.0, shift: 2.0, scale: 0.1, stroke: 0.5, noise: 0.1}"],
        "convnet": ["model=convnet", "model.channels=[4,8]", "model.dropout=0.3"],
    }.get(model, [f"model={model}"])
    return [*models, f"optimizer={optimizer}", f"scheduler={scheduler}"]


@pytest.mark.parametrize("combination", COMBINATIONS, ids="-".join)
def test_interrupted_in_mid_epoch_twice(
    combination: tuple[str, str, str],
    start: Start,
    undisturbed: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = chosen(*combination)
    whole = undisturbed(*options)
    caplog.set_level(logging.INFO)
    for call, resume in ((3, False), (7, True)):  # the second stop is in the second epoch
        with stopping(monkeypatch, "training_step", call, interrupt), pytest.raises(RunInterrupted):
            start("stopped", *options, resume=resume)
    resumed = start("stopped", *options, resume=True)
    assert_same(whole.folder, resumed.folder)
    assert resumed.result["global_step"] == whole.result["global_step"] == 60
    assert resumed.result["status"] == "completed"
    assert "error" not in resumed.result
    epochs = re.findall(r"epoch \d/\d .* ([\d.]+) s$", caplog.text, re.MULTILINE)
    assert len(epochs) == 3, "each is told once"
    assert max(map(float, epochs)) < 100


PLACES = [
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


@pytest.mark.parametrize("stop", [interrupt, crash], ids=lambda stop: stop.__name__)
@pytest.mark.parametrize(("hook", "call"), PLACES)
def test_stopped_anywhere(
    hook: str,
    call: int,
    stop: Callable[[], None],
    start: Start,
    undisturbed: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = [*chosen("dropout", "adam", "cosine"), "checkpoint.every_seconds=0.000001"]
    whole = undisturbed(*options)
    with stopping(monkeypatch, hook, call, stop), pytest.raises((RunInterrupted, Crash)):
        start("stopped", *options)
    assert_same(whole.folder, start("stopped", *options, resume=True).folder)


@pytest.mark.parametrize("call", [1, 4, 7])
def test_a_crash_loses_no_more_than_the_epoch(
    call: int, start: Start, undisturbed: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = chosen("dropout", "adam", "cosine")
    whole = undisturbed(*options)
    with stopping(monkeypatch, "training_step", 7 + call, crash), pytest.raises(Crash):
        start("stopped", *options)
    assert read_checkpoint(tmp_path / "stopped" / "checkpoints" / "last.ckpt")["global_step"] == 20
    assert_same(whole.folder, start("stopped", *options, resume=True).folder)


def test_early_stopping_counts_on(start: Start, undisturbed: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [
        *chosen("dropout", "sgd", "none"),
        "optimizer.lr=0.3",
        "trainer.max_epochs=60",
        "trainer.early_stopping_patience=2",
    ]
    whole = undisturbed(*options)
    epochs = whole.result["epochs"]
    assert 3 < epochs < 60
    assert epochs - whole.result["best_epoch"] == 2
    for call, resume in ((epochs - 1, False), (1, True)):  # the second time after the last epoch
        with stopping(monkeypatch, "on_train_epoch_end", call, interrupt), pytest.raises(RunInterrupted):
            start("stopped", *options, resume=resume)
    assert_same(whole.folder, start("stopped", *options, resume=True).folder)


def test_a_longer_run_is_the_same_whether_planned_or_not(start: Start, undisturbed: Start) -> None:
    options = chosen("dropout", "adam", "step")
    whole = undisturbed(*options, "trainer.max_epochs=4")
    start("longer", *options, "trainer.max_epochs=2")
    longer = start("longer", *options, "trainer.max_epochs=4", resume=True)
    for name in ("last.ckpt", "best.ckpt"):
        digests = [weights_digest(load_classifier(run.folder / "checkpoints" / name)) for run in (whole, longer)]
        assert digests[0] == digests[1]
    assert longer.result["epochs"] == 4


def test_a_run_may_be_moved_between_stop_and_resumption(
    start: Start, undisturbed: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = undisturbed()
    with stopping(monkeypatch, "training_step", 16, interrupt), pytest.raises(RunInterrupted):
        start("here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert_same(whole.folder, start("there", resume=True).folder)
    assert not (tmp_path / "here").exists()


def test_times_and_commands_accumulate(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with stopping(monkeypatch, "training_step", 16, interrupt), pytest.raises(RunInterrupted):
        start("stopped")
    before = json.loads((tmp_path / "stopped" / "result.json").read_text())
    after = start("stopped", resume=True).result
    assert before["status"] == "interrupted"
    assert after["fit_seconds"] > before["fit_seconds"] > 0
    assert after["command"] == "python train.py"
    assert len(after["resumed"]) == 1


# ---- the checkpoints themselves ------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20_000])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty, Path.unlink])
def test_a_damaged_checkpoint_is_noticed_and_the_one_before_taken(
    damage: Callable[[Path], None],
    start: Start,
    undisturbed: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    options = chosen("dropout", "adam", "cosine")
    whole = undisturbed(*options)
    with stopping(monkeypatch, "training_step", 18, interrupt), pytest.raises(RunInterrupted):
        start("stopped", *options)
    folder = tmp_path / "stopped" / "checkpoints"
    damage(folder / "last.ckpt")
    caplog.clear()
    assert_same(whole.folder, start("stopped", *options, resume=True).folder)
    if damage is not Path.unlink:
        assert "last.ckpt" in caplog.text
        assert "one before" in caplog.text
        assert (folder / "last.ckpt.damaged").exists()


def test_of_two_ranks_that_find_the_same_damage_one_sets_it_aside(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = start("run").folder / "checkpoints"
    flip_a_bit(folder / "last.ckpt")
    read = checkpoints.read_checkpoint

    def read_as_another_rank_does(path: Path) -> dict[str, Any]:
        try:
            return read(path)
        except UserError:
            path.rename(path.with_name(f"{path.name}.damaged"))
            raise

    monkeypatch.setattr(checkpoints, "read_checkpoint", read_as_another_rank_does)
    assert checkpoints.recover_checkpoint(folder) == folder / "previous.ckpt"
    assert (folder / "last.ckpt.damaged").exists()


def test_when_no_checkpoint_can_be_read_that_is_the_error(start: Start) -> None:
    done = start("run")
    for path in (done.folder / "checkpoints").iterdir():
        flip_a_bit(path)
    with pytest.raises(UserError, match="none of the run's checkpoints can be read"):
        start("run", "scheduler=none", resume=True)


def test_every_bit_is_covered_by_the_checksum(start: Start) -> None:
    path = start("run", "model.hidden=[1]").folder / "checkpoints" / "last.ckpt"
    good = path.read_bytes()
    for position in [*range(0, len(good) - 80, 997), *range(len(good) - 80, len(good), 7)]:
        path.write_bytes(good[:position] + bytes([good[position] ^ 4]) + good[position + 1 :])
        if position < len(good) - 71:  # before the word "sha256:"
            with pytest.raises(UserError):
                read_checkpoint(path)


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    command = [sys.executable, str(PROJECT / "train.py"), *TINY, "hydra.run.dir=run"]
    assert subprocess.run(command, cwd=folder, check=False, capture_output=True).returncode == 0
    return folder / "run"


def test_a_complete_run_has_nothing_to_do(command: Command, finished: Path) -> None:
    before = (finished / "result.json").read_bytes()
    done = command(f"resume={finished}")
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
def test_what_may_not_change_is_refused_with_the_reason(
    command: Command, finished: Path, overrides: list[str], named: list[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"}
    done = command(f"resume={finished}", *overrides)
    assert done.code == 1
    assert "Traceback" not in done.output
    for words in named:
        assert words in done.output
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.name != ".lock"} == before


@pytest.mark.parametrize("folder", ["nowhere", ".", "[1]", "7"])
def test_a_folder_that_holds_no_run_is_named(command: Command, tmp_path: Path, folder: str) -> None:
    done = command(f"resume={folder}")
    assert done.code == 1
    assert "not a run's folder" in done.output
    assert not list(tmp_path.iterdir())


def test_the_command_printed_after_ctrl_c_goes_on_with_the_run(tmp_path: Path) -> None:
    train_py = [sys.executable, str(PROJECT / "train.py")]
    short = ["callbacks=none", "trainer.max_epochs=300", "trainer.early_stopping_patience=30"]
    options = [*TINY, *short, "hydra.run.dir=a run"]
    run = subprocess.Popen([*train_py, *options], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert run.stdout
    printed = ""
    while "epoch   3/" not in printed:
        printed += run.stdout.readline()
    second = subprocess.run([*train_py, "resume=a run"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert second.returncode == 1
    assert "held by a run that is still going" in second.stderr
    run.send_signal(signal.SIGINT)
    printed += run.stdout.read()
    assert run.wait() == 130
    (line,) = [line for line in printed.splitlines() if "Go on with: " in line]
    typed = line.split("Go on with: ")[1].replace("python ", f"{sys.executable} ", 1)  # from any folder
    done = subprocess.run(typed, shell=True, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "a run" / "result.json").read_text())
    assert result["status"] == "completed"
    assert result["command"].endswith("trainer.early_stopping_patience=30")
    assert len(result["resumed"]) == 1
