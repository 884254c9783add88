"""The third stage of checking a config: the classes themselves are tried, before data is fetched or a folder is made.

A network is built on the meta device, which takes no memory. A schedule is built for 1,000 steps. Network, loss and
optimizer make one step on noise if one of them is not ours. Nothing here changes the random numbers of the run.
"""

import inspect
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ProgressBar,
    StochasticWeightAveraging,
)
from torch import Tensor, nn

from mnist_lit import DIGITS
from mnist_lit.build import build, build_loss, import_class, optimizer_factory, scheduler_factory
from mnist_lit.commands import name_program
from mnist_lit.config import ClassSection, DataSection, TrainConfig
from mnist_lit.config.checks import show, wrong_kind
from mnist_lit.data.datamodule import DigitDataModule, own_batch_methods
from mnist_lit.errors import UserError, describe_error
from mnist_lit.isolation import float32_on_cpu
from mnist_lit.losses import OUTPUTS, CrossEntropy, Loss
from mnist_lit.models import DigitClassifier
from mnist_lit.models.checkpoint_file import read_initial_weights
from mnist_lit.models.classifier import hooks_without_super, own_step_methods
from mnist_lit.process import RunInterrupted

STEPS_PER_EPOCH, EPOCHS = 1, 1000  # a schedule is tried with these
OURS = ("mnist_lit.", "torch.optim.")
# Callbacks of Lightning that change what the config says, and what there is instead.
INSTEAD = {
    ProgressBar: "a run has one progress bar, its own; trainer.enable_progress_bar=false switches it off",
    GradientAccumulationScheduler: "a run accumulates gradients with trainer.accumulate_grad_batches=N",
    BatchSizeFinder: "it would train with another data.batch_size than the config says; set data.batch_size instead",
    StochasticWeightAveraging: "it replaces the schedule, and counts optimizer steps as epochs; "
    "EMAWeightAveraging averages the weights, too",
    LearningRateFinder: "it would train with another optimizer.lr than the config says; python train.py -m "
    "+sweep=learning_rate_search searches for it",
}


def check_classes(config: TrainConfig, read_defaults: Callable[[], Mapping[str, Mapping[str, Any]]]) -> None:
    """`read_defaults` gives the YAML files, as in `parse_config`: an error names the options that differ from them.

    Raises:
        UserError: naming everything that is wrong in any class.
    """
    problems: dict[str, None] = {}
    sections: dict[str, ClassSection | DataSection] = {**config.class_sections, "data": config.data}

    def attempt(name: str, check: Callable[..., Any], *arguments: Any) -> Any:
        """What the check returns; None if it fails."""
        section = sections[name]
        try:
            if section.target is not None:
                import_class(section.target, name.partition(".")[0], section.options, name)
            return check(section, *arguments)
        except UserError as error:
            problems[str(error)] = None
        except RunInterrupted:
            raise
        except (Exception, SystemExit) as error:  # a class can raise anything
            problems[_describe_failure(name, section, read_defaults().get(name, {}), error)] = None
        return None

    with torch.random.fork_rng(devices=[]), float32_on_cpu():
        model, loss = attempt("model", _build_network), attempt("loss", build_loss)
        optimizer = attempt("optimizer", _build_optimizer)
        attempt("scheduler", _check_scheduler, optimizer)
        attempt("data", _build_data)
        for name in sections:
            if name.startswith(("callbacks.", "logger.")):
                attempt(name, _build_entry, name.partition(".")[0])
        if model and loss:
            attempt("loss", _check_output, loss, model.output)
        if model and loss and optimizer and not problems:
            attempt("optimizer", _give_weights, model)
            if not all(
                str(section.target).startswith(OURS) for section in (config.model, config.loss, config.optimizer)
            ):
                own = attempt("model", _build_own_network)
                value = attempt("loss", _compute_loss, loss, own) if own else None
                if value is not None:
                    attempt("optimizer", _make_step, own, value)
        if model and config.init_from:
            attempt("model", lambda _: read_initial_weights(Path(config.init_from or ""), model, config.data.classes))
        if config.callbacks.entries and not problems:
            from mnist_lit.training.trainer import CallbackTrial

            trial = CallbackTrial(config)
            for name in config.callbacks.entries:
                attempt(f"callbacks.{name}", trial.raise_error_of, name)
    if problems:
        raise UserError("\n".join(problems))


def _describe_failure(
    name: str, section: ClassSection | DataSection, default: Mapping[str, Any], error: BaseException
) -> str:
    """The options that differ from the YAML file, as they are typed, the class and what it raised."""
    same_class = default.get("_target_") == section.target
    given = section.model_fields_set | set(section.model_extra or ())
    changed = {
        option: value
        for option, value in section.options.items()
        if option in given and not (same_class and default.get(option) == value)
    }
    if same_class and (isinstance(error, TypeError | IndexError | AttributeError) or "to unpack" in str(error)):
        odd = [  # these explain an error that Python raised by itself
            wrong_kind(f"{name}.{option}", value, known)
            for option, value in changed.items()
            if (known := default.get(option)) is not None
            and (value is None or (isinstance(value, list) and len(value) != len(known)))
        ]
        if odd:
            return "\n".join(odd)
    reason = shorten(describe_error(error), 300, placeholder=" …")
    head, _, rest = reason.partition(": ")
    option = head.partition("=")[0]
    if rest and option.partition(".")[0] in changed:  # the class names the option itself
        return f"{name}.{option}={show(changed[option])}: {rest}" if option in changed else f"{name}.{reason}"
    options = " ".join(f"{name}.{option}={show(value)}" for option, value in changed.items())
    target = f"{options}: {section.target}" if options and same_class else f"{name}._target_={section.target} {options}"
    return f"{target.rstrip()}: {reason}"


def _build_network(section: ClassSection) -> DigitClassifier:
    """The network on the meta device, if it can be built there."""
    is_ours = str(section.target).startswith(OURS)
    given = {"loss": CrossEntropy(), "optimizer": torch.optim.SGD}  # stand for what the run passes
    try:
        with torch.device("meta"):
            model: DigitClassifier = build(section, "model", **given)
    except Exception:
        if is_ours:
            raise
        model = build(section, "model", **given)  # a constructor may need real numbers
    if not all(getattr(model, name, None) is value for name, value in given.items()):
        raise UserError(f"model._target_={section.target}: has to pass **kwargs to super().__init__")
    if not isinstance(getattr(model, "network", None), nn.Module):
        raise UserError(f"model._target_={section.target}: should set self.network, which predict and export use")
    if silent := hooks_without_super(model):
        raise UserError(f"model._target_={section.target}: its {silent[0]} has to call super().{silent[0]}")
    if own := own_step_methods(model):
        reason = f"a run makes its steps in blocks and would not use its {own[0]}"
        if own[0] == "configure_optimizers":
            reason = f"a run takes the optimizer and the schedule from the config; leave out its {own[0]}"
        raise UserError(f"model._target_={section.target}: {reason}")
    if type(model).configure_callbacks is not LightningModule.configure_callbacks:
        raise UserError(f"model._target_={section.target}: name its callbacks in callbacks, not in configure_callbacks")
    if model.output not in OUTPUTS:
        raise UserError(f"model.output={show(model.output)}: should be one of {', '.join(OUTPUTS)}")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("has no parameters that require a gradient, so there is nothing to train")
    _check_memory(model)
    if is_ours:
        _check_shape(model(torch.zeros(2, 1, 28, 28, device="meta")))
    return model


def _check_memory(model: DigitClassifier) -> None:
    """Training needs the weights and, at least, their gradients."""
    needed = 2 * sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else needed
    if needed > available:
        raise ValueError(
            f"{model.parameter_count:,} parameters need {needed / 1e9:.0f} GB with their gradients; this machine has "
            f"{available / 1e9:.0f} GB"
        )


def _check_shape(outputs: Tensor) -> None:
    if tuple(outputs.shape) != (2, 10):
        raise ValueError(f"returns {list(outputs.shape)} for two images; should be [2, 10]")


def _check_output(section: ClassSection, loss: Loss, output: str) -> None:
    for method in (loss.objection, loss.warning):
        reason = method(output)
        if not isinstance(reason, str | None):
            raise ValueError(f"{method.__name__}() returned {type(reason).__name__}; should be text or None")
        if reason and method == loss.objection:
            raise UserError(reason)
    if not isinstance(evaluation := loss.evaluation(), Loss):
        raise ValueError(f"evaluation() returned {type(evaluation).__name__}; should be a Loss")


def _build_optimizer(section: ClassSection) -> torch.optim.Optimizer:
    parameter = nn.Parameter(torch.zeros(2, 2))
    optimizer = optimizer_factory(section)([parameter])
    if required := _required_arguments(optimizer.step):
        raise ValueError(f"its step() needs {', '.join(required)}; here step() has to work without arguments")
    if not all("lr" in group for group in optimizer.param_groups):
        raise ValueError("its groups of parameters have no lr, the learning rate that a run logs and schedules change")
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


def _give_weights(section: ClassSection, model: DigitClassifier) -> None:
    """Some optimizers take matrices alone."""
    optimizer_factory(section)(model.parameters())


def _check_scheduler(section: ClassSection, optimizer: torch.optim.Optimizer | None) -> None:
    make = scheduler_factory(section, STEPS_PER_EPOCH, EPOCHS)
    if make is None:
        return
    optimizer = optimizer or torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    schedule = make(optimizer)
    if required := _required_arguments(schedule.step):
        raise ValueError(
            f"its step() needs {', '.join(required)}; only schedules that advance without a metric work here"
        )
    optimizer.step()
    schedule.step()


def _build_data(section: DataSection) -> DigitDataModule:
    if augment := section.augment:
        replaced = augment.drawn + augment.others
        given = f"data.augment.drawn={augment.drawn} data.augment.others={augment.others}"
        if replaced > 1:
            raise UserError(f"{given}: should be at most 1 together")
        if replaced > 0 and list(section.classes) != list(DIGITS):
            raise UserError(
                f"{given}: replaces images by drawn digits and other shapes, which are no {section.name}; set both to 0"
            )
    data: DigitDataModule = build(section, "data")
    if data.batch_size != section.options.get("batch_size", data.batch_size):
        raise UserError(f"data._target_={section.target}: has to pass **kwargs to super().__init__")
    if own := own_batch_methods(data):
        raise UserError(f"data._target_={section.target}: a run takes what load returns and would not use its {own[0]}")
    return data


def _build_entry(section: ClassSection, kind: str) -> object:
    with TemporaryDirectory() as folder:
        entry = build(section, kind, save_dir=folder)
    if instead := [name_program(advice) for base, advice in INSTEAD.items() if isinstance(entry, base)]:
        raise ValueError(instead[0])
    return entry


def _build_own_network(section: ClassSection) -> DigitClassifier:
    """The real network, after two images of noise."""
    model: DigitClassifier = build(section, "model")
    images = torch.rand(2, 1, 28, 28)
    _check_shape(model.eval()(images))
    if not _is_its_layers(model, images):
        raise UserError(
            f"model._target_={section.target}: its forward returns something else than self.network does, which "
            "predict, export and the dashboards use; put all of it into self.network"
        )
    return model.train()


def _is_its_layers(model: DigitClassifier, images: Tensor) -> bool:
    """Whether forward returns what the layers return. Both may draw random numbers, and both start from the same."""
    outputs = []
    try:
        for forward in (partial(DigitClassifier.forward, model), model):
            torch.manual_seed(0)
            with torch.no_grad():
                outputs.append(forward(images).nan_to_num())
        return torch.equal(outputs[0], outputs[1])
    except Exception:  # the layers need what forward does before them
        return False


def _compute_loss(section: ClassSection, loss: Loss, model: DigitClassifier) -> Tensor:
    outputs, values = model(torch.rand(2, 1, 28, 28)), list[Tensor]()
    for part, it in (("forward", loss), ("evaluation().forward", loss.evaluation())):
        it.output = model.output
        value = it(outputs, torch.tensor([3, 7]))
        if not (isinstance(value, Tensor) and value.dim() == 0 and value.is_floating_point()):
            found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{part} returned {found}; should be a scalar, the mean over the batch")
        values.append(value)
    if outputs.requires_grad and not values[0].requires_grad:
        raise ValueError("forward returned a value without a gradient; does it detach the outputs?")
    return values[0]


def _make_step(section: ClassSection, model: DigitClassifier, value: Tensor) -> None:
    optimizer = optimizer_factory(section)(model.parameters())
    value.backward()
    optimizer.step()


def _required_arguments(function: Callable[..., Any]) -> list[str]:
    return [
        argument.name
        for argument in inspect.signature(function).parameters.values()
        if argument.default is argument.empty and argument.kind not in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD)
    ]
