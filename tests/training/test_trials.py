"""Shorter runs and other beginnings: limits, accumulation, fast_dev_run, tags, init_from."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_lit import DIGITS
from mnist_lit.build import build_data, build_model
from mnist_lit.errors import UserError
from mnist_lit.evaluation.run_evaluation import evaluate_run
from mnist_lit.models.checkpoint_file import (
    load_classifier,
    network_weights,
    read_checkpoint,
    read_initial_weights,
    weights_digest,
    write_checkpoint,
)
from mnist_lit.run_folder import BEST, CHECKPOINTS, LAST
from mnist_lit.training.run import train
from tests.configs import compose_config
from tests.conftest import TINY, Outcome, Run

Start = Callable[..., Run]
Script = Callable[..., Outcome]


def digest(run: Run, name: str = LAST) -> str:
    return weights_digest(load_classifier(run.folder / CHECKPOINTS / name))


def test_limits_shorten_each_part_and_the_result_says_so(run: Start) -> None:
    limits = {"trainer.limit_train_batches": 0.5, "trainer.limit_val_batches": 1, "trainer.limit_test_batches": 2}
    done = run(*(f"{option}={limit}" for option, limit in limits.items()))
    assert done.result["limited"] == limits
    assert done.result["global_step"] == 2 * 10
    assert done.result["data"]["test_size"] == 2 * 64
    assert float(done.result["val_acc"]) * 64 == pytest.approx(round(done.result["val_acc"] * 64), abs=1e-3)
    assert evaluate_run(done.folder).samples == 2 * 64
    curve = read_scalars(done, "vs_samples/val_acc")
    assert [samples for samples, _ in curve] == [10 * 64, 2 * 10 * 64]


def test_each_limited_epoch_has_other_images() -> None:
    data = build_data(compose_config(*TINY, "trainer.limit_train_batches=3"))
    loader = data.train_dataloader()
    epochs = []
    for epoch in range(2):
        loader.set_epoch(epoch)
        epochs.append({image.numpy().tobytes() for images, _ in loader for image in images})
        assert len(epochs[-1]) == 3 * 64
    assert len(epochs[0] & epochs[1]) < 64


def test_two_accumulated_batches_are_one_batch_of_twice_the_size(run: Start) -> None:
    """38 batches of 32, or 19 of 64: the same images, in the same order."""
    common = ["optimizer=sgd", "scheduler=cosine"]
    small = ["data.batch_size=32", "trainer.limit_train_batches=38", "trainer.accumulate_grad_batches=2"]
    accumulated = run(*common, *small, name="a")
    in_blocks = run(*common, *small, "trainer.steps_per_execution=1", name="b")
    large = run(*common, "trainer.limit_train_batches=19", name="c")
    assert accumulated.result["global_step"] == large.result["global_step"] == 2 * 19
    assert digest(accumulated) == digest(in_blocks)
    one, other = (load_classifier(it.folder / CHECKPOINTS / LAST).state_dict() for it in (accumulated, large))
    for name, weights in one.items():
        torch.testing.assert_close(weights, other[name], rtol=0, atol=1e-5)
    curves = [
        [float(row["train_loss_epoch"]) for row in read_metrics(it) if row["train_loss_epoch"]]
        for it in (accumulated, large)
    ]
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)


def test_a_fast_dev_run_tries_every_part_and_leaves_no_checkpoint(script: Script, tmp_path: Path) -> None:
    done = script(*TINY, "trainer.fast_dev_run=true", "callbacks=all", "hydra.run.dir=trial")
    assert done.code == 0, done.output
    assert "fast_dev_run: one batch of training, validation and test worked" in done.output
    result = json.loads((tmp_path / "trial/result.json").read_text(encoding="utf-8"))
    assert (result["status"], result["global_step"]) == ("fast_dev_run", 1)
    assert not {"test_acc", "val_acc", "best_epoch"} & set(result)
    files = {path.name for path in (tmp_path / "trial").iterdir()}
    assert files <= {"config.yaml", "result.json", "train.log", ".hydra", ".lock"}
    for arguments, words in (
        (["resume=trial"], "leaves no checkpoint"),
        (["resume=trial", "trainer.fast_dev_run=true"], "leaves no checkpoint"),
        (["-m", *TINY, "seed=0,1", "trainer.fast_dev_run=true"], "leave out -m"),
    ):
        refused = script(*arguments)
        assert refused.code == 1
        assert words in refused.output


def test_tags_are_in_the_result_and_in_the_dashboard(run: Start) -> None:
    done = run("tags=[lecture,first-try]", "callbacks.hparams=true")
    assert done.result["tags"] == ["lecture", "first-try"]
    events = EventAccumulator(str(done.folder))
    events.Reload()
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"lecture, first-try" in content


class FirstWeights(Callback):
    digest = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.digest = weights_digest(pl_module)


def test_a_run_starts_from_the_best_weights_of_another(run: Start, tmp_path: Path) -> None:
    other, first = run("trainer.max_epochs=3"), FirstWeights()
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    config = compose_config(*TINY, f"init_from={other.folder}", "seed=1")
    result = train(config, tuned, {}, callbacks=[first])
    assert first.digest == digest(other, BEST) != digest(Run(tuned, result))
    assert result["global_step"] == 40


@pytest.mark.slow
def test_a_run_from_other_weights_resumes_from_its_own(run: Start) -> None:
    other, first = run(), FirstWeights()
    options = [f"init_from={other.folder}", "scheduler=none"]
    tuned = run(*options, name="tuned")
    own = digest(tuned)
    train(compose_config(*TINY, *options, "trainer.max_epochs=3"), tuned.folder, {}, resume=True, callbacks=[first])
    assert first.digest == own != digest(other, BEST)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=cnn"], ["MLP(output=logits, hidden=[128, 64]", "CNN(output=logits"]),
        (["model.hidden=[64]"], ["hidden=[128, 64]", "hidden=[64]"]),
        (["data=fashion_mnist"], ["has other classes", "0, 1, 2", "T-shirt"]),
    ],
    ids=["network", "sizes", "classes"],
)
def test_other_weights_have_to_fit(
    overrides: list[str], words: list[str], finished: Path, script: Script, tmp_path: Path
) -> None:
    done = script(*TINY, f"init_from={finished}", *overrides, "hydra.run.dir=new")
    assert done.code == 1
    for word in (f"init_from={finished}", *words):
        assert word in done.output
    assert not (tmp_path / "new").exists()


def read_metrics(run: Run) -> list[dict[str, str]]:
    with (run.folder / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def read_scalars(run: Run, tag: str) -> list[tuple[int, float]]:
    events = EventAccumulator(str(run.folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


@pytest.mark.slow
def test_a_run_from_other_weights_resumes_without_the_other_run(script: Script, run: Start, tmp_path: Path) -> None:
    other = run()
    tuned = [*TINY, f"init_from={other.folder}", "scheduler=none", "hydra.run.dir=tuned"]
    assert script(*tuned).code == 0
    shutil.rmtree(other.folder)
    done = script("resume=tuned", "trainer.max_epochs=3")
    assert done.code == 0, done.output
    again = script(*tuned[:-1], "hydra.run.dir=again")
    assert again.code == 1
    assert f"init_from={other.folder}: there is no such run or checkpoint" in again.output


@pytest.mark.slow
def test_a_preset_of_ones_own_that_tries_one_run_is_no_job_of_a_sweep(script: Script, tmp_path: Path) -> None:
    folder = tmp_path / "own" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# @package _global_\ntrainer: {fast_dev_run: true}\n", encoding="utf-8")
    done = script("--config-dir", "own", "-m", *TINY, "experiment=mine", "seed=0,1")
    assert done.code == 1
    assert "trainer.fast_dev_run=true: tries one run; leave out -m" in done.output
    assert not (tmp_path / "outputs").exists()


def test_weights_of_other_names_or_shapes_are_an_error(run: Start) -> None:
    """As after a change of a network's class, whose options stay the same."""
    best = run().folder / CHECKPOINTS / BEST
    model = build_model(compose_config(*TINY), steps_per_epoch=1)
    checkpoint = read_checkpoint(best)
    name = next(iter(network_weights(checkpoint["state_dict"])))
    for change in ({f"{name}_old": torch.zeros(1)}, {name: torch.zeros(3, 3)}):
        changed = {key: value for key, value in checkpoint["state_dict"].items() if key != name} | change
        with best.open("wb") as stream:
            write_checkpoint(checkpoint | {"state_dict": changed}, stream)
        with pytest.raises(UserError, match="its weights do not fit this network"):
            read_initial_weights(best, model, DIGITS)
