"""Every YAML file composes and builds, options reach their objects, and errors name what is wrong."""

import itertools
import re
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from mnist_lit.build import build_model
from mnist_lit.config import ClassSection, parse_config
from mnist_lit.errors import UserError
from mnist_lit.models.classifier import EXTENDED_METHODS, STEP_METHODS, DigitClassifier
from mnist_lit.training.schedulers import describe_schedule
from tests import dropout_network
from tests.configs import PROJECT, check_config, compose_config
from tests.selection import slow_except


def list_choices() -> Iterator[str]:
    for path in sorted((PROJECT / "conf").glob("*/*.yaml")):
        yield f"{path.parent.name}={path.stem}"


@pytest.mark.parametrize("choice", list(list_choices()))
def test_every_yaml_file_composes_and_builds(choice: str) -> None:
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
        schedule["scheduler"].step()
    return rates


def test_the_step_schedule_counts_epochs() -> None:
    assert learning_rates("step", 5, 3) == pytest.approx([0.5] * 5 + [0.35] * 5 + [0.245] * 5)


def test_the_cosine_schedule_falls_over_the_whole_run() -> None:
    rates = learning_rates("cosine", 50, 2)
    assert rates[0] == 0.5
    assert rates[50] == pytest.approx(0.25)
    assert rates[-1] < 0.001
    assert all(later < earlier for earlier, later in itertools.pairwise(rates))


def test_the_onecycle_schedule_peaks_at_the_lr_of_the_optimizer() -> None:
    rates = learning_rates("onecycle", 50, 2)
    assert max(rates) == pytest.approx(0.5, rel=1e-3)
    assert rates.index(max(rates)) == pytest.approx(30, abs=1)
    assert rates[-1] < 1e-4


def test_fused_and_plain_optimizers_make_the_same_step() -> None:
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
    (["model=mlp_500", "model.hidden=[500,-1]"], ["model.hidden.1=-1: should be a whole number"]),
    (["model.activation=swish"], ["model.activation=swish", "leaky_relu"]),
    (["optimizer._target_=lion"], ["optimizer._target_=lion", "torch.optim.Optimizer"]),
    (["optimizer.betas=[0.9]"], ["optimizer.betas=[0.9]: should be a list, such as [0.9, 0.999]"]),
    (["optimizer.betas=null"], ["optimizer.betas=null: should be a list, such as [0.9, 0.999]"]),
    (["optimizer.lr=null"], ["optimizer.lr=null: should be a number, such as 0.001"]),
    (["scheduler=step", "scheduler.gamma=null"], ["scheduler.gamma=null: should be a number, such as 0.7"]),
    (["loss.label_smoothing=null"], ["loss.label_smoothing=null: should be a number, such as 0.0"]),
    (["model=mlp_500", "model.hidden=null"], ["model.hidden=null: should be a list, such as [500]"]),
    (["trainer.max_epochs=1.5"], ["trainer.max_epochs=1.5: should be a whole number"]),
    (["trainer.steps_per_execution=x"], ["trainer.steps_per_execution=x: should be a whole number or auto"]),
    (["trainer.enable_progress_bar=1"], ["trainer.enable_progress_bar=1: should be true or false"]),
    (["trainer.gradient_clip_val=a"], ["trainer.gradient_clip_val=a: should be a number"]),
    (["data.name=a/b"], ["data.name=a/b: should be 1 to 40 letters, digits, -, _ and ."]),
    (["data.classes=[a,b]"], ["data.classes=[a, b]: should be a list of at least 10"]),
    (["data.augment=5"], ["data.augment=5: should be a mapping"]),
    (["data.augment={rotation: 200}"], ["data.augment.rotation=200: should be at most 180"]),
    (["checkpoint.monitor=x"], ["checkpoint.monitor=x: should be val_acc or val_loss"]),
    (["callbacks.graph=null"], ["callbacks.graph=null: should be true or false"]),
    (["optimizer=sgd", "optimizer.nesterov=true"], ["optimizer.nesterov=true", "momentum"]),
    (["loss=nll"], ["loss=nll", "model.output=log_softmax"]),
    (["loss=nll", "model.output=softmax"], ["loss=nll", "model.output=softmax"]),
    (["seed=-1"], ["seed=-1"]),
    (["seed=null"], ["seed=null"]),
    (["trainer.max_epochs=0"], ["trainer.max_epochs=0"]),
    (["trainer.limit_train_batches=0"], ["trainer.limit_train_batches=0", "at least 1", "0.1 is a tenth"]),
    (["trainer.limit_val_batches=1.5"], ["trainer.limit_val_batches=1.5", "at least 1", "0.1 is a tenth"]),
    (["trainer.limit_test_batches=true"], ["trainer.limit_test_batches=true", "at least 1", "0.1 is a tenth"]),
    (["trainer.limit_test_batches=0.001"], ["trainer.limit_test_batches=0.001", "157 batches", "0.007"]),
    (["data=digits", "trainer.limit_val_batches=0.1"], ["trainer.limit_val_batches=0.1", "3 batches", "0.334"]),
    (["trainer.accumulate_grad_batches=861"], ["trainer.accumulate_grad_batches=861", "at most 860"]),
    (
        ["trainer.accumulate_grad_batches=4", "trainer.limit_train_batches=3"],
        ["trainer.accumulate_grad_batches=4", "at most 3"],
    ),
    (["tags=[a b]"], ["tags.0=a b"]),
    (["init_from=nowhere"], ["init_from=nowhere: there is no such run"]),
    (["trainer.steps_per_execution=0"], ["trainer.steps_per_execution"]),
    (["trainer=cpu", "trainer.precision=16-mixed"], ["trainer.precision=16-mixed", "bf16-mixed"]),
    (
        ["trainer.precision=16-mixed", "trainer.gradient_clip_val=1"],
        ["trainer.gradient_clip_val=1", "trainer.precision=16-mixed", "bf16-mixed"],
    ),
    (["data.std=0"], ["data.std=0"]),
    (["trainer.profiler=slow"], ["trainer.profiler=slow: should be simple or advanced"]),
    (["loss.label_smoothing=1"], ["loss.label_smoothing=1", "less than 1"]),
    (["loss=mse", "+loss.label_smoothing=0.1"], ["loss.label_smoothing"]),
    (["optimizer.lr=.inf"], ["optimizer.lr"]),
    (["model.activation=3"], ["model.activation=3: should be a text, such as relu"]),
    (["optimizer.lr=true"], ["optimizer.lr=true: should be a number"]),
    (["optimizer.betas=0.9"], ["optimizer.betas=0.9: should be a list, such as [0.9, 0.999]"]),
    (["optimizer.betas=[0.9,x]"], ["optimizer.betas.1=x: should be a number"]),
    (["optimizer.betas=[0.9,1]"], ["optimizer.betas.1=1: should be at least 0 and less than 1"]),
    (["model=mlp_500", "model.hidden=a"], ["model.hidden=a: should be a list, such as [500]"]),
    (["+optimizer._args_=[1]"], ["optimizer._args_: there is no such option"]),
    (["+optimizer._partial_=1"], ["optimizer._partial_=1: should be true"]),
    (["+model.inner={_target_: os.system}"], ["model.inner._target_: only a section itself can name a class"]),
    (["+optimizer.amsgrad=nan"], ["optimizer.amsgrad=nan: should be a finite number"]),
    (["model.activation=3", "optimizer.lr=-1"], ["model.activation=3", "optimizer.lr=-1"]),
    (["model.activation=foo", "optimizer.eps=-1"], ["model.activation=foo", "optimizer.eps=-1"]),
    (["~optimizer.lr"], ["optimizer.lr: is missing"]),
    (["optimizer.weight_decay=null"], ["optimizer.weight_decay=null"]),
    (["model=mlp_500", "model.hidden=[10000000]"], ["7,950,000,010 parameters", "GB"]),
    (["scheduler=step", "scheduler.step_size=1.5"], ["step_size=1.5: should be a whole number"]),
]


@pytest.mark.parametrize(("overrides", "named"), BAD, ids=lambda value: " ".join(value))
def test_an_error_names_what_is_wrong(overrides: list[str], named: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        check_config(*overrides)
    for words in named:
        assert words in str(caught.value)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(set(lines))
    assert not re.search("Input should|a valid |NoneType|None:|not supported between|out of range", str(caught.value))


def test_an_entry_that_is_null_is_switched_off() -> None:
    target = "+callbacks.x._target_=lightning.pytorch.callbacks.Timer"
    assert [*check_config(target).callbacks.entries] == ["x"]
    assert check_config(target, "callbacks.x=null", "+logger.y=null").callbacks.entries == {}


def test_partial_is_accepted_and_changes_nothing() -> None:
    """Many Hydra configs have this key."""
    config = check_config("+optimizer._partial_=true")
    assert config.optimizer.options == check_config().optimizer.options


def test_a_schedule_gets_the_number_of_steps_unless_its_section_gives_one() -> None:
    schedules = []
    for overrides in ([], ["+scheduler.T_max=7"]):
        (_,), (schedule,) = build_model(compose_config(*overrides), steps_per_epoch=50).configure_optimizers()
        schedules.append(schedule["scheduler"].T_max)
    assert schedules == [100, 7]


@pytest.mark.parametrize(("overrides", "fused"), [([], True), (["+optimizer.foreach=true"], None)])
def test_an_optimizer_is_fused_unless_the_config_asks_for_something_else(
    overrides: list[str], fused: bool | None
) -> None:
    optimizer = build_model(compose_config("scheduler=none", *overrides), steps_per_epoch=7).configure_optimizers()
    assert optimizer.defaults["fused"] is fused


def test_mirrors_can_be_a_list_or_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_LIT_MIRRORS", "http://a/, http://b/")
    assert compose_config().data.mirrors == ["http://a/", "http://b/"]
    assert compose_config("data.mirrors=[http://c/]").data.mirrors == ["http://c/"]
    monkeypatch.delenv("MNIST_LIT_MIRRORS")
    assert compose_config().data.mirrors is None


def test_a_config_that_is_not_a_mapping_is_an_error() -> None:
    with pytest.raises(UserError):
        parse_config(["model"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data=fashion_mnist", "data.augment={drawn: 0.2}"],
            "data.augment.drawn=0.2 data.augment.others=0.0: replaces",
        ),
        (["data=kmnist", "data.augment={others: 0.1}"], "which are no kmnist; set both to 0"),
        (["data=digits", "data.augment={drawn: 0.7, others: 0.7}"], "should be at most 1 together"),
        (["data=digits", "data._target_=[a]"], "data._target_=[a]: should be a class derived from"),
        (["data=digits", "+callbacks.own=5"], "callbacks.own=5: is neither a switch"),
        (["data=digits", "+callbacks.float=5"], "callbacks.float=5: is neither a switch"),
    ],
    ids=str,
)
def test_an_error_names_the_whole_option(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError) as raised:
        check_config(*overrides, "trainer=cpu")
    assert message in str(raised.value)


@pytest.mark.parametrize("method", [name for name in STEP_METHODS if name != "configure_optimizers"])
def test_a_network_whose_method_would_not_be_used_is_an_error(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropout_network.Dropout, method, lambda *_: None, raising=False)
    with pytest.raises(UserError, match=f"a run makes its steps in blocks and would not use its {method}"):
        check_config("model=cnn", "~model.activation", "model._target_=tests.dropout_network.Dropout", "data=digits")


@pytest.mark.parametrize("method", slow_except(EXTENDED_METHODS, "on_train_epoch_end", "validation_step"))
def test_a_hook_that_leaves_out_the_work_of_the_base_is_an_error(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ["model=cnn", "~model.activation", "model._target_=tests.dropout_network.Dropout", "data=digits"]
    monkeypatch.setattr(dropout_network.Dropout, method, lambda *_: None, raising=False)
    with pytest.raises(UserError, match=rf"its {method} has to call super\(\).{method}"):
        check_config(*own)
    calls_base = eval(f"lambda self, *given: base.{method}(self, *given)", {"base": DigitClassifier})
    monkeypatch.setattr(dropout_network.Dropout, method, calls_base)
    check_config(*own)


def test_a_network_with_an_optimizer_of_its_own_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropout_network.Dropout, "configure_optimizers", lambda *_: None, raising=False)
    with pytest.raises(UserError, match="takes the optimizer and the schedule from the config; leave out its conf"):
        check_config("model=cnn", "~model.activation", "model._target_=tests.dropout_network.Dropout", "data=digits")


def test_a_step_schedule_with_the_default_of_its_class_is_described() -> None:
    scheduler = ClassSection.model_validate({"_target_": "mnist_lit.training.schedulers.EpochStepLR", "step_size": 2})
    optimizer = ClassSection.model_validate({"_target_": "torch.optim.SGD", "lr": 0.5})
    assert describe_schedule(scheduler, optimizer, 10) == "0.5 at first, times 0.1 after every 2 epochs"


def test_a_schedule_with_an_option_that_is_null_is_described() -> None:
    options = {"_target_": "torch.optim.lr_scheduler.OneCycleLR", "total_steps": None, "epochs": 2}
    optimizer = ClassSection.model_validate({"_target_": "torch.optim.SGD", "lr": 0.5})
    described = describe_schedule(ClassSection.model_validate(options), optimizer, 10)
    assert described == "one cycle from 0.02 to 0.5 in 3 steps, then to 2e-06 in 7"
