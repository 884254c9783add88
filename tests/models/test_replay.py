"""Steps that are recorded once and replayed give the same weights. On the CPU, a stand-in replaces the CUDA graph."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor, nn

from mnist_lit.build import build_data, build_model
from mnist_lit.models import MLP, DigitClassifier
from mnist_lit.models.checkpoint_file import weights_digest
from mnist_lit.training import cuda_graph
from tests.configs import compose_config
from tests.models import recorder
from tests.models.fitting import fit_with_lightning
from tests.selection import slow_except

OVERRIDES = [
    ["model=mlp_128_64", "optimizer=adam", "scheduler=onecycle"],
    ["model=mlp_128_64", "optimizer=adamw", "optimizer.weight_decay=0.1", "trainer.gradient_clip_val=0.5"],
    ["model=mlp_128_64", "optimizer=sgd", "scheduler=cosine"],
    ["model=mlp_128_64", "optimizer=adam", "scheduler=onecycle", "scheduler.cycle_momentum=true"],
    ["model=mlp_128_64", "optimizer=sgd", "optimizer.momentum=0.9", "optimizer.nesterov=true"],
    ["model=mlp_128_64", "loss=mse", "model.output=softmax", "model.activation=tanh"],
    ["model=cnn", "data.batch_size=200"],
    ["model=cnn", "data.batch_size=200", "trainer.precision=bf16-mixed", "trainer.gradient_clip_val=0.5"],
    ["model=fast_cnn", "data.batch_size=200", "scheduler=onecycle", "loss.label_smoothing=0.1"],
    ["model=convnet", "model.channels=[4,8]", "model.dropout=0.5", "data.batch_size=200"],
]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Treats the CPU as a GPU. The list gets one entry for each recorded step."""
    times: list[int] = []

    def record(step: Any) -> Any:
        recording = recorder.record(step)
        times.append(1)
        return recording

    monkeypatch.setattr(cuda_graph, "DEVICE", "cpu")
    monkeypatch.setattr(cuda_graph, "record", record)
    return times


def fit(
    tmp_path: Path, overrides: Sequence[str], steps_per_execution: int, accelerator: str = "cpu"
) -> tuple[DigitClassifier, Trainer]:
    config = compose_config("data=digits", *overrides)
    data = build_data(config)
    seed_everything(0, verbose=False)
    model = build_model(config, data.steps_per_epoch)
    data.steps_per_execution = steps_per_execution
    return model, fit_with_lightning(model, data, tmp_path, precision=config.trainer.precision, accelerator=accelerator)


@pytest.mark.parametrize(
    "overrides", slow_except(OVERRIDES, OVERRIDES[0], OVERRIDES[1], OVERRIDES[3], OVERRIDES[9]), ids=" ".join
)
def test_replayed_steps_give_the_same_weights(tmp_path: Path, recorded: list[int], overrides: list[str]) -> None:
    """Each replay has its own learning rate, batch, counts, averages of batch norm and random numbers of dropout."""
    replayed, trainer = fit(tmp_path, overrides, 7)
    assert len(recorded) == 1
    one_by_one, other_trainer = fit(tmp_path, overrides, 1)
    assert len(recorded) == 1
    assert trainer.global_step == other_trainer.global_step
    assert replayed.steps.meter.step == one_by_one.steps.meter.step
    assert replayed.steps.replayed is None, "the memory of the GPU is released"
    for name, tensor in replayed.state_dict().items():
        torch.testing.assert_close(tensor, one_by_one.state_dict()[name], rtol=0, atol=1e-6, msg=name)
    for name in ("val_loss", "val_acc", "train_loss", "train_acc"):
        measured, expected = (float(it.callback_metrics[name]) for it in (trainer, other_trainer))
        assert measured == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adagrad", "rmsprop"])
def test_an_optimizer_that_cannot_be_recorded_trains_without_a_graph(
    tmp_path: Path, recorded: list[int], optimizer: str
) -> None:
    overrides = ["model=mlp_128_64", f"optimizer={optimizer}"]
    model, _ = fit(tmp_path, overrides, 7)
    assert weights_digest(model) == weights_digest(fit(tmp_path, overrides, 1)[0])
    assert not recorded


class DropsLayers(MLP):
    """Runs other operations from batch to batch, although its base class has a static graph."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.extra = nn.Linear(784, 10)
        self.taken = 0

    def forward(self, images: Tensor) -> Tensor:
        self.taken += self.training
        return self.network(images) + (self.extra(images.flatten(1)) if self.taken % 2 else 0)


class Reads(MLP):
    """Declares a static graph, but reads a number from the device."""

    static_graph = True

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * (2 if images.mean().item() > 100 else 1)


def train_network(
    network: type[DigitClassifier], tmp_path: Path, steps_per_execution: int, **options: Any
) -> DigitClassifier:
    data = build_data(compose_config("data=digits"))
    data.steps_per_execution = steps_per_execution
    seed_everything(0, verbose=False)
    model = network(optimizer=partial(torch.optim.Adam, lr=0.01, fused=True), **options)
    fit_with_lightning(model, data, tmp_path)
    return model


def test_a_custom_network_is_recorded_only_if_it_declares_a_static_graph(tmp_path: Path, recorded: list[int]) -> None:
    assert weights_digest(train_network(DropsLayers, tmp_path, 7, hidden=[16])) == weights_digest(
        train_network(DropsLayers, tmp_path, 1, hidden=[16])
    )
    assert not recorded


def test_a_network_that_cannot_be_recorded_trains_without_a_graph(
    tmp_path: Path, recorded: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        model = train_network(Reads, tmp_path, 7, hidden=[16])
    assert "Reads" in caplog.text
    assert "not permitted" in caplog.text
    assert weights_digest(model) == weights_digest(train_network(Reads, tmp_path, 1, hidden=[16]))
    assert not recorded


def test_a_second_fit_of_the_same_network_records_again(tmp_path: Path, recorded: list[int]) -> None:
    """The second fit has a new optimizer, so the kernel must change new moments."""
    model = train_network(MLP, tmp_path, 7, hidden=[16])
    twin = train_network(MLP, tmp_path, 1, hidden=[16])
    data = build_data(compose_config("data=digits"))
    for network, steps_per_execution in ((model, 7), (twin, 1)):
        data.steps_per_execution = steps_per_execution
        fit_with_lightning(network, data, tmp_path)
    assert len(recorded) == 2
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, twin.state_dict()[name], rtol=0, atol=1e-6, msg=name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("overrides", OVERRIDES, ids=" ".join)
def test_replayed_steps_give_the_same_weights_on_a_gpu(
    tmp_path: Path, overrides: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[int] = []
    record = cuda_graph.record
    monkeypatch.setattr(cuda_graph, "record", lambda step: times.append(1) or record(step))
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        replayed, _ = fit(tmp_path, overrides, 7, accelerator="gpu")
        one_by_one, _ = fit(tmp_path, overrides, 1, accelerator="gpu")
    assert "cannot be recorded" not in caplog.text
    assert len(times) == 1
    for name, tensor in replayed.state_dict().items():
        torch.testing.assert_close(tensor, one_by_one.state_dict()[name], rtol=1e-4, atol=1e-5, msg=name)
