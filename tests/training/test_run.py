"""A run: what it writes, that it repeats, and that its numbers do not depend on how the work was cut."""

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_lit.config import parse_config
from mnist_lit.data.files import MNISTUnavailable
from mnist_lit.models import MLP
from mnist_lit.reports.runs import read_run
from mnist_lit.statistics import wilson_interval
from mnist_lit.training.build import auto_steps_per_execution, build_data, build_model, threads_worth_having
from mnist_lit.training.checkpoints import load_classifier, read_checkpoint, weights_digest
from mnist_lit.training.evaluate import evaluate_run
from mnist_lit.training.run import train
from tests.conftest import TINY, Run, compose_config

Start = Callable[..., Run]


def digest(run: Run) -> str:
    return weights_digest(load_classifier(run.folder / "checkpoints" / "last.ckpt"))


def rows(run: Run) -> list[dict[str, str]]:
    with (run.folder / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_folder_explains_the_run(run: Start) -> None:
    done = run("seed=3")
    result = json.loads((done.folder / "result.json").read_text())
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
    saved = parse_config(yaml.safe_load((done.folder / "config.yaml").read_text()))
    assert saved == compose_config("data=digits", "model=mlp_128_64", "trainer=cpu", "seed=3")


def test_a_run_that_is_killed_has_said_that_it_is_running(tmp_path: Path) -> None:
    said = []

    class Look(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            said.append(read_run(tmp_path).result["status"])

    train(compose_config(*TINY), tmp_path, {}, watchers=[Look()])
    assert said == ["running"]


def test_checkpoints_load_from_the_file_alone_and_hold_no_code(run: Start) -> None:
    done = run()
    for name in ("best.ckpt", "last.ckpt"):
        path = done.folder / "checkpoints" / name
        assert torch.load(path, weights_only=True)["state_dict"]
        assert isinstance(load_classifier(path), MLP)
        assert MLP.load_from_checkpoint(path, weights_only=True).hparams["hidden"] == [128, 64]


def test_result_val_acc_is_that_of_the_best_checkpoint_and_evaluate_repeats_the_test(run: Start) -> None:
    done = run("trainer.max_epochs=4", "scheduler=none")
    by_epoch = [float(row["val_acc"]) for row in rows(done) if row["val_acc"]]
    assert done.result["val_acc"] == pytest.approx(max(by_epoch), abs=1e-6)
    assert done.result["best_epoch"] == by_epoch.index(max(by_epoch)) + 1
    assert read_checkpoint(done.folder / "checkpoints" / "best.ckpt")["epoch"] + 1 == done.result["best_epoch"]
    again = evaluate_run(done.folder)
    assert again.test_acc == pytest.approx(done.result["test_acc"], abs=1e-6)
    assert again.test_loss == pytest.approx(done.result["test_loss"], abs=1e-6)


def test_same_seed_same_weights_bit_for_bit_and_another_seed_others(run: Start) -> None:
    first, same, other = run(name="a"), run(name="b"), run("seed=1", name="c")
    assert digest(first) == digest(same) != digest(other)
    assert rows(first) == rows(same) != rows(other)


def test_neither_the_block_nor_the_loggers_change_the_weights(run: Start) -> None:
    one_by_one = run("trainer.steps_per_execution=1", name="a")
    in_blocks = run("trainer.steps_per_execution=7", name="b")
    unlogged = run("logger.tensorboard=false", "logger.csv=false", "trainer.log_every_n_steps=1", name="c")
    assert digest(one_by_one) == digest(in_blocks) == digest(unlogged)
    assert rows(one_by_one) == rows(in_blocks)


def test_a_run_equals_a_plain_loop_over_the_same_batches(run: Start) -> None:
    """The blocks, the hooks and the fused optimiser change nothing: the weights are those of textbook PyTorch."""
    done = run("scheduler=none", "trainer.max_epochs=1")
    config = compose_config("data=digits", "model=mlp_128_64", "scheduler=none")
    data = build_data(config)
    torch.manual_seed(config.seed)
    plain = build_model(config, data.steps_per_epoch)
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.001)
    for block in data.train_dataloader():
        for images, labels in block:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(plain(images), labels).backward()
            optimizer.step()
    trained = load_classifier(done.folder / "checkpoints" / "last.ckpt")
    for name, weights in plain.state_dict().items():
        assert torch.allclose(weights, trained.state_dict()[name], atol=1e-5), name


def test_logged_steps_are_optimiser_steps(run: Start) -> None:
    done = run("trainer.log_every_n_steps=10", "trainer.steps_per_execution=7")
    steps = [int(row["step"]) for row in rows(done) if row["train_loss"]]
    assert steps == [10, 20, 30, 40]
    events = EventAccumulator(str(done.folder / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train_loss")] == steps
    assert [event.step for event in events.Scalars("val_acc")] == [20, 40]
    assert events.Scalars("test_acc")[-1].value == pytest.approx(done.result["test_acc"], abs=1e-5)
    last = rows(done)[-1]
    assert (last["step"], last["epoch"]) == ("40", "1"), "the second, counted from 0 as Lightning does"
    assert last["val_acc"]
    assert last["test_acc"]


@pytest.mark.parametrize("batch_size", [1, 100, 1257])
def test_metrics_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    """Evaluation, and the training meter with frozen weights, give each sample the same weight."""
    torch.manual_seed(0)
    config = compose_config("data=digits", f"data.batch_size={batch_size}")
    data = build_data(config)
    model = MLP(hidden=[16])
    with torch.no_grad():
        for block in data.train_dataloader():
            for images, labels in block:
                outputs = model(images)
                model.meter.update(model.loss(outputs, labels), outputs, labels, lr=0.1)
        everything = data.normalize(data.splits.train.images)
        expected = model.loss(model(everything), data.splits.train.labels).item()
    model.meter.read()
    assert model.meter.end_epoch()["train_loss"] == pytest.approx(expected, rel=1e-4)


def test_one_batch_can_be_learnt_by_heart() -> None:
    config = compose_config("data=digits", "model=cnn", "scheduler=none")
    torch.manual_seed(0)
    model = build_model(config, 1)
    optimizer = model.configure_optimizers()
    images, labels = next(iter(next(iter(build_data(config).train_dataloader()))))
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(model(images), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.01
    assert (model(images).argmax(1) == labels).all()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adagrad", "rmsprop"])
@pytest.mark.parametrize("scheduler", ["none", "step", "cosine", "onecycle"])
def test_every_optimiser_learns_with_every_schedule(run: Start, optimizer: str, scheduler: str) -> None:
    lr = {"sgd": 0.1, "adagrad": 0.01}.get(optimizer, 0.002)
    done = run(f"optimizer={optimizer}", f"scheduler={scheduler}", f"optimizer.lr={lr}", "data.batch_size=16")
    assert done.result["test_acc"] > 0.7


@pytest.mark.parametrize(
    ("loss", "output"),
    [
        ("cross_entropy", "logits"),
        ("cross_entropy", "softmax"),
        ("nll", "log_softmax"),
        ("mse", "softmax"),
        ("l1", "logits"),
    ],
)
def test_every_loss_learns(run: Start, loss: str, output: str) -> None:
    done = run(f"loss={loss}", f"model.output={output}", "trainer.max_epochs=8", "data.batch_size=16")
    assert done.result["test_acc"] > 0.6


def test_gradient_clipping_bounds_the_step(run: Start) -> None:
    """With plain SGD a step's length is lr × the gradient's norm: clipped to 0.001, 40 steps move at most 40 × that."""
    settings = ("optimizer=sgd", "optimizer.lr=1.0", "scheduler=none")
    done = run(*settings, "trainer.gradient_clip_val=0.001")
    torch.manual_seed(0)
    start = build_model(compose_config("data=digits", "model=mlp_128_64", *settings), 20)
    end = load_classifier(done.folder / "checkpoints" / "last.ckpt")
    moved = torch.cat([(a - b).flatten() for a, b in zip(start.parameters(), end.parameters(), strict=True)]).norm()
    assert 0 < moved <= 40 * 0.001 * 1.001


def test_auto_blocks_are_short_for_a_large_network_and_long_for_a_small_one() -> None:
    assert auto_steps_per_execution(MLP(hidden=[64]), 16) == 100
    assert 1 <= auto_steps_per_execution(MLP(hidden=[8000, 8000]), 4096) < 5


def test_threads_are_as_many_as_a_network_keeps_busy_and_the_next_run_has_them_all(run: Start) -> None:
    threads = torch.get_num_threads()
    assert threads_worth_having(MLP(hidden=[8000, 8000]), 4096) == threads
    assert "1 thread)" in run("model.hidden=[16]", "data.batch_size=16").result["device"]
    assert torch.get_num_threads() == threads


def test_a_block_longer_than_an_epoch_is_the_epoch(run: Start) -> None:
    done = run("trainer.steps_per_execution=1000", name="a")
    assert done.result["global_step"] == 2 * 20
    assert digest(done) == digest(run("trainer.steps_per_execution=20", name="b"))


def test_a_batch_of_the_whole_training_set_drops_nothing(run: Start) -> None:
    done = run("data.batch_size=1257")
    assert done.result["global_step"] == 2


def test_bf16_trains_on_the_cpu(run: Start) -> None:
    done = run("trainer.precision=bf16-mixed", "trainer.max_epochs=4")
    assert done.result["test_acc"] > 0.8
    weights = read_checkpoint(done.folder / "checkpoints" / "best.ckpt")["state_dict"].values()
    assert {weight.dtype for weight in weights} == {torch.float32}
    again = evaluate_run(done.folder)
    assert again.test_acc == pytest.approx(done.result["test_acc"], abs=1e-6)
    assert again.test_loss == pytest.approx(done.result["test_loss"], abs=1e-5)


def test_smoothed_labels_are_for_training_and_plain_ones_for_evaluation(run: Start) -> None:
    done = run("loss.label_smoothing=0.5", "trainer.max_epochs=8", "data.batch_size=16")
    last = rows(done)[-1]
    assert float(last["test_loss"]) < 1
    trained = [float(row["train_loss_epoch"]) for row in rows(done) if row["train_loss_epoch"]]
    assert min(trained) > 1.2, "half of each target is spread over ten classes: no network gets below that"
    assert evaluate_run(done.folder).test_loss == pytest.approx(done.result["test_loss"], abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "parts"),
    [("simple", ["run_training_epoch", "forward", "backward", "optimizer_step"]), ("advanced", ["run_backward"])],
)
def test_profiler_says_where_the_time_went_and_changes_nothing(run: Start, kind: str, parts: list[str]) -> None:
    profiled, plain = run(f"trainer.profiler={kind}", name="a"), run(name="b")
    account = (profiled.folder / "profile.txt").read_text()
    for part in parts:
        assert part in account
    assert len(account.splitlines()) < 100
    assert not (plain.folder / "profile.txt").exists()
    assert digest(profiled) == digest(plain)


def test_wilson_interval_matches_a_worked_example() -> None:
    """Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662."""
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@pytest.mark.mnist
def test_main_job_reaches_98_5_percent(mnist_root: str, tmp_path: Path) -> None:
    from mnist_lit.training.run import train

    config = compose_config("model=cnn", "optimizer=adam", f"data.root={mnist_root}")
    result = train(config, tmp_path, {})
    assert result["test_acc"] >= 0.985
    assert result["data"]["test_size"] == 10_000


@pytest.mark.mnist
def test_files_are_verified_before_they_are_read(mnist_root: str, tmp_path: Path) -> None:
    shutil.copytree(mnist_root, tmp_path, dirs_exist_ok=True)
    damaged = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\1")
    for archive in damaged.parent.glob("*.gz"):
        archive.unlink()
    with pytest.raises(MNISTUnavailable, match=damaged.name):
        build_data(compose_config(f"data.root={tmp_path}", "data.mirrors=[http://127.0.0.1:9/]"))
