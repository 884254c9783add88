"""The direct way of making a step: the same weights and counts as Lightning's, and no listener left out."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor

from mnist_lit.models.steps import needs_lightning
from mnist_lit.training.build import build_data, build_model
from mnist_lit.training.checkpoints import weights_digest
from tests.conftest import compose_config


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


def fit(tmp_path: Path, *callbacks: Callback) -> tuple[str, int, bool]:
    """Digest of the weights, steps counted, whether Lightning's way was taken."""
    config = compose_config("data=digits", "model=mlp_128_64", "trainer.gradient_clip_val=0.5")
    data = build_data(config)
    seed_everything(0, verbose=False)
    model = build_model(config, data.steps_per_epoch)
    data.steps_per_execution = 7
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, data)
    return weights_digest(model), trainer.global_step, needs_lightning(trainer, model)


def test_both_ways_make_the_same_steps_and_a_listener_hears_each(tmp_path: Path) -> None:
    listener = CountsBackwards()
    direct, direct_steps, through_lightning = fit(tmp_path)
    assert not through_lightning
    assert direct_steps == 2 * 20
    assert fit(tmp_path, listener) == (direct, direct_steps, True)
    assert listener.heard == direct_steps


def test_a_listener_may_change_the_gradients(tmp_path: Path) -> None:
    assert fit(tmp_path, DropsGradients())[0] != fit(tmp_path)[0]
