"""Networks and data modules are ordinary Lightning classes: Lightning's own parts work on them."""

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, callbacks, seed_everything
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.tuner import Tuner
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from mnist_lit.data.datamodule import SklearnDigitsDataModule
from mnist_lit.data.datasets import Split
from mnist_lit.models import MLP, ConvNet
from mnist_lit.models.checkpoint_file import weights_digest
from mnist_lit.models.classifier import STEP_METHODS
from tests.selection import slow_except

DATA = SklearnDigitsDataModule()


def plain_loader(split: Split, shuffle: bool = False) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    dataset = TensorDataset(DATA.normalize(split.images), split.labels)
    return DataLoader(dataset, batch_size=64, shuffle=shuffle, generator=generator)


def module_arguments() -> dict[str, Any]:
    return {"datamodule": SklearnDigitsDataModule()}


def loader_arguments() -> dict[str, Any]:
    splits = DATA.splits
    return {"train_dataloaders": plain_loader(splits.train, True), "val_dataloaders": plain_loader(splits.val)}


SOURCES = [module_arguments, loader_arguments]
Source = Callable[[], dict[str, Any]]


def make_model() -> MLP:
    seed_everything(0, verbose=False)
    return MLP(hidden=[32], optimizer=partial(Adam, lr=0.01))


def make_trainer(folder: Path, **options: Any) -> Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    common = {"accelerator": "cpu", "devices": 1, "max_epochs": 2, "default_root_dir": folder}
    return Trainer(**(common | quiet | options))


FIT = {
    "nothing else": {},
    "accumulate_grad_batches": {"accumulate_grad_batches": 4},
    "gradient_clip_val": {"gradient_clip_val": 1.0},
    "gradient_clip_val by value": {"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "bf16-true": {"precision": "bf16-true"},
    "64-true": {"precision": "64-true"},
    "max_steps": {"max_steps": 7, "max_epochs": -1},
    "fast_dev_run": {"fast_dev_run": True},
    "limit_train_batches": {"limit_train_batches": 2, "limit_val_batches": 1},
    "overfit_batches": {"overfit_batches": 1},
    "val_check_interval": {"val_check_interval": 5},
    "check_val_every_n_epoch": {"check_val_every_n_epoch": 2},
    "detect_anomaly": {"detect_anomaly": True},
    "simple profiler": {"profiler": "simple"},
    "advanced profiler": {"profiler": "advanced"},
    "deterministic": {"deterministic": True},
    "model summary": {"enable_model_summary": True},
    "progress bar": {"enable_progress_bar": True},
    "EarlyStopping": {"callbacks": lambda: [callbacks.EarlyStopping("val_loss")]},
    "StochasticWeightAveraging": {"callbacks": lambda: [callbacks.StochasticWeightAveraging(0.01, 1)]},
    "EMAWeightAveraging": {"callbacks": lambda: [callbacks.EMAWeightAveraging()]},
    "ModelPruning": {"callbacks": lambda: [callbacks.ModelPruning("l1_unstructured", amount=0.3)]},
    "Timer": {"callbacks": lambda: [callbacks.Timer()]},
    "LambdaCallback": {"callbacks": lambda: [callbacks.LambdaCallback(on_train_start=lambda *_: None)]},
    "RichModelSummary": {"callbacks": lambda: [callbacks.RichModelSummary()], "enable_model_summary": True},
    "GradientAccumulationScheduler": {"callbacks": lambda: [callbacks.GradientAccumulationScheduler({0: 2, 1: 4})]},
    "BatchSizeFinder": {"callbacks": lambda: [callbacks.BatchSizeFinder(max_trials=1, steps_per_trial=1)]},
    "LearningRateFinder": {"callbacks": lambda: [callbacks.LearningRateFinder(num_training_steps=20)]},
    "LearningRateMonitor": {"callbacks": lambda: [callbacks.LearningRateMonitor()], "logger": True},
    "DeviceStatsMonitor": {"callbacks": lambda: [callbacks.DeviceStatsMonitor(cpu_stats=False)], "logger": True},
}
QUICK = ("nothing else", "accumulate_grad_batches", "gradient_clip_val", "max_steps", "StochasticWeightAveraging")
STEPS = {"accumulate_grad_batches": 10, "GradientAccumulationScheduler": 15, "max_steps": 7, "nothing else": 40}


@pytest.mark.parametrize("source", SOURCES, ids=["data module", "DataLoader"])
@pytest.mark.parametrize("name", slow_except(FIT, *QUICK))
def test_a_network_trains_with_each_of_lightnings_parts(name: str, source: Source, tmp_path: Path) -> None:
    options = {key: value() if callable(value) else value for key, value in FIT[name].items()}
    if options.get("logger"):
        options["logger"] = CSVLogger(tmp_path)
    trainer = make_trainer(tmp_path, **options)
    model = make_model()
    before = weights_digest(model)
    if name == "BatchSizeFinder" and source is loader_arguments:
        pytest.skip("Lightning needs a batch_size attribute, which a plain DataLoader does not have")
    trainer.fit(model, **source())
    assert weights_digest(model) != before
    assert torch.cat([parameter.flatten() for parameter in model.parameters()]).isfinite().all()
    if name in STEPS:
        assert trainer.global_step == STEPS[name]
    if name == "nothing else":
        assert trainer.callback_metrics["val_acc"] > 0.5
        assert {"train_loss", "train_acc"} <= set(trainer.callback_metrics)


@pytest.mark.parametrize("source", ["data module", "DataLoader"])
def test_validate_test_and_predict_return_what_lightning_returns(source: str, tmp_path: Path) -> None:
    trainer, model = make_trainer(tmp_path), make_model()
    trainer.fit(model, **module_arguments())
    split = DATA.splits.test
    given: Any = {"datamodule": DATA} if source == "data module" else {"dataloaders": plain_loader(split)}
    (tested,) = trainer.test(model, **given, verbose=False)
    predicted = torch.cat(trainer.predict(model, **given))  # type: ignore[arg-type]
    assert predicted.shape == (360, 10)
    assert torch.allclose(predicted.sum(1), torch.ones(360), atol=1e-5)
    assert tested["test_acc"] == pytest.approx(float((predicted.argmax(1) == split.labels).float().mean()), abs=1e-6)
    (validated,) = trainer.validate(model, **given, verbose=False)
    assert {"val_loss", "val_acc"} <= set(validated)


@pytest.mark.parametrize("source", SOURCES, ids=["data module", "DataLoader"])
def test_the_tuner_finds_a_learning_rate_and_sets_it(source: Source, tmp_path: Path) -> None:
    model, trainer = make_model(), make_trainer(tmp_path, max_epochs=3)
    Tuner(trainer).lr_find(model, **source(), num_training=30)
    assert isinstance(model.lr, float)
    assert model.configure_optimizers().param_groups[0]["lr"] == model.lr


@pytest.mark.parametrize("after", SOURCES, ids=["then a data module", "then a DataLoader"])
@pytest.mark.parametrize("before", SOURCES, ids=["data module", "DataLoader"])
def test_a_checkpoint_is_loaded_and_resumed_with_any_batches(before: Source, after: Source, tmp_path: Path) -> None:
    keeps = callbacks.ModelCheckpoint(tmp_path / "kept")
    trained = make_model()
    make_trainer(tmp_path, callbacks=[keeps], enable_checkpointing=True).fit(trained, **before())
    loaded = MLP.load_from_checkpoint(keeps.best_model_path, weights_only=True)
    assert loaded.hparams["hidden"] == [32]
    for model in (make_model(), trained):
        longer = make_trainer(tmp_path, max_epochs=3)
        longer.fit(model, **after(), ckpt_path=keeps.best_model_path, weights_only=True)
        assert longer.current_epoch == 3
        if before is after:  # Lightning counts the steps of blocks and of plain batches separately
            assert longer.global_step == 60


def test_lightnings_loggers_get_the_same_names_from_plain_batches(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    make_trainer(tmp_path, logger=logger, log_every_n_steps=10).fit(make_model(), **loader_arguments())
    with (tmp_path / "metrics.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for name in ("train_loss", "train_acc", "train_loss_epoch", "train_acc_epoch", "val_loss", "val_acc"):
        assert any(row.get(name) for row in rows), name


@pytest.mark.parametrize(
    ("batch", "found"),
    [
        ({"image": torch.zeros(2, 1, 28, 28)}, "found dict"),
        ([torch.zeros(2, 1, 28, 28)], "found list"),
        ([torch.zeros(2, 784), torch.zeros(2)], r"found \[2, 784\] and \[2\]"),
        ([torch.zeros(2, 3, 28, 28), torch.zeros(2)], r"found \[2, 3, 28, 28\] and \[2\]"),
        ([torch.zeros(2, 1, 28, 28), torch.zeros(3)], r"found \[2, 1, 28, 28\] and \[3\]"),
    ],
)
def test_a_batch_that_is_no_pair_of_images_and_labels_is_one_clear_error(
    batch: Any, found: str, tmp_path: Path
) -> None:
    class OneBatch(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield batch

    loader: DataLoader[Any] = DataLoader(OneBatch(), batch_size=None)
    with pytest.raises(ValueError, match=found):
        make_trainer(tmp_path).fit(make_model(), loader)


def test_blocks_and_plain_batches_make_the_same_steps(tmp_path: Path) -> None:
    """The data module gives the same batches either way."""
    blocks, plain = make_model(), make_model()
    make_trainer(tmp_path).fit(blocks, datamodule=SklearnDigitsDataModule(steps_per_execution=7))
    make_trainer(tmp_path).fit(plain, train_dataloaders=batches_of_both_epochs())
    for name, weights in blocks.state_dict().items():
        torch.testing.assert_close(weights, plain.state_dict()[name], rtol=0, atol=1e-6)


def test_accumulated_gradients_of_blocks_are_those_of_lightning(tmp_path: Path) -> None:
    """20 batches an epoch, 3 for each step: the last step has 2, which Lightning divides by 3 all the same."""
    blocks, plain = make_model(), make_model()
    data = SklearnDigitsDataModule(steps_per_execution=2)
    data.accumulate_grad_batches = 3
    ours, theirs = make_trainer(tmp_path), make_trainer(tmp_path, accumulate_grad_batches=3)
    ours.fit(blocks, datamodule=data)
    theirs.fit(plain, datamodule=SklearnDigitsDataModule())
    assert (blocks.automatic_optimization, plain.automatic_optimization) == (False, True)
    assert ours.global_step == theirs.global_step == 14
    for name, weights in blocks.state_dict().items():
        torch.testing.assert_close(weights, plain.state_dict()[name], rtol=0, atol=1e-6)


def batches_of_both_epochs() -> Any:
    return SklearnDigitsDataModule().train_dataloader()


class Foreign(LightningModule):
    """A network from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(784, 10)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        return torch.nn.functional.cross_entropy(self.layer(images.flatten(1)), labels)

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters())


class OwnStep(MLP):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, labels = batch
        return torch.nn.functional.cross_entropy(self(images), labels)


class OwnLoader(SklearnDigitsDataModule):
    def train_dataloader(self) -> Any:
        return plain_loader(self.splits.train)


@pytest.mark.parametrize(
    ("model", "data"),
    [
        (Foreign, SklearnDigitsDataModule),
        (partial(OwnStep, hidden=[8], optimizer=Adam), SklearnDigitsDataModule),
        (partial(MLP, hidden=[8], optimizer=Adam), OwnLoader),
    ],
    ids=["another LightningModule", "an own training_step", "an own train_dataloader"],
)
def test_only_networks_and_data_of_this_project_train_in_blocks(model: Any, data: Any, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.fit(model(), datamodule=data(steps_per_execution=7))
    assert trainer.global_step == 40


@pytest.mark.parametrize("method", slow_except(STEP_METHODS, "configure_optimizers", "optimizer_step"))
def test_a_method_of_the_network_that_makes_the_steps_is_called(method: str, tmp_path: Path) -> None:
    calls: list[str] = []

    def call(self: MLP, *arguments: Any, **options: Any) -> Any:
        calls.append(method)
        return getattr(super(Own, self), method)(*arguments, **options)

    Own = type("Own", (MLP,), {method: call})
    model = Own(hidden=[8], optimizer=Adam, scheduler=partial(StepLR, step_size=9))
    trainer = make_trainer(tmp_path)
    trainer.fit(model, datamodule=SklearnDigitsDataModule(steps_per_execution=7))
    assert trainer.global_step == 40
    expected = 1 if method == "configure_optimizers" else 40
    if "batch" in method:
        assert len(calls) > expected, "for the batches of the validation, too"
    else:
        assert len(calls) == expected


def test_averaged_weights_stay_while_batch_norm_is_updated(tmp_path: Path) -> None:
    average = callbacks.StochasticWeightAveraging(0.01, 1)
    model = ConvNet(channels=[4], optimizer=Adam)
    make_trainer(tmp_path, callbacks=[average], max_epochs=3).fit(model, datamodule=SklearnDigitsDataModule())
    assert average._average_model is not None
    for name, weights in average._average_model.named_parameters():
        assert torch.equal(weights, dict(model.named_parameters())[name]), name


class WithNamesOfTheData(MLP):
    def __init__(self, *, batch_size: int, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)


def test_a_network_may_have_arguments_with_the_names_of_the_data_modules(tmp_path: Path) -> None:
    model = WithNamesOfTheData(batch_size=1, classes=10, hidden=[8], optimizer=Adam)
    trainer = make_trainer(tmp_path, logger=CSVLogger(tmp_path))
    trainer.fit(model, datamodule=SklearnDigitsDataModule())
    assert trainer.global_step == 40


def test_a_trainer_fits_what_it_gets_whatever_it_got_before(tmp_path: Path) -> None:
    model, trainer = make_model(), make_trainer(tmp_path, log_every_n_steps=10)
    trainer.test(model, datamodule=SklearnDigitsDataModule(), verbose=False)
    trainer.fit(model, **loader_arguments())
    assert trainer.global_step == 40
    trainer.test(model, datamodule=SklearnDigitsDataModule(), verbose=False)
    assert trainer.global_step == 40
    for images, labels in trainer.datamodule.train_dataloader():  # type: ignore[attr-defined]
        assert images.shape == (len(labels), 1, 28, 28)


def test_max_steps_ends_a_fit_within_a_block(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, max_steps=10, max_epochs=-1)
    trainer.fit(make_model(), datamodule=SklearnDigitsDataModule(steps_per_execution=7))
    assert trainer.global_step == 10


def test_overfit_batches_trains_the_same_batch_in_each_epoch(tmp_path: Path) -> None:
    seen = []

    class Watch(callbacks.Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            seen.append([labels.tolist() for _, labels in batch])

    make_trainer(tmp_path, overfit_batches=1, callbacks=[Watch()]).fit(make_model(), **module_arguments())
    assert len(seen) == 2
    assert seen[0] == seen[1]


@pytest.mark.parametrize("source", SOURCES, ids=["data module", "DataLoader"])
def test_an_interrupted_validation_does_not_count_in_the_test(source: Source, tmp_path: Path) -> None:
    class Stop(callbacks.Callback):
        def on_validation_batch_end(self, *arguments: Any, **more: Any) -> None:
            raise ArithmeticError

    model = make_model()
    (expected,) = make_trainer(tmp_path).test(model, plain_loader(DATA.splits.test), verbose=False)
    with pytest.raises(ArithmeticError):
        make_trainer(tmp_path, callbacks=[Stop()]).fit(model, **source())
    (tested,) = make_trainer(tmp_path).test(model, plain_loader(DATA.splits.test), verbose=False)
    assert tested["test_acc"] == pytest.approx(expected["test_acc"], abs=1e-6)


def test_the_averages_of_a_fit_begin_with_it(tmp_path: Path) -> None:
    """40 steps, then 40 more of the same network with another trainer; a window has 30 steps."""
    model = MLP(hidden=[32], optimizer=partial(Adam, lr=0.01), log_every_n_steps=30)
    for fit in range(2):
        logger = CSVLogger(tmp_path, name="", version=str(fit))
        trainer = make_trainer(tmp_path, logger=logger)
        trainer.fit(model, datamodule=SklearnDigitsDataModule(steps_per_execution=7))
        with (tmp_path / str(fit) / "metrics.csv").open(newline="", encoding="utf-8") as stream:
            assert [row["step"] for row in csv.DictReader(stream) if row["train_loss"]] == ["30"]


def test_a_callback_may_end_the_training_before_an_epochs_first_batch(tmp_path: Path) -> None:
    class Stop(callbacks.Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            trainer.should_stop = trainer.current_epoch == 1

    trainer = make_trainer(tmp_path, max_epochs=3, callbacks=[Stop()])
    trainer.fit(make_model(), **module_arguments())
    assert trainer.global_step < 60


def test_images_alone_are_enough_to_predict(tmp_path: Path) -> None:
    images: Tensor = DATA.normalize(DATA.splits.test.images)
    predicted = make_trainer(tmp_path).predict(make_model(), DataLoader(images, batch_size=100))  # type: ignore[arg-type]
    assert torch.cat(predicted).shape == (360, 10)  # type: ignore[arg-type]


class ChangesBatches(MLP):
    """With the usual hook, which knows pairs of images and labels."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        images, labels = batch
        return images.flip(3), labels


class ChangesItsBatches(SklearnDigitsDataModule):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        images, labels = batch
        return images.flip(3), labels


@pytest.mark.parametrize("owner", ["network", "data"])
def test_a_hook_of_batches_gets_pairs(owner: str, tmp_path: Path) -> None:
    network = ChangesBatches if owner == "network" else MLP
    model = network(hidden=[8], optimizer=partial(Adam, lr=0.01))
    data = SklearnDigitsDataModule() if owner == "network" else ChangesItsBatches()
    options = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}  # a summary has no pairs
    trainer = Trainer(accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, **options)  # type: ignore[arg-type]
    trainer.fit(model, datamodule=data)
    assert trainer.global_step == data.steps_per_epoch


def test_a_loss_that_is_not_a_number_is_not_left_out_of_the_mean() -> None:
    model = MLP(hidden=[8])
    model.eval_loss.update(torch.tensor(float("nan")), weight=2)
    model.eval_loss.update(torch.tensor(1.0), weight=2)
    assert model.eval_loss.compute().isnan()
