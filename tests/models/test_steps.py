"""Direct training steps give the same weights and counts as Lightning's steps, and every callback is called."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn
from torch.optim import Optimizer

from mnist_lit.build import build_data, build_model
from mnist_lit.models.checkpoint_file import weights_digest
from mnist_lit.private_apis import fast_update
from mnist_lit.training.step import needs_lightning
from tests.configs import compose_config
from tests.models.fitting import fit_with_lightning
from tests.selection import slow_except


class CountsBackwardPasses(Callback):
    def __init__(self) -> None:
        self.count = 0

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.count += 1


class CountsZeroedGradients(Callback):
    def __init__(self) -> None:
        self.count = 0

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self.count += 1


class ZeroesGradients(Callback):
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
    """Returns the digest of the weights, the number of steps, and whether Lightning makes the steps."""
    config = compose_config("data=digits", "model=mlp_128_64", "trainer.gradient_clip_val=0.5", *overrides)
    data = build_data(config)
    seed_everything(0, verbose=False)
    model = build_model(config, data.steps_per_epoch)
    data.steps_per_execution = 7
    trainer = fit_with_lightning(model, data, tmp_path, *callbacks, precision=config.trainer.precision)
    return weights_digest(model), trainer.global_step, needs_lightning(trainer, model)


@pytest.mark.parametrize(
    "overrides", slow_except(OPTIMIZERS, OPTIMIZERS[0], OPTIMIZERS[3], OPTIMIZERS[6]), ids=" ".join
)
def test_direct_steps_match_lightning_and_a_callback_is_called_at_each(tmp_path: Path, overrides: list[str]) -> None:
    counter = CountsBackwardPasses()
    direct, direct_steps, through_lightning = fit(tmp_path, overrides=overrides)
    assert not through_lightning
    assert direct_steps == 2 * 20
    assert fit(tmp_path, counter, overrides=overrides) == (direct, direct_steps, True)
    assert counter.count == direct_steps


def test_hooks_of_every_kind_of_callback_are_called_at_each_step(tmp_path: Path) -> None:
    """A LambdaCallback has its hooks on the object."""
    called: list[object] = []
    zeroed, own = CountsZeroedGradients(), LambdaCallback(on_before_optimizer_step=lambda *_: called.append(1))
    direct, steps, _ = fit(tmp_path)
    assert fit(tmp_path, zeroed, own) == (direct, steps, True)
    assert len(called) == zeroed.count == steps


def test_a_callback_can_change_the_gradients(tmp_path: Path) -> None:
    assert fit(tmp_path, ZeroesGradients())[0] != fit(tmp_path)[0]


class MeasuresGradients(Callback):
    """Before the step, where the gradients are whole, and after it, where they are clipped."""

    def __init__(self) -> None:
        self.norms: list[list[float]] = [[], []]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        assert isinstance(optimizer, torch.optim.Adam)
        self.norms[0].append(self.measure(pl_module))

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self.norms[0]:
            self.norms[1].append(self.measure(pl_module))

    def measure(self, pl_module: LightningModule) -> float:
        return float(nn.utils.get_total_norm([p.grad for p in pl_module.parameters() if p.grad is not None]))


def test_a_hook_of_the_step_sees_gradients_before_they_are_clipped(tmp_path: Path) -> None:
    measured = MeasuresGradients()
    direct, steps, _ = fit(tmp_path)
    assert fit(tmp_path, measured) == (direct, steps, True)
    before, after = measured.norms
    assert len(before) == steps
    assert max(before) > 0.5 >= max(after) - 1e-5
    assert len(after) == steps - 1


def test_a_layer_without_gradients_is_not_updated() -> None:
    """This holds in the middle of a block too, and after any number of earlier updates."""

    def train(update_of: Callable[[Optimizer], Callable[[], object]]) -> list[Tensor]:
        torch.manual_seed(0)
        first, second = nn.Linear(3, 3), nn.Linear(3, 3)
        optimizer = torch.optim.Adam([*first.parameters(), *second.parameters()], lr=0.1, fused=True)
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
