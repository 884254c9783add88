"""Config → objects: data, network, optimiser, schedule. Each class is given plain values and partials."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, StepLR
from torch.utils.flop_counter import FlopCounterMode

from mnist_lit.config import TrainConfig
from mnist_lit.data.datamodule import DigitDataModule, MNISTDataModule, SklearnDigitsDataModule
from mnist_lit.errors import UserError
from mnist_lit.models import DigitClassifier
from mnist_lit.training.networks import network_class

OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "sgd": optim.SGD,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "adagrad": optim.Adagrad,
    "rmsprop": optim.RMSprop,
}
FUSED = {"cpu": {"sgd", "adam", "adamw", "adagrad"}, "cuda": {"sgd", "adam", "adamw"}}


def build_data(config: TrainConfig) -> DigitDataModule:
    classes = {"mnist": MNISTDataModule, "digits": SklearnDigitsDataModule}
    options = {
        name: value for name, value in config.data.options().items() if name not in ("fallback", "fallback_reason")
    }
    data = classes[config.data.name](**options, devices=config.trainer.devices, seed=config.seed)
    data.prepare_data()  # whole files, before they are read
    last = len(data.splits.train) % data.batch_size
    if 0 < last < config.trainer.devices:
        raise UserError(
            f"data.batch_size={config.data.batch_size}: leaves {last} samples for the last batch of an epoch, too few "
            f"for trainer.devices={config.trainer.devices}; take another size"
        )
    return data


def build_model(config: TrainConfig, steps_per_epoch: int) -> DigitClassifier:
    network = network_class(config.model.target, config.model.options())
    return network(
        **config.model.options(),
        loss=config.loss.name,
        **config.loss.options(),
        optimizer=optimizer_factory(config.optimizer.name, **config.optimizer.options()),
        scheduler=scheduler_factory(
            config.scheduler.name, steps_per_epoch, config.trainer.max_epochs, **config.scheduler.options()
        ),
        gradient_clip_val=config.trainer.gradient_clip_val,
        log_every_n_steps=config.trainer.log_every_n_steps,
    )


def optimizer_factory(name: str, **options: Any) -> Callable[[Iterable[nn.Parameter]], optim.Optimizer]:
    """Parameters → optimiser, in torch's fused implementation where `FUSED` has one for their device."""

    def make(parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
        parameters = list(parameters)
        fused: dict[str, Any] = {"fused": True} if name in FUSED.get(parameters[0].device.type, ()) else {}
        return OPTIMIZERS[name](parameters, **options, **fused)

    return make


def scheduler_factory(
    name: str, steps_per_epoch: int, max_epochs: int, **options: Any
) -> Callable[[optim.Optimizer], LRScheduler] | None:
    """Optimiser → schedule that advances once per optimiser step; None for `none`. `step_size` counts epochs."""
    total_steps = steps_per_epoch * max_epochs
    match name:
        case "step":
            return partial(StepLR, step_size=options["step_size"] * steps_per_epoch, gamma=options["gamma"])
        case "cosine":
            return partial(CosineAnnealingLR, T_max=total_steps, **options)
        case "onecycle":  # its peak is the optimiser's own lr; the momentum is left as configured
            return lambda optimizer: OneCycleLR(
                optimizer,
                max_lr=optimizer.param_groups[0]["lr"],
                total_steps=total_steps,
                cycle_momentum=False,
                **options,
            )
    return None


def auto_steps_per_execution(model: DigitClassifier, batch_size: int, accelerated: bool = False) -> int:
    """So many mini-batches that a call takes about 0.1 s on two cores or a GPU, 100 at most.

    Computed from the network's size and not timed, so that equal runs cut the epoch alike.
    """
    operations_per_second = 4e12 if accelerated else 80e9
    seconds_per_step = 0.0002 + flops_per_step(model, batch_size) / operations_per_second
    return max(1, min(100, round(0.1 / seconds_per_step)))


def threads_worth_having(model: DigitClassifier, batch_size: int) -> int:
    """Of torch's threads one for each 15 million operations of a step, and at least one: with less to do they wait for
    each other longer than they work, and on a machine that puts its processors far apart much longer."""
    return max(1, min(torch.get_num_threads(), int(flops_per_step(model, batch_size) / 15e6)))


def flops_per_step(model: DigitClassifier, batch_size: int) -> float:
    """Forward, and twice that for the way back."""
    model.eval()  # nothing is drawn for dropout, and batch norm takes a batch of one
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.network(model.example_input_array)
    model.train()
    return float(3 * counter.get_total_flops() * batch_size)
