"""The direct way of making a step: the same weights and counts as Lightning's, and no listener left out."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.optim import Optimizer

from mnist_lit.models.steps import needs_lightning
from mnist_lit.models.updates import fast_update
from mnist_lit.training.build import build_data, build_model, optimizer_factory
from mnist_lit.training.checkpoints import weights_digest
from tests.conftest import compose_config
from tests.models.fitting import fitted


class CountsBackwards(Callback):
    def __init__(self) -> None:
        self.heard = 0

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.heard += 1


class DropsGradients(Callback):
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: object) -> None:
        for parameter in pl_module.parameters():
            assert isinstance(parameter.grad, Tensor)
            parameter.grad.zero_()


OPTIMIZERS = [
    ["optimizer=adam", "scheduler=onecycle"],
    ["optimizer=adamw", "optimizer.weight_decay=0.1"],
    ["optimizer=sgd"],
    ["optimizer=sgd", "optimizer.momentum=0.9", "optimizer.nesterov=true", "optimizer.weight_decay=0.01"],
    ["optimizer=adagrad"],
    ["optimizer=rmsprop"],
    ["optimizer=adam", "trainer.precision=bf16-mixed"],
]


def fit(tmp_path: Path, *callbacks: Callback, overrides: Sequence[str] = ()) -> tuple[str, int, bool]:
    """Digest of the weights, steps counted, whether Lightning's way was taken."""
    config = compose_config("data=digits", "model=mlp_128_64", "trainer.gradient_clip_val=0.5", *overrides)
    data = build_data(config)
    seed_everything(0, verbose=False)
    model = build_model(config, data.steps_per_epoch)
    data.steps_per_execution = 7
    trainer = fitted(model, data, tmp_path, *callbacks, precision=config.trainer.precision)
    return weights_digest(model), trainer.global_step, needs_lightning(trainer, model)


@pytest.mark.parametrize("overrides", OPTIMIZERS, ids=" ".join)
def test_both_ways_make_the_same_steps_and_a_listener_hears_each(tmp_path: Path, overrides: list[str]) -> None:
    listener = CountsBackwards()
    direct, direct_steps, through_lightning = fit(tmp_path, overrides=overrides)
    assert not through_lightning
    assert direct_steps == 2 * 20
    assert fit(tmp_path, listener, overrides=overrides) == (direct, direct_steps, True)
    assert listener.heard == direct_steps


def test_a_listener_may_change_the_gradients(tmp_path: Path) -> None:
    assert fit(tmp_path, DropsGradients())[0] != fit(tmp_path)[0]


def test_a_layer_that_a_batch_passes_by_is_left_alone() -> None:
    """Also in the middle of a block, and however often its weights have been updated before."""

    def train(update_of: Callable[[Optimizer], Callable[[], object]]) -> list[Tensor]:
        torch.manual_seed(0)
        first, second = nn.Linear(3, 3), nn.Linear(3, 3)
        optimizer = optimizer_factory("adam", lr=0.1)([*first.parameters(), *second.parameters()])
        for block in range(3):
            update = update_of(optimizer)
            for step in range(4):
                optimizer.zero_grad()
                passed = first(torch.ones(1, 3))
                (second(passed) if step % 2 == block % 2 else passed).square().sum().backward()
                update()
        return [*first.parameters(), *second.parameters()]

    for fast, slow in zip(train(fast_update), train(lambda optimizer: optimizer.step), strict=True):
        assert torch.equal(fast, slow)
