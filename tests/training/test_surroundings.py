"""Signals at any time, losses and weights that are not finite, and foreign checkpoints."""

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
from mnist_lit.models.checkpoint_file import load_classifier, read_checkpoint, weights_digest
from mnist_lit.run_folder import BEST, CHECKPOINTS, LAST, PREVIOUS
from mnist_lit.training.run import train
from mnist_lit.training.step import LossNotFinite
from tests.configs import compose_config
from tests.conftest import TINY, Outcome, Run, launch
from tests.selection import slow_except

Start = Callable[..., Run]
Command = Callable[..., Outcome]
LONG = [*TINY, "callbacks=none", "trainer.max_epochs=300", "hydra.run.dir=run"]


# ---- signals -------------------------------------------------------------------------------------------------------


START_UP = """
import runpy, sys
from mnist_lit.process import set_signal_handler, exit_on_signal
set_signal_handler(exit_on_signal)
print("listening", flush=True)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_start_up_ends_the_run_without_a_traceback(tmp_path: Path, signum: int) -> None:
    codes = []
    for number, delay in enumerate((0.0, 0.1, 0.3, 0.7, 1.5, 2.5)):
        run = launch(tmp_path, *LONG, f"hydra.run.dir=run{number}", code=START_UP)
        assert run.stdout
        assert run.stdout.readline() == "listening\n"
        time.sleep(delay)
        run.send_signal(signum)
        printed, _ = run.communicate(timeout=100)
        codes.append(run.returncode)
        assert "Traceback" not in printed, printed
        assert "stopped by" in printed or "interrupted at" in printed
    assert codes == [128 + signum] * len(codes)


SLOW_STEPS = """
import runpy, sys, time
from mnist_lit.process import set_signal_handler, raise_on_signal
set_signal_handler(raise_on_signal)
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


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["validation of fit", "validation of validate", "test of test"])
def test_a_signal_during_validation_or_test_ends_the_run(tmp_path: Path, stage: str) -> None:
    run = launch(tmp_path, *TINY, "trainer.max_epochs=1", "hydra.run.dir=run", code=SLOW_STEPS)
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
    assert json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["status"] == "interrupted"


# ---- losses --------------------------------------------------------------------------------------------------------


def test_a_diverging_loss_stops_the_run_with_one_clear_error(train_py: Command, tmp_path: Path) -> None:
    done = train_py(*TINY, "optimizer=sgd", "optimizer.lr=1e9", "data.batch_size=8", "hydra.run.dir=run")
    assert done.code == 1
    assert "Traceback" not in done.output
    for words in ("at step", "optimizer.lr", "trainer.gradient_clip_val"):
        assert words in done.output
    assert json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["status"] == "failed"


def test_weights_that_are_not_finite_stop_the_run_and_are_not_saved(
    run: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnist_lit.models import DigitClassifier

    original = DigitClassifier.training_step

    def explode(self: DigitClassifier, *arguments: Any) -> None:
        original(self, *arguments)
        if self.trainer.current_epoch == 1:
            with torch.no_grad():
                next(self.parameters()).fill_(float("nan"))

    monkeypatch.setattr(DigitClassifier, "training_step", explode)
    for name, options, step in (
        ("at_the_end", ["trainer.steps_per_execution=20"], 40),
        ("in_an_epoch", ["trainer.steps_per_execution=5", "checkpoint.every_seconds=0.000001"], 25),
    ):
        with pytest.raises(LossNotFinite, match=f"step {step}"):
            run(*options, name=name)
        saved = [read_checkpoint(path) for path in (tmp_path / name / "checkpoints").glob("*.ckpt")]
        assert max(checkpoint["global_step"] for checkpoint in saved) == 20
        for checkpoint in saved:
            assert all(weights.isfinite().all() for weights in checkpoint["state_dict"].values())


# ---- foreign checkpoints -------------------------------------------------------------------------------------------


class PickleBomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("bombed",)


def pickle_bomb(good: dict[str, Any]) -> Any:
    return good | {"state_dict": PickleBomb()}


def foreign_keys(good: dict[str, Any]) -> Any:
    return {"model": good["state_dict"], "epoch": 3}


def no_weights(good: dict[str, Any]) -> Any:
    return {name: good[name] for name in ("network", "state_dict", "hyper_parameters")} | {"state_dict": {}}


def wrong_shapes(good: dict[str, Any]) -> Any:
    return good | {"hyper_parameters": good["hyper_parameters"] | {"hidden": [3]}}


def function_as_network(good: dict[str, Any]) -> Any:
    return good | {"network": "os.mkdir", "hyper_parameters": {"path": "bombed"}}


def number_as_network(good: dict[str, Any]) -> Any:
    return good | {"network": 7, "hyper_parameters": [1, 2]}


def plain_list(good: dict[str, Any]) -> Any:
    return [good["state_dict"]]


@pytest.mark.parametrize(
    "forge",
    slow_except(
        [pickle_bomb, foreign_keys, no_weights, wrong_shapes, function_as_network, number_as_network, plain_list],
        pickle_bomb,
        wrong_shapes,
    ),
    ids=lambda f: f.__name__,
)
def test_a_foreign_checkpoint_is_one_clear_error_and_runs_no_code(
    forge: Callable[[dict[str, Any]], Any], run: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run()
    forged = forge(read_checkpoint(done.folder / CHECKPOINTS / BEST))
    for name in (BEST, LAST, PREVIOUS):
        torch.save(forged, done.folder / CHECKPOINTS / name)
    with pytest.raises(UserError, match=r"\.ckpt|model\._target_"):
        load_classifier(done.folder / CHECKPOINTS / BEST)
    outcome = CliRunner().invoke(app, ["evaluate", str(done.folder)])
    assert isinstance(outcome.exception, UserError)
    with pytest.raises(UserError, match="checkpoint"):
        train(compose_config(*TINY), done.folder, {}, resume=True)
    assert not (tmp_path / "bombed").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"PK\x03\x04", pickle.dumps({"a": 1}), os.urandom(5000)])
def test_a_file_that_is_no_checkpoint_is_one_clear_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.ckpt: not a checkpoint"):
        load_classifier(tmp_path / "x.ckpt")


def test_one_changed_bit_changes_the_digest_of_the_weights() -> None:
    one, other = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    other.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(other)
    other.weight.data.view(torch.int32)[0, 0] ^= 1
    assert weights_digest(one) != weights_digest(other)
