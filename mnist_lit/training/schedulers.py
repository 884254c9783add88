"""Learning rate schedules of this project. All schedules advance once per optimizer step."""

import warnings

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import StepLR

from mnist_lit.build import LENGTHS_OF_RUN, optimizer_factory, scheduler_factory
from mnist_lit.config import ClassSection, TrainConfig
from mnist_lit.config.checks import show
from mnist_lit.console import plural
from mnist_lit.errors import UserError, describe_error


class EpochStepLR(StepLR):
    """Multiplies the learning rate by `gamma` every `step_size` epochs. torch's StepLR counts optimizer steps here."""

    def __init__(self, optimizer: Optimizer, steps_per_epoch: int, step_size: int, gamma: float = 0.1) -> None:
        if not isinstance(step_size, int) or step_size < 1:
            raise ValueError(f"step_size={step_size}: should be a whole number of at least 1")
        super().__init__(optimizer, step_size=step_size * steps_per_epoch, gamma=gamma)


def describe_schedule(scheduler: ClassSection, optimizer: ClassSection, total_steps: int) -> str:
    """In words, such as `cosine from 0.001 to 0 over 1,720 steps`."""
    lr = optimizer.options.get("lr")
    options = {name: value for name, value in scheduler.options.items() if value is not None}
    kind = str(scheduler.target).rpartition(".")[2]
    if scheduler.target is None:
        return "constant learning rate"
    if lr is None or isinstance(options.get("max_lr"), list):
        return describe_section(scheduler)
    if kind == "CosineAnnealingLR":
        return f"cosine from {lr:g} to {options.get('eta_min', 0):g} over {options.get('T_max', total_steps):,} steps"
    if kind == "OneCycleLR":
        peak, start = options.get("max_lr", lr), options.get("max_lr", lr) / options.get("div_factor", 25)
        end, steps = start / options.get("final_div_factor", 1e4), options.get("total_steps", total_steps)
        rising = round(steps * options.get("pct_start", 0.3))
        return f"one cycle from {start:g} to {peak:g} in {rising:,} steps, then to {end:g} in {steps - rising:,}"
    if kind == "EpochStepLR":
        return (
            f"{lr:g} at first, times {options.get('gamma', 0.1):g} after every {plural(options['step_size'], 'epoch')}"
        )
    return describe_section(scheduler)


def describe_section(section: ClassSection) -> str:
    """For example `Adam lr=0.001 betas=[0.9, 0.999]`."""
    options = [f"{name}={show(value)}" for name, value in section.options.items()]
    return " ".join([str(section.target).rpartition(".")[2], *options])


def check_schedule(config: TrainConfig, steps_per_epoch: int) -> None:
    """Try the schedule over all steps of the run. Raises UserError if it ends before the run."""
    section, steps = config.scheduler, steps_per_epoch * config.trainer.max_epochs
    make = scheduler_factory(section, steps_per_epoch, config.trainer.max_epochs)
    if make is None:
        return
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the optimizer makes no steps
        schedule = make(optimizer_factory(config.optimizer)([nn.Parameter(torch.zeros(2, 2))]))
        try:
            if str(section.target).startswith(("mnist_lit.", "torch.optim.")):
                schedule.last_epoch = steps - 1  # the last step alone: these need not have made the others
            for _ in range(steps - schedule.last_epoch):
                schedule.step()
        except Exception as error:  # a class can raise anything
            lengths = {name: section.options[name] for name in LENGTHS_OF_RUN if name in section.options}
            given = [f"scheduler.{name}={show(value)}" for name, value in (lengths or section.options).items()]
            raise UserError(
                f"{' '.join(given) or 'scheduler'}: {section.target} cannot make the {steps:,} steps of the run "
                f"({steps_per_epoch:,} an epoch): {describe_error(error)}"
            ) from error
