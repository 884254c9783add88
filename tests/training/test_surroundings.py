"""Signals at any moment, losses that explode, checkpoints from strangers."""

import json
import os
import pickle
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from mnist_lit.cli import app
from mnist_lit.errors import UserError
from mnist_lit.models.meter import LossNotFinite
from mnist_lit.training.checkpoints import load_classifier, read_checkpoint, weights_digest
from mnist_lit.training.run import train
from tests.conftest import TINY, Outcome, Run, compose_config, launch

Start = Callable[..., Run]
Command = Callable[..., Outcome]
LONG = [*TINY, "callbacks=none", "trainer.max_epochs=300", "hydra.run.dir=run"]


# ---- signals -------------------------------------------------------------------------------------------------------


FROM_HANDLERS_ON = """
import runpy, sys
from mnist_lit.signals import on_signals, stop_dead
on_signals(stop_dead)
print("listening", flush=True)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_starting_up_ends_it_without_a_traceback(tmp_path: Path, signum: int) -> None:
    codes = []
    for number, delay in enumerate((0.0, 0.1, 0.3, 0.7, 1.5, 2.5)):
        run = launch(tmp_path, *LONG, f"hydra.run.dir=run{number}", code=FROM_HANDLERS_ON)
        assert run.stdout
        assert run.stdout.readline() == "listening\n"
        time.sleep(delay)
        run.send_signal(signum)
        printed, _ = run.communicate(timeout=100)
        codes.append(run.returncode)
        assert "Traceback" not in printed, printed
        assert "stopped by" in printed or "interrupted at" in printed
    assert codes == [128 + signum] * len(codes)


SLOW = """
import runpy, sys, time
from mnist_lit.signals import on_signals, stop
on_signals(stop)
from mnist_lit.models import DigitClassifier
for stage in ("validation", "test"):
    step = getattr(DigitClassifier, f"{stage}_step")
    def slow(self, batch, batch_idx, step=step, stage=stage):
        if self.trainer.state.fn != "fit" or not self.trainer.sanity_checking:
            print(f"in {stage} of {self.trainer.state.fn.value}", flush=True)
            for _ in range(20):
                time.sleep(0.1)
        return step(self, batch, batch_idx)
    setattr(DigitClassifier, f"{stage}_step", slow)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("stage", ["validation of fit", "validation of validate", "test of test"])
def test_a_signal_in_validation_or_test_ends_the_run_too(tmp_path: Path, stage: str) -> None:
    run = launch(tmp_path, *TINY, "trainer.max_epochs=1", "hydra.run.dir=run", code=SLOW)
    assert run.stdout
    printed = ""
    while f"in {stage}" not in printed:
        line = run.stdout.readline()
        assert line, printed
        printed += line
    run.send_signal(signal.SIGTERM)
    rest, _ = run.communicate(timeout=100)
    assert run.returncode == 143, printed + rest
    assert "Traceback" not in rest
    assert "train.py resume=" in rest
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "interrupted"


# ---- losses --------------------------------------------------------------------------------------------------------


def test_an_exploding_loss_stops_the_run_and_keeps_the_last_good_checkpoint(command: Command, tmp_path: Path) -> None:
    done = command(*TINY, "optimizer=sgd", "optimizer.lr=1e9", "data.batch_size=8", "hydra.run.dir=run")
    assert done.code == 1
    assert "Traceback" not in done.output
    for words in ("at step", "optimizer.lr", "trainer.gradient_clip_val"):
        assert words in done.output
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "failed"


def test_weights_that_are_not_finite_are_never_saved(run: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from mnist_lit.models import DigitClassifier

    original = DigitClassifier.training_step

    def explode(self: DigitClassifier, *arguments: Any) -> None:
        original(self, *arguments)
        if self.trainer.current_epoch == 1:
            with torch.no_grad():
                next(self.parameters()).fill_(float("nan"))

    monkeypatch.setattr(DigitClassifier, "training_step", explode)
    with pytest.raises(LossNotFinite, match="step 40"):
        run("trainer.steps_per_execution=20")


# ---- strangers -----------------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("bombed",)


def bomb(good: dict[str, Any]) -> Any:
    return good | {"state_dict": Bomb()}


def other_project(good: dict[str, Any]) -> Any:
    return {"model": good["state_dict"], "epoch": 3}


def only_weights(good: dict[str, Any]) -> Any:
    return {name: good[name] for name in ("network", "state_dict", "hyper_parameters")} | {"state_dict": {}}


def wrong_shapes(good: dict[str, Any]) -> Any:
    return good | {"hyper_parameters": good["hyper_parameters"] | {"hidden": [3]}}


def of_a_function(good: dict[str, Any]) -> Any:
    return good | {"network": "os.mkdir", "hyper_parameters": {"path": "bombed"}}


def of_nothing(good: dict[str, Any]) -> Any:
    return good | {"network": 7, "hyper_parameters": [1, 2]}


def a_list(good: dict[str, Any]) -> Any:
    return [good["state_dict"]]


@pytest.mark.parametrize(
    "forge",
    [bomb, other_project, only_weights, wrong_shapes, of_a_function, of_nothing, a_list],
    ids=lambda f: f.__name__,
)
def test_a_strangers_checkpoint_is_one_clear_error_and_is_not_run(
    forge: Callable[[dict[str, Any]], Any], run: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run()
    forged = forge(read_checkpoint(done.folder / "checkpoints" / "best.ckpt"))
    for name in ("best.ckpt", "last.ckpt", "previous.ckpt"):
        torch.save(forged, done.folder / "checkpoints" / name)
    with pytest.raises(UserError, match=r"\.ckpt|model\._target_"):
        load_classifier(done.folder / "checkpoints" / "best.ckpt")
    outcome = CliRunner().invoke(app, ["evaluate", str(done.folder)])
    assert isinstance(outcome.exception, UserError)
    with pytest.raises(UserError, match="checkpoint"):
        train(compose_config(*TINY), done.folder, {}, resume=True)
    assert not (tmp_path / "bombed").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"PK\x03\x04", pickle.dumps({"a": 1}), os.urandom(5000)])
def test_a_file_that_is_no_checkpoint_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.ckpt: not a checkpoint"):
        load_classifier(tmp_path / "x.ckpt")


def test_digests_tell_networks_apart_by_one_bit() -> None:
    one, other = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    other.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(other)
    other.weight.data.view(torch.int32)[0, 0] ^= 1
    assert weights_digest(one) != weights_digest(other)
