"""What a run does, step by step: `train(config, folder)` fits a network, tests its best checkpoint and records all."""

import logging
import traceback
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.trainer.connectors import checkpoint_connector

from mnist_lit import private_apis
from mnist_lit.build import build_data, build_model, import_class
from mnist_lit.commands import resume_command
from mnist_lit.config import TrainConfig
from mnist_lit.console import warning_box
from mnist_lit.data.datamodule import DigitDataModule
from mnist_lit.errors import UserError, describe_error
from mnist_lit.isolation import isolated_run
from mnist_lit.models import DigitClassifier
from mnist_lit.models.checkpoint_file import read_checkpoint, read_initial_weights
from mnist_lit.process import RunInterrupted, raising_keyboard_interrupt
from mnist_lit.run_folder import (
    CHECKPOINTS,
    LAST,
    TRIAL,
    ResultFile,
    git_commit,
    lock_folder,
    package_versions,
    write_config,
)
from mnist_lit.training import progress
from mnist_lit.training.callbacks import Stopwatch
from mnist_lit.training.checkpoints import BestCheckpoint, LastCheckpoint, recover_checkpoint, step_of_checkpoint
from mnist_lit.training.devices import auto_steps_per_execution, choose_precision, device_name, useful_threads
from mnist_lit.training.loggers import finishing_trackers
from mnist_lit.training.step import HOOKS
from mnist_lit.training.trainer import build_trainer

AnyCallback = TypeVar("AnyCallback", bound=Callback)
log = logging.getLogger(__name__)
BATCH_HOOKS = ("on_train_batch_start", "on_train_batch_end")


def train(
    config: TrainConfig,
    folder: Path,
    origin: dict[str, Any],
    *,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Train, test and record one run in `folder`, which has to exist. Returns the content of its result.json.

    `origin` is recorded: the command line and the choices in its groups. With `resume` the run continues from its
    newest whole checkpoint, or starts again if it has none. `callbacks` are added to the run's own.

    Raises:
        RunInterrupted: on Ctrl-C or SIGTERM; during training, last.ckpt is written first.
    """
    with lock_folder(folder), isolated_run(), finishing_trackers():
        checkpoint = recover_checkpoint(folder / CHECKPOINTS) if resume else None
        resumed_at = step_of_checkpoint(checkpoint, config.trainer.max_epochs) if checkpoint else 0 if resume else None
        write_config(folder, config)
        private_apis.try_all()
        private_apis.remember_missing_gpu()
        seed_everything(config.seed, verbose=False)
        data = build_data(config)
        model = build_model(config, data.steps_per_epoch)
        torch.set_num_threads(useful_threads(model, config.data.batch_size))
        precision = read_checkpoint(checkpoint).get("precision") if checkpoint else None
        precision = precision or choose_precision(config.trainer.precision, config.trainer.accelerator, model)
        trainer = build_trainer(config, folder, data, precision, resumed_at, callbacks)
        data.steps_per_execution = _steps_per_execution(config, model, trainer.strategy.root_device)
        if config.init_from and not checkpoint:
            model.load_state_dict(
                read_initial_weights(Path(config.init_from), model, config.data.classes), strict=False
            )
        result = ResultFile(folder, run_metadata(config, model, data, trainer, origin), resumed=resume)

        with result.recording_status(TRIAL if config.trainer.fast_dev_run else "completed"):
            if checkpoint:
                log.info(f"resume  {checkpoint}: step {resumed_at:,}")
            progress.print_start(config, folder, model, data, trainer, resumed=checkpoint is not None)
            if warning := model.loss.warning(model.output):
                log.warning(warning_box("This combination trains badly", warning))
            try:
                fit(trainer, model, data, checkpoint, resumed_at)
                result.update(**run_progress(trainer))
                if config.trainer.fast_dev_run:
                    trainer.test(model, data, verbose=False)
                else:
                    with raising_keyboard_interrupt():
                        result.update(**evaluate_best(trainer, model, data))
            except (RunInterrupted, KeyboardInterrupt):
                result.values.update(run_progress(trainer))
                last = folder / CHECKPOINTS / LAST
                saved = f"saved {last}" if last.exists() else "there was nothing to save yet"
                command = resume_command(progress.relative_path(folder))
                log.warning(f"interrupted at step {trainer.global_step:,}; {saved}. Continue with: {command}")
                raise
        if config.trainer.fast_dev_run:
            log.info("fast_dev_run: one batch of training, validation and test worked. No checkpoint, no result")
        else:
            progress.print_end(config, folder, result.values)
        return result.values


def fit(
    trainer: Trainer, model: DigitClassifier, data: DigitDataModule, checkpoint: Path | None, resumed_at: int | None
) -> None:
    """Raises UserError if the checkpoint does not fit the run, or if a class from outside calls sys.exit."""
    try:
        with raising_keyboard_interrupt():
            trainer.fit(model, data, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True)
    except RunInterrupted:
        raise
    except SystemExit as error:
        if _passes(error, "submitit.", ""):  # Slurm has stopped the job and starts it again
            raise
        raise UserError(f"a class of the config ended the training: {describe_error(error)}") from error
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if checkpoint is None or not _passes(error, checkpoint_connector.__name__, ("resume", "restore", "_restore")):
            raise
        raise UserError(f"{checkpoint}: does not fit this run: {error}") from error
    if trainer.global_step == resumed_at:
        return  # it made no step
    last = _callback(trainer, LastCheckpoint).best_model_path
    if last and not _same_weights(model, read_checkpoint(last)["state_dict"]):
        log.warning(
            "A callback has changed the weights after the last checkpoint. The test uses the best checkpoint, which "
            "does not have this change"
        )


def _passes(error: BaseException, module: str, function: str | tuple[str, ...]) -> bool:
    """Whether the error comes from, or through, a function of the module. Both are the beginnings of names."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(
        frame.f_globals.get("__name__", "").startswith(module) and frame.f_code.co_name.startswith(function)
        for frame in frames
    )


def evaluate_best(trainer: Trainer, model: DigitClassifier, data: DigitDataModule) -> dict[str, Any]:
    """The best checkpoint on the validation set and, this one time, on the test set."""
    path = _callback(trainer, BestCheckpoint).best_model_path
    if not path:
        raise UserError("training ended before the first validation, so there is no checkpoint to test")
    best = read_checkpoint(path)
    model.load_state_dict(best["state_dict"])
    loggers, callbacks = trainer.loggers, trainer.callbacks  # type: ignore[attr-defined]
    trainer.loggers = [DummyLogger()] if loggers else []  # the curves have this epoch already
    # The average of the weights that such a callback holds is that of the last epoch.
    trainer.callbacks = [it for it in callbacks if not isinstance(it, WeightAveraging)]  # type: ignore[attr-defined]
    (validation,) = trainer.validate(model, data, verbose=False)
    trainer.loggers, trainer.callbacks = loggers, callbacks  # type: ignore[attr-defined]
    (test,) = trainer.test(model, data, verbose=False)
    metrics = {name: round(value, 6) for name, value in {**validation, **test}.items() if name != "step"}
    return {"best_epoch": best["epoch"] + 1} | metrics


def run_metadata(
    config: TrainConfig, model: DigitClassifier, data: DigitDataModule, trainer: Trainer, origin: dict[str, Any]
) -> dict[str, Any]:
    """What is known of a run before it starts."""
    return {
        "started": datetime.now().isoformat(timespec="seconds"),
        "seed": config.seed,
        "tags": config.tags,
        "limited": {f"trainer.limit_{split}_batches": limit for split, limit in config.trainer.limits.items()},
        "params": model.parameter_count,
        "device": device_name(trainer.strategy.root_device),
        "precision": trainer.precision,
        "data": {
            "name": data.name,
            "fallback": getattr(config.data, "fallback_reason", None) is not None,
            "train_size": len(data.splits.train),
            "val_size": len(data.splits.val),
            "test_size": len(data.splits.test),
            "checksums": data.splits.checksums,
        },
        "versions": package_versions(),
        "git_commit": git_commit(),
        **origin,
    }


def run_progress(trainer: Trainer) -> dict[str, Any]:
    stopwatch = _callback(trainer, Stopwatch)
    return {
        "epochs": trainer.current_epoch,
        "global_step": trainer.global_step,
        "fit_seconds": round(stopwatch.fit_seconds, 3),
        "train_samples_per_second": round(stopwatch.train_samples_per_second, 1),
    }


def _steps_per_execution(config: TrainConfig, model: DigitClassifier, device: torch.device) -> int:
    chosen = config.trainer.steps_per_execution
    if config.trainer.fast_dev_run:
        return 1
    if chosen != "auto":
        return chosen
    if _needs_batches(config, model):
        return 1
    return auto_steps_per_execution(model, config.data.batch_size, accelerated=device.type != "cpu")


def _needs_batches(config: TrainConfig, model: DigitClassifier) -> bool:
    """Whether the network or a callback that the config names has a hook that Lightning calls for each training batch.
    What a hook of a step logs is kept once for each batch of Lightning, so such a hook needs batches, too."""
    entries = config.callbacks.entries.values()
    callbacks = [import_class(str(entry.target), "callbacks", entry.options) for entry in entries]
    bases = [(type(model), LightningModule), *((callback, Callback) for callback in callbacks)]
    return any(
        getattr(found, hook) is not getattr(base, hook) for found, base in bases for hook in (*BATCH_HOOKS, *HOOKS)
    )


def _callback(trainer: Trainer, kind: type[AnyCallback]) -> AnyCallback:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next(callback for callback in callbacks if type(callback) is kind)


def _same_weights(model: DigitClassifier, saved: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(weights.cpu(), saved[name]) for name, weights in model.state_dict().items() if name in saved)
