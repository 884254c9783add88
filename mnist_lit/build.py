"""A section of the config → an object of the right kind. A config can name no other code."""

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mnist_lit.config import ClassSection, DataSection, TrainConfig
from mnist_lit.config.checks import may_hold_class
from mnist_lit.config.schema import BASES
from mnist_lit.errors import UserError, describe_error
from mnist_lit.process import RunInterrupted

if TYPE_CHECKING:
    import torch
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from mnist_lit.data.datamodule import DigitDataModule
    from mnist_lit.data.datasets import Splits
    from mnist_lit.losses import Loss
    from mnist_lit.models import DigitClassifier


# Arguments that the run passes, so that a section cannot give them.
GIVEN = {
    "data": ("devices", "seed", "steps_per_execution"),
    "model": ("loss", "optimizer", "scheduler", "gradient_clip_val", "log_every_n_steps"),
    "optimizer": ("params", "defaults"),
    "scheduler": ("optimizer",),
}
# Arguments that the run passes where the section does not give them.
KNOWN = {"scheduler": ("total_steps", "T_max", "steps_per_epoch", "max_lr"), "logger": ("save_dir",)}
_kept: "dict[str, Splits]" = {}  # what `build_data` keeps for its next call
LENGTHS_OF_RUN = ("total_steps", "T_max")  # a schedule that needs one of them spans the whole run


def build(section: ClassSection | DataSection, kind: str, *arguments: Any, **known: Any) -> Any:
    """The object that a section describes.

    `known` is what only the run knows, such as `total_steps`. A value is passed where the signature has this name and
    the section does not give it.

    Raises:
        UserError: as `import_class`.
    """
    options = section.options
    found = import_class(section.target or "", kind, options)
    takes = keyword_arguments(found)
    return found(*arguments, **{name: value for name, value in known.items() if name in takes} | options)


def import_class(target: str, kind: str, options: Mapping[str, Any], section: str | None = None) -> type[Any]:
    """The class that `target` names, such as `torch.optim.Adam`. `section` is the section's name in messages.

    Raises:
        UserError: if there is no such class, if it is of another kind, or if it does not take these options.
    """
    section = section or kind
    found = _import_target(target, kind, section)
    takes, given = keyword_arguments(found), GIVEN.get(kind, ())
    problems = [f"{section}.{name}: the run sets it, so it is no option here" for name in options if name in given]
    legal = [name for name in takes if name not in given]
    takes_all = kind != "model" or "loss" in takes
    advice = "" if takes_all else "; its constructor needs **kwargs, which it passes to super().__init__"
    for name in options:
        if name not in takes and name not in given:
            problems.append(
                f"{section}.{name}: there is no such option; {target} takes {', '.join(legal) or 'none'}{advice}"
            )
    for name, is_required in takes.items():
        if is_required and name not in (*options, *given, *KNOWN.get(kind, ())):
            problems.append(f"{section}.{name}: is missing; {target} needs it")
    if not problems and not takes_all:
        problems.append(f"{section}._target_={target}{advice}")
    if problems:
        raise UserError("\n".join(problems))
    return found


def keyword_arguments(found: type) -> dict[str, bool]:
    """Argument of the constructor → whether it is required. `**kwargs` leads on to the base classes.

    A class may pass what its base class requires, so an argument that only the base class names is not required.
    """
    takes: dict[str, bool] = {}
    is_own = True
    for base in found.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        takes = {p.name: is_own and p.default is p.empty for p in named} | takes
        is_own = False
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return takes


def constructor_defaults(found: type) -> dict[str, Any]:
    """Argument of the constructor → its default. Arguments of the base classes count, too. If a subclass takes an
    argument without a default, the argument has none."""
    defaults: dict[str, Any] = {}
    for base in reversed(found.__mro__):
        if inspect.isfunction(init := vars(base).get("__init__")):
            parameters = inspect.signature(init).parameters
            defaults = {name: value for name, value in defaults.items() if name not in parameters}
            defaults |= {name: it.default for name, it in parameters.items() if it.default is not it.empty}
    return defaults


def spans_run(scheduler: ClassSection) -> bool:
    """Whether the schedule depends on the length of the run."""
    if scheduler.target is None:
        return False
    takes = keyword_arguments(import_class(scheduler.target, "scheduler", scheduler.options))
    return any(name in takes and name not in scheduler.options for name in LENGTHS_OF_RUN)


def build_data(config: TrainConfig, *, keep: bool = False) -> "DigitDataModule":
    """The data module with its files in place: verified, or downloaded.

    `keep` is for a check before a run. It keeps the images of a data set from outside for the next call with this
    config, so that the run does not load them again.

    Raises:
        UserError: if the data cannot be used. For a data set from outside it names the class.
    """
    data: DigitDataModule = build(config.data, "data", devices=config.trainer.devices, seed=config.seed)
    data.accumulate_grad_batches = config.trainer.accumulate_grad_batches
    data.limits = config.trainer.limits
    key = repr((config.data, config.seed, config.trainer.devices))
    data.loaded = _kept.pop(key, None)
    try:
        data.prepare_data()
        data.check_sizes()
    except RunInterrupted:
        raise
    except (Exception, SystemExit) as error:  # a class can raise anything
        if not is_from_outside(config.data) or str(error).startswith("data."):
            raise
        raise UserError(f"data._target_={config.data.target}: {describe_error(error)}") from error
    if keep and data.loaded and is_from_outside(config.data):
        _kept.clear()
        _kept[key] = data.loaded
    return data


def is_from_outside(data: DataSection) -> bool:
    return type(data) is DataSection


def build_loss(section: ClassSection) -> "Loss":
    loss: Loss = build(section, "loss")
    loss.section = {"_target_": section.target, **section.options}
    return loss


def build_model(config: TrainConfig, steps_per_epoch: int) -> "DigitClassifier":
    model: DigitClassifier = build(
        config.model,
        "model",
        loss=build_loss(config.loss),
        optimizer=optimizer_factory(config.optimizer),
        scheduler=scheduler_factory(config.scheduler, steps_per_epoch, config.trainer.max_epochs),
        gradient_clip_val=config.trainer.gradient_clip_val,
        log_every_n_steps=config.trainer.log_every_n_steps,
    )
    return model


def optimizer_factory(section: ClassSection) -> "Callable[[Iterable[torch.nn.Parameter]], Optimizer]":
    """Parameters → optimizer, fused where the class and the device support it."""

    def make(parameters: "Iterable[torch.nn.Parameter]") -> "Optimizer":
        parameters = list(parameters)
        fused = {"fused": True} if _can_fuse(section, parameters[0].device) else {}
        optimizer: Optimizer = build(section, "optimizer", parameters, **fused)
        return optimizer

    return make


def scheduler_factory(
    section: ClassSection, steps_per_epoch: int, max_epochs: int
) -> "Callable[[Optimizer], LRScheduler] | None":
    """Optimizer → schedule that advances once per optimizer step; None for `scheduler=none`."""
    if section.target is None:
        return None
    total_steps = steps_per_epoch * max_epochs

    def make(optimizer: "Optimizer") -> "LRScheduler":
        known = {"total_steps": total_steps, "T_max": total_steps, "steps_per_epoch": steps_per_epoch}
        scheduler: LRScheduler = build(section, "scheduler", optimizer, max_lr=optimizer.param_groups[0]["lr"], **known)
        return scheduler

    return make


def _import_target(target: str, kind: str, section: str) -> type[Any]:
    base_module, _, base_name = BASES[kind].rpartition(".")
    module_name, _, name = target.rpartition(".")
    if not may_hold_class(target):
        raise UserError(f"{section}._target_={target}: should be a class derived from {BASES[kind]}")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except RunInterrupted:
        raise
    except ModuleNotFoundError as error:
        raise UserError(f"{section}._target_={target}: {error}. Is its folder on PYTHONPATH?") from error
    except (Exception, SystemExit) as error:  # a module can raise anything when it is imported
        raise UserError(f"{section}._target_={target}: {describe_error(error)}") from error
    base = getattr(importlib.import_module(base_module), base_name)
    if not (inspect.isclass(found) and issubclass(found, base) and found is not base):
        raise UserError(f"{section}._target_={target}: should be a class derived from {BASES[kind]}")
    return found


def _can_fuse(section: ClassSection, device: "torch.device") -> bool:
    if any(section.options.get(name) is not None for name in ("fused", "foreach", "differentiable")):
        return False
    found = import_class(section.target or "", "optimizer", section.options)
    return "fused" in keyword_arguments(found) and _fused_step_works(found, device)


def _fused_step_works(optimizer: "type[Optimizer]", device: "torch.device") -> bool:
    """Tries a step: torch does not say in public which devices a fused optimizer supports."""
    import torch

    parameter = torch.nn.Parameter(torch.zeros(1, device=device))
    parameter.grad = torch.zeros_like(parameter)
    try:
        optimizer([parameter], fused=True).step()  # type: ignore[call-arg]
    except Exception:  # a class from outside can raise anything
        return False
    return True
