"""A run writes its folder and repeats bit for bit. Its results do not depend on the sizes of blocks and batches."""

import csv
import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_lit.build import build_data, build_model
from mnist_lit.config import parse_config
from mnist_lit.errors import UserError
from mnist_lit.evaluation.run_evaluation import evaluate_run
from mnist_lit.models import MLP
from mnist_lit.models.checkpoint_file import load_classifier, read_checkpoint, weights_digest
from mnist_lit.reports.run_reader import read_run
from mnist_lit.run_folder import BEST, CHECKPOINTS, LAST, TRIAL
from mnist_lit.training.callbacks import RandomState, check_finite
from mnist_lit.training.devices import auto_steps_per_execution, useful_threads
from mnist_lit.training.run import train
from mnist_lit.training.step import LossNotFinite
from tests.configs import compose_config
from tests.conftest import TINY, Run
from tests.selection import mark_slow, slow_except

Start = Callable[..., Run]


def digest(run: Run) -> str:
    return weights_digest(load_classifier(run.folder / CHECKPOINTS / LAST))


def read_metrics(run: Run) -> list[dict[str, str]]:
    with (run.folder / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_folder_holds_the_result_and_the_config(run: Start) -> None:
    done = run("seed=3")
    result = json.loads((done.folder / "result.json").read_text(encoding="utf-8"))
    assert result == done.result
    assert result["status"] == "completed"
    assert result["seed"] == 3
    assert result["params"] == 109_386
    assert result["epochs"] == 2
    assert result["global_step"] == 2 * math.ceil(1257 / 64)
    assert result["data"]["name"] == "digits"
    assert result["data"]["train_size"] == 1257
    assert result["device"].startswith("cpu")
    assert result["versions"]["torch"] == torch.__version__.split("+")[0]
    assert 0.5 < result["test_acc"] <= 1
    assert result["fit_seconds"] > 0
    saved = parse_config(yaml.safe_load((done.folder / "config.yaml").read_text(encoding="utf-8")))
    assert saved == compose_config("data=digits", "model=mlp_128_64", "trainer=cpu", "seed=3")


def test_the_result_says_running_from_the_start(tmp_path: Path) -> None:
    statuses = []

    class ReadsStatus(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            statuses.append(read_run(tmp_path).result["status"])

    train(compose_config(*TINY), tmp_path, {}, callbacks=[ReadsStatus()])
    assert statuses == ["running"]


def test_checkpoints_load_without_other_files_and_hold_no_code(run: Start) -> None:
    done = run()
    for name in (BEST, LAST):
        path = done.folder / CHECKPOINTS / name
        assert torch.load(path, weights_only=True)["state_dict"]
        assert isinstance(load_classifier(path), MLP)
        assert MLP.load_from_checkpoint(path, weights_only=True).hparams["hidden"] == [128, 64]


def test_the_result_belongs_to_the_best_checkpoint_and_evaluation_repeats_it(run: Start) -> None:
    done = run("trainer.max_epochs=4", "scheduler=none")
    by_epoch = [float(row["val_acc"]) for row in read_metrics(done) if row["val_acc"]]
    assert done.result["val_acc"] == pytest.approx(max(by_epoch), abs=1e-6)
    assert done.result["best_epoch"] == by_epoch.index(max(by_epoch)) + 1
    assert read_checkpoint(done.folder / CHECKPOINTS / BEST)["epoch"] + 1 == done.result["best_epoch"]
    again = evaluate_run(done.folder)
    assert again.test_acc == pytest.approx(done.result["test_acc"], abs=1e-6)
    assert again.test_loss == pytest.approx(done.result["test_loss"], abs=1e-6)


def test_the_seed_determines_the_weights_bit_for_bit(run: Start) -> None:
    first, same, other = run(name="a"), run(name="b"), run("seed=1", name="c")
    assert digest(first) == digest(same) != digest(other)
    assert read_metrics(first) == read_metrics(same) != read_metrics(other)


def test_block_size_and_loggers_do_not_change_the_weights(run: Start) -> None:
    one_by_one = run("trainer.steps_per_execution=1", name="a")
    in_blocks = run("trainer.steps_per_execution=7", name="b")
    unlogged = run("logger.tensorboard=false", "logger.csv=false", "trainer.log_every_n_steps=1", name="c")
    assert digest(one_by_one) == digest(in_blocks) == digest(unlogged)
    assert read_metrics(one_by_one) == read_metrics(in_blocks)


def test_a_run_matches_a_plain_pytorch_loop(run: Start) -> None:
    """Blocks, hooks and the fused optimizer do not change the weights."""
    done = run("scheduler=none", "trainer.max_epochs=1")
    config = compose_config("data=digits", "model=mlp_128_64", "scheduler=none")
    data = build_data(config)
    torch.manual_seed(config.seed)
    plain = build_model(config, data.steps_per_epoch)
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.001)
    for images, labels in data.train_dataloader():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(plain(images), labels).backward()
        optimizer.step()
    trained = load_classifier(done.folder / CHECKPOINTS / LAST)
    for name, weights in plain.state_dict().items():
        assert torch.allclose(weights, trained.state_dict()[name], atol=1e-5), name


def test_logged_steps_are_optimizer_steps(run: Start) -> None:
    done = run("trainer.log_every_n_steps=10", "trainer.steps_per_execution=7")
    steps = [int(row["step"]) for row in read_metrics(done) if row["train_loss"]]
    assert steps == [10, 20, 30, 40]
    events = EventAccumulator(str(done.folder))
    events.Reload()
    assert [event.step for event in events.Scalars("train_loss")] == steps
    assert [event.step for event in events.Scalars("val_acc")] == [20, 40]
    assert events.Scalars("test_acc")[-1].value == pytest.approx(done.result["test_acc"], abs=1e-5)
    last = read_metrics(done)[-1]
    assert (last["step"], last["epoch"]) == ("40", "1"), "the second epoch: Lightning counts from 0"
    assert last["val_acc"]
    assert last["test_acc"]


@pytest.mark.parametrize("batch_size", [1, 100, 1257])
def test_metrics_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    """With frozen weights, the training meter gives each sample the same weight."""
    torch.manual_seed(0)
    config = compose_config("data=digits", f"data.batch_size={batch_size}")
    data = build_data(config)
    model = MLP(hidden=[16])
    with torch.no_grad():
        for images, labels in data.train_dataloader():
            outputs = model(images)
            model.steps.meter.update(model.loss(outputs, labels), outputs, labels, lr=0.1)
        everything = data.normalize(data.splits.train.images)
        expected = model.loss(model(everything), data.splits.train.labels).item()
    model.steps.meter.read()
    assert model.steps.meter.end_epoch()["train_loss"] == pytest.approx(expected, rel=1e-4)


def test_a_network_can_memorize_one_batch() -> None:
    config = compose_config("data=digits", "model=cnn", "scheduler=none")
    torch.manual_seed(0)
    model = build_model(config, 1)
    optimizer = model.configure_optimizers()
    images, labels = next(iter(build_data(config).train_dataloader()))
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(model(images), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.01
    assert (model(images).argmax(1) == labels).all()


SCHEDULERS_AND_OPTIMIZERS = list(
    itertools.product(["none", "step", "cosine", "onecycle"], ["sgd", "adam", "adamw", "adagrad", "rmsprop"])
)


@pytest.mark.parametrize(
    ("scheduler", "optimizer"),
    slow_except(
        SCHEDULERS_AND_OPTIMIZERS,
        ("none", "sgd"),
        ("step", "adam"),
        ("cosine", "adamw"),
        ("onecycle", "rmsprop"),
        ("none", "adagrad"),
    ),
)
def test_a_network_learns_with_every_optimizer_and_schedule(run: Start, optimizer: str, scheduler: str) -> None:
    lr = {"sgd": 0.1, "adagrad": 0.01}.get(optimizer, 0.002)
    done = run(f"optimizer={optimizer}", f"scheduler={scheduler}", f"optimizer.lr={lr}", "data.batch_size=16")
    assert done.result["test_acc"] > 0.7


@pytest.mark.parametrize(
    ("loss", "output"),
    [
        ("cross_entropy", "softmax"),
        ("nll", "log_softmax"),
        mark_slow(("cross_entropy", "logits")),
        mark_slow(("mse", "softmax")),
        mark_slow(("l1", "logits")),
    ],
)
def test_a_network_learns_with_every_loss(run: Start, loss: str, output: str) -> None:
    done = run(f"loss={loss}", f"model.output={output}", "trainer.max_epochs=8", "data.batch_size=16")
    assert done.result["test_acc"] > 0.6


def test_gradient_clipping_bounds_the_step(run: Start) -> None:
    """A step of plain SGD has the length lr × gradient norm. Clipped to 0.001, 40 steps move at most 40 × 0.001."""
    settings = ("optimizer=sgd", "optimizer.lr=1.0", "scheduler=none")
    done = run(*settings, "trainer.gradient_clip_val=0.001")
    torch.manual_seed(0)
    start = build_model(compose_config("data=digits", "model=mlp_128_64", *settings), 20)
    end = load_classifier(done.folder / CHECKPOINTS / LAST)
    moved = torch.cat([(a - b).flatten() for a, b in zip(start.parameters(), end.parameters(), strict=True)]).norm()
    assert 0 < moved <= 40 * 0.001 * 1.001


def test_automatic_blocks_are_short_for_a_large_network_and_long_for_a_small_one() -> None:
    assert auto_steps_per_execution(MLP(hidden=[64]), 16) == 100
    assert 1 <= auto_steps_per_execution(MLP(hidden=[8000, 8000]), 4096) < 5


def test_a_small_network_trains_with_one_thread_and_the_next_run_has_all_of_them(run: Start) -> None:
    threads = torch.get_num_threads()
    assert useful_threads(MLP(hidden=[8000, 8000]), 4096) == threads
    assert "1 thread)" in run("model.hidden=[16]", "data.batch_size=16").result["device"]
    assert torch.get_num_threads() == threads


def test_a_block_is_at_most_one_epoch_long(run: Start) -> None:
    done = run("trainer.steps_per_execution=1000", name="a")
    assert done.result["global_step"] == 2 * 20
    assert digest(done) == digest(run("trainer.steps_per_execution=20", name="b"))


def test_a_batch_can_be_the_whole_training_set(run: Start) -> None:
    done = run("data.batch_size=1257")
    assert done.result["global_step"] == 2


def test_label_smoothing_applies_only_to_training(run: Start) -> None:
    done = run("loss.label_smoothing=0.5", "trainer.max_epochs=8", "data.batch_size=16")
    last = read_metrics(done)[-1]
    assert float(last["test_loss"]) < 1
    trained = [float(row["train_loss_epoch"]) for row in read_metrics(done) if row["train_loss_epoch"]]
    assert min(trained) > 1.2, "half of each target is spread over ten classes, so the loss cannot be lower"
    assert evaluate_run(done.folder).test_loss == pytest.approx(done.result["test_loss"], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "parts"),
    [("simple", ["run_training_epoch", "forward", "backward", "optimizer_step"]), ("advanced", ["run_backward"])],
)
def test_the_profiler_lists_times_and_does_not_change_the_weights(run: Start, kind: str, parts: list[str]) -> None:
    profiled, plain = run(f"trainer.profiler={kind}", name="a"), run(name="b")
    profile = (profiled.folder / "profile.txt").read_text(encoding="utf-8")
    for part in parts:
        assert part in profile
    assert len(profile.splitlines()) < 100
    assert not (plain.folder / "profile.txt").exists()
    assert digest(profiled) == digest(plain)


@pytest.mark.slow
@pytest.mark.mnist
def test_a_cnn_reaches_98_5_percent_on_mnist(mnist_root: str, tmp_path: Path) -> None:
    config = compose_config("model=cnn", "optimizer=adam", f"data.root={mnist_root}")
    result = train(config, tmp_path, {})
    assert result["test_acc"] >= 0.985
    assert result["data"]["test_size"] == 10_000


@pytest.mark.mnist
def test_data_files_are_verified_before_they_are_read(mnist_root: str, tmp_path: Path) -> None:
    shutil.copytree(mnist_root, tmp_path, dirs_exist_ok=True)
    damaged = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\1")
    for archive in damaged.parent.glob("*.gz"):
        archive.unlink()
    with pytest.raises(UserError, match=damaged.name):
        build_data(compose_config(f"data.root={tmp_path}", "data.mirrors=[http://127.0.0.1:9/]"))


class ChangesWeightsAtTheEnd(Callback):
    """Changes the weights at the end of training, as stochastic weight averaging does."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with torch.no_grad():
            next(pl_module.parameters()).add_(0.01)


def test_a_warning_says_that_the_test_lacks_a_late_change_of_the_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, callbacks in (("plain", []), ("changed", [ChangesWeightsAtTheEnd()])):
        caplog.clear()
        (tmp_path / name).mkdir()
        with caplog.at_level("WARNING"):
            train(compose_config(*TINY), tmp_path / name, {}, callbacks=callbacks)
        assert ("which does not have this change" in caplog.text.replace("\n", " ")) is (name == "changed")


@pytest.mark.slow
def test_the_function_profile_of_a_run_that_is_resumed_for_its_test_is_no_error(run: Start) -> None:
    done = run("trainer.profiler=advanced", "trainer.max_epochs=1")
    again = train(
        compose_config(*TINY, "trainer.profiler=advanced", "trainer.max_epochs=1"), done.folder, {}, resume=True
    )
    assert again["status"] == "completed"
    assert "No epoch was trained" in (done.folder / "profile.txt").read_text(encoding="utf-8")


def test_weights_that_are_large_and_finite_are_accepted_and_infinite_ones_are_not() -> None:
    largest = torch.finfo(torch.float32).max
    check_finite({"weight": torch.full([4], largest)}, step=1)
    for bad in (math.inf, -math.inf, math.nan):
        with pytest.raises(LossNotFinite, match="weights in bias"):
            check_finite({"weight": torch.ones(4), "bias": torch.tensor([1.0, bad, largest])}, step=1)


def test_a_buffer_may_be_infinite_from_the_beginning(tmp_path: Path) -> None:
    """As the mask of an attention layer."""
    model = build_model(compose_config(*TINY), steps_per_epoch=1)
    model.network.register_buffer("mask", torch.full([2], -math.inf))
    check = RandomState()
    trainer = Trainer(accelerator="cpu", devices=1, max_epochs=1, callbacks=[check], default_root_dir=tmp_path)
    trainer.fit(model, build_data(compose_config(*TINY)))
    assert trainer.global_step == 20
    model.network.get_parameter("1.bias").data[0] = math.inf
    with pytest.raises(LossNotFinite, match=r"weights in network\.1\.bias"):
        check.on_validation_start(trainer, model)


def test_counting_operations_leaves_a_frozen_part_in_evaluation_mode() -> None:
    model = build_model(compose_config("model=convnet", "trainer=cpu"), steps_per_epoch=1)
    frozen = model.network.get_submodule("2").eval()
    useful_threads(model, 64)
    assert not frozen.training
    assert model.training
    assert model.network.training


class Spoils(Callback):
    """The weights are bad from the second epoch on."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch > 0:
            for weights in pl_module.parameters():
                weights.data.neg_()


def test_the_result_of_averaged_weights_belongs_to_the_best_checkpoint(tmp_path: Path) -> None:
    average = "+callbacks.x={_target_: lightning.pytorch.callbacks.EMAWeightAveraging, decay: 0.5}"
    config = compose_config(*TINY, "trainer.max_epochs=3", average)
    result = train(config, tmp_path, {}, callbacks=[Spoils()])
    epochs = [row for row in read_metrics(Run(tmp_path, result)) if row["val_acc"]]
    assert result["best_epoch"] < 3
    (best,) = [row for row in epochs if float(row["val_acc"]) == max(float(row["val_acc"]) for row in epochs)]
    assert result["val_acc"] == pytest.approx(float(best["val_acc"]), abs=1e-6)
    assert result["val_loss"] == pytest.approx(float(best["val_loss"]), abs=1e-4)


class UsesTheLogger(Callback):
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert trainer.logger is not None
        trainer.logger.log_metrics({"own": 1.0}, trainer.global_step)


@pytest.mark.parametrize("options", [[], ["trainer.fast_dev_run=true"]], ids=["run", "trial"])
def test_a_callback_has_a_logger_in_every_validation(tmp_path: Path, options: list[str]) -> None:
    monitor = "+callbacks.lr._target_=lightning.pytorch.callbacks.LearningRateMonitor"
    result = train(compose_config(*TINY, monitor, *options), tmp_path, {}, callbacks=[UsesTheLogger()])
    assert result["status"] == (TRIAL if options else "completed")


class Remembers(Callback):
    def __init__(self, value: object) -> None:
        self.value = value

    def state_dict(self) -> dict[str, object]:
        return {"values": [self.value]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        (self.value,) = state_dict["values"]


def test_numbers_of_numpy_are_kept_in_a_checkpoint(tmp_path: Path) -> None:
    """They come from schedules and callbacks that compute with NumPy."""
    options = [*TINY, "callbacks=none", "scheduler=none"]
    train(compose_config(*options, "trainer.max_epochs=1"), tmp_path, {}, callbacks=[Remembers(np.float32(0.5))])
    again = Remembers(None)
    train(compose_config(*options, "trainer.max_epochs=2"), tmp_path, {}, resume=True, callbacks=[again])
    assert again.value == 0.5
    assert type(again.value) is float


@pytest.mark.parametrize("value", [np.zeros(2), Path("x")], ids=["array", "path"])
def test_what_a_checkpoint_cannot_hold_is_one_clear_error_at_the_first_one(tmp_path: Path, value: object) -> None:
    with pytest.raises(UserError, match="which a checkpoint cannot hold"):
        train(compose_config(*TINY, "callbacks=none"), tmp_path, {}, callbacks=[Remembers(value)])
    assert not list(tmp_path.glob("checkpoints/*.ckpt"))


def test_a_hook_of_the_network_for_each_batch_is_called_for_each_step(
    run: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    hook = lambda self, outputs, batch, batch_idx: steps.append(len(batch))  # noqa: E731
    monkeypatch.setattr(MLP, "on_train_batch_end", hook, raising=False)
    run("trainer.max_epochs=1")
    assert steps == [1] * 20


def test_denormals_are_zero_in_a_run_and_stay_in_the_process(tmp_path: Path) -> None:
    """A denormal is half of the smallest normal number, for example."""
    halves = []

    class Halves(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            halves.append(half_of_the_smallest())

    def half_of_the_smallest() -> float:
        return float(torch.tensor(torch.finfo(torch.float32).tiny) / 2)

    train(compose_config(*TINY), tmp_path, {}, callbacks=[Halves()])
    assert halves == [0]
    assert half_of_the_smallest() > 0
