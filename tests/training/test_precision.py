"""Mixed precision only trains: validation and test compute in 32 bits. `auto` depends on network and device."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from mnist_lit.build import build_model
from mnist_lit.config import ClassSection
from mnist_lit.evaluation.run_evaluation import evaluate_run
from mnist_lit.models import DigitClassifier
from mnist_lit.models.checkpoint_file import load_classifier, read_checkpoint, weights_digest
from mnist_lit.run_folder import BEST, CHECKPOINTS, LAST, read_config
from mnist_lit.training import devices
from mnist_lit.training.run import train
from tests.configs import compose_config
from tests.conftest import TINY, Run
from tests.selection import slow_except

Start = Callable[..., Run]
MIXED = ["model=cnn", "trainer.precision=bf16-mixed"]
AUTO = ["model=cnn", "trainer.precision=auto"]


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether the device is faster with bf16 numbers."""

    def pretend(faster: bool) -> None:
        monkeypatch.setattr(devices, "is_faster_in_bf16", lambda accelerator: faster)

    return pretend


def digest(run: Run) -> str:
    return weights_digest(load_classifier(run.folder / CHECKPOINTS / LAST))


def test_weights_and_tests_of_mixed_precision_are_of_32_bits(run: Start) -> None:
    done = run(*MIXED)
    assert done.result["test_acc"] > 0.8
    assert done.result["precision"] == "bf16-mixed"
    weights = read_checkpoint(done.folder / CHECKPOINTS / BEST)["state_dict"].values()
    assert {weight.dtype for weight in weights} == {torch.float32}
    again = evaluate_run(done.folder)
    assert again.test_acc == pytest.approx(done.result["test_acc"], abs=1e-6)
    assert again.test_loss == pytest.approx(done.result["test_loss"], abs=1e-6), "bf16 has three digits"


@pytest.mark.slow
def test_mixed_precision_gives_other_weights_and_the_same_ones_again(run: Start) -> None:
    mixed, again, full = run(*MIXED, name="a"), run(*MIXED, name="b"), run("model=cnn", name="c")
    assert digest(mixed) == digest(again)
    assert digest(mixed) != digest(full)


@pytest.mark.parametrize(
    ("model", "faster", "used"),
    [
        ("cnn", True, "bf16-mixed"),
        ("convnet", True, "bf16-mixed"),
        ("cnn", False, "32-true"),
        ("mlp_500", True, "32-true"),
        ("mlp_500", False, "32-true"),
    ],
)
def test_auto_takes_bf16_for_convolutions_where_the_device_is_faster(
    hardware: Callable[[bool], None], model: str, faster: bool, used: str
) -> None:
    hardware(faster)
    network = build_model(compose_config(f"model={model}"), steps_per_epoch=1)
    assert devices.choose_precision("auto", "cpu", network) == used
    assert devices.choose_precision("32-true", "cpu", network) == "32-true"
    line = devices.explain_precision("auto", used, "cpu", network, resumed=False)
    assert line.startswith(f"{used} (auto: ")
    assert ("convolutions" in line) == (model == "mlp_500")
    for resumed in (False, True):
        line = devices.explain_precision("32-true", "32-true", "cpu", network, resumed=resumed)
        assert ("trainer.precision=auto is faster here" in line) == (used != "32-true" and not resumed)


class Columns(nn.Module):
    """A convolution over the rows, which is no Conv2d."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.output = nn.Conv1d(28, 8, 3), nn.Linear(8 * 26, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.output(self.convolution(images.squeeze(1)).flatten(1))


def test_any_convolution_counts() -> None:
    model = build_model(compose_config("model=mlp_500"), steps_per_epoch=1)
    assert not devices.has_convolutions(model)
    model.network = Columns()
    assert devices.has_convolutions(model)


@pytest.mark.parametrize("gain", [0.5, 1.0, 2.0])
def test_a_cpu_needs_the_instructions_and_a_gain(monkeypatch: pytest.MonkeyPatch, gain: float) -> None:
    """Some CPUs have the instructions, and are slower with them."""
    monkeypatch.setattr(devices, "measure_bf16_gain", lambda: gain)
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        flags = lines.read().split()
    expected = ("avx512_bf16" in flags or "amx_bf16" in flags) and gain == 2.0
    assert devices.is_faster_in_bf16("cpu") == expected
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)  # as in an older torch
    assert devices.is_faster_in_bf16("cpu") == expected


def test_the_gain_is_measured_in_one_thread_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, during = torch.get_num_threads(), []
    product = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b: (during.append(torch.get_num_threads()), product(a, b))[1])
    devices.measure_bf16_gain.cache_clear()
    gain = devices.measure_bf16_gain()
    assert gain > 0
    assert set(during) == {1}
    assert torch.get_num_threads() == threads
    during.clear()
    assert devices.measure_bf16_gain() == gain
    assert not during


@pytest.mark.parametrize("faster", slow_except([True, False], True))
def test_a_resumed_run_keeps_the_precision_that_auto_has_chosen(
    run: Start, hardware: Callable[[bool], None], faster: bool
) -> None:
    """Another machine may choose another one."""
    hardware(faster)
    begun = run(*AUTO, "scheduler=none", "trainer.max_epochs=1")
    assert begun.result["precision"] == ("bf16-mixed" if faster else "32-true")
    assert read_config(begun.folder).trainer.precision == "auto"
    whole = run(*AUTO, "scheduler=none", "trainer.max_epochs=2", name="whole")
    hardware(not faster)
    longer = compose_config("data=digits", "trainer=cpu", *AUTO, "scheduler=none", "trainer.max_epochs=2")
    result = train(longer, begun.folder, {"command": "python train.py"}, resume=True)
    assert result["precision"] == begun.result["precision"]
    assert digest(begun) == digest(whole)


class NotesAutocast(torch.optim.SGD):
    seen: ClassVar[list[bool]] = []

    def step(self, closure: Any = None) -> Any:
        self.seen.append(torch.is_autocast_enabled("cpu"))
        return super().step(closure)


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        return 2 * images

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        NotesAutocast.seen.append(torch.is_autocast_enabled("cpu"))
        return 2 * gradient


class Doubles(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return Twice.apply(images)  # type: ignore[no-any-return, no-untyped-call]


class DoublesScores(DigitClassifier):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), Doubles())


def test_backward_and_update_run_in_32_bits_as_in_plain_lightning(tmp_path: Path) -> None:
    NotesAutocast.seen.clear()
    config = compose_config(*TINY, "trainer.precision=bf16-mixed", "trainer.max_epochs=1", "scheduler=none")
    model = ClassSection.model_validate({"_target_": f"{__name__}.DoublesScores"})
    optimizer = ClassSection.model_validate({"_target_": f"{__name__}.NotesAutocast", "lr": 0.1})
    train(config.model_copy(update={"model": model, "optimizer": optimizer}), tmp_path, {})
    assert len(NotesAutocast.seen) >= 2 * 20
    assert not any(NotesAutocast.seen)
