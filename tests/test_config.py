"""The config: every shipped YAML composes and builds, what is typed arrives, what is wrong is named."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from mnist_lit.config import parse_config
from mnist_lit.errors import UserError
from mnist_lit.training.build import build_model
from tests.conftest import PROJECT, compose_config


def choices() -> Iterator[str]:
    for path in sorted((PROJECT / "conf").glob("*/*.yaml")):
        yield f"{path.parent.name}={path.stem}"


@pytest.mark.parametrize("choice", list(choices()))
def test_every_yaml_composes_and_builds(choice: str) -> None:
    overrides = ["model.output=log_softmax"] if choice == "loss=nll" else []
    model = build_model(compose_config(choice, *overrides), steps_per_epoch=7)
    assert model.configure_optimizers()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "adagrad", "rmsprop"])
def test_lr_and_weight_decay_reach_the_optimizer(optimizer: str) -> None:
    config = compose_config(
        f"optimizer={optimizer}", "optimizer.lr=0.123", "optimizer.weight_decay=0.045", "scheduler=none"
    )
    (group,) = build_model(config, steps_per_epoch=7).configure_optimizers().param_groups
    assert group["lr"] == 0.123
    assert group["weight_decay"] == 0.045


def learning_rates(scheduler: str, steps_per_epoch: int, epochs: int) -> list[float]:
    config = compose_config(f"scheduler={scheduler}", f"trainer.max_epochs={epochs}", "optimizer.lr=0.5")
    (optimizer,), (schedule,) = build_model(config, steps_per_epoch).configure_optimizers()
    rates = []
    for _ in range(steps_per_epoch * epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_step_schedule_counts_epochs() -> None:
    assert learning_rates("step", 5, 3) == pytest.approx([0.5] * 5 + [0.35] * 5 + [0.245] * 5)


def test_cosine_falls_over_the_whole_run() -> None:
    rates = learning_rates("cosine", 50, 2)
    assert rates[0] == 0.5
    assert rates[50] == pytest.approx(0.25)
    assert rates[-1] < 0.001
    assert all(later < earlier for earlier, later in itertools.pairwise(rates))


def test_onecycle_peaks_at_the_optimizers_lr() -> None:
    rates = learning_rates("onecycle", 50, 2)
    assert max(rates) == pytest.approx(0.5, rel=1e-3)
    assert rates.index(max(rates)) == pytest.approx(30, abs=1)
    assert rates[-1] < 1e-4


def test_fused_and_plain_optimisers_make_the_same_step() -> None:
    for name, plain in {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad, "sgd": torch.optim.SGD}.items():
        torch.manual_seed(0)
        model = build_model(compose_config(f"optimizer={name}", "model=mlp_4x64", "scheduler=none"), 1)
        twin = build_model(compose_config(f"optimizer={name}", "model=mlp_4x64", "scheduler=none"), 1)
        twin.load_state_dict(model.state_dict())
        ours, theirs = (
            model.configure_optimizers(),
            plain(twin.parameters(), lr=model.configure_optimizers().defaults["lr"]),
        )
        for network, optimizer in ((model, ours), (twin, theirs)):
            nn.functional.cross_entropy(network(torch.ones(4, 1, 28, 28)), torch.arange(4)).backward()
            optimizer.step()
        for one, other in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.allclose(one, other, atol=1e-7)


BAD = [
    (["optimizer.lr=abc"], ["optimizer.lr=abc"]),
    (["optimizer.lr=-1"], ["optimizer.lr=-1", "greater than 0"]),
    (["data.val_size=70000", "data.batch_size=0"], ["data.val_size=70000", "data.batch_size=0"]),
    (["data.batch_size=56000"], ["data.batch_size=56000", "55000"]),
    (["data=digits", "data.val_size=1430"], ["data.val_size=1430", "1427"]),
    (["+model.foo=1"], ["model.foo"]),
    (["model=mlp_500", "model.hidden=[500,-1]"], ["model.hidden.1=-1"]),
    (["model.activation=swish"], ["model.activation=swish", "'leaky_relu'"]),
    (["optimizer.name=lion"], ["optimizer.name=lion", "'adamw'"]),
    (["optimizer.betas=[0.9]"], ["optimizer.betas"]),
    (["optimizer=sgd", "optimizer.nesterov=true"], ["optimizer.nesterov", "optimizer.momentum"]),
    (["loss=nll"], ["loss=nll", "model.output=log_softmax"]),
    (["loss=nll", "model.output=softmax"], ["loss=nll", "model.output=softmax"]),
    (["seed=-1"], ["seed=-1"]),
    (["seed=null"], ["seed=null"]),
    (["trainer.max_epochs=0"], ["trainer.max_epochs=0"]),
    (["trainer.steps_per_execution=0"], ["trainer.steps_per_execution"]),
    (["trainer=cpu", "trainer.precision=16-mixed"], ["trainer.precision=16-mixed", "bf16-mixed"]),
    (
        ["trainer.precision=16-mixed", "trainer.gradient_clip_val=1"],
        ["trainer.gradient_clip_val=1", "trainer.precision=16-mixed", "bf16-mixed"],
    ),
    (["data.std=0"], ["data.std=0"]),
    (["trainer.profiler=slow"], ["trainer.profiler=slow", "'advanced'"]),
    (["loss.label_smoothing=1"], ["loss.label_smoothing=1", "less than 1"]),
    (["loss=mse", "+loss.label_smoothing=0.1"], ["loss.label_smoothing"]),
    (["optimizer.lr=.inf"], ["optimizer.lr"]),
]


@pytest.mark.parametrize(("overrides", "named"), BAD, ids=lambda value: " ".join(value))
def test_what_is_wrong_is_named(overrides: list[str], named: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        compose_config(*overrides)
    for words in named:
        assert words in str(caught.value)


def test_mirrors_may_be_a_list_or_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_LIT_MIRRORS", "http://a/, http://b/")
    assert compose_config().data.mirrors == ["http://a/", "http://b/"]
    assert compose_config("data.mirrors=[http://c/]").data.mirrors == ["http://c/"]
    monkeypatch.delenv("MNIST_LIT_MIRRORS")
    assert compose_config().data.mirrors is None


def test_a_config_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(UserError):
        parse_config(["model"])
