"""The story of a run: `train(config, folder)` fits a network, tests its best checkpoint and writes everything down."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_only

from mnist_lit.choices import loss_warning
from mnist_lit.config import TrainConfig, flat_options
from mnist_lit.dashboards.build import dashboard_callbacks
from mnist_lit.dashboards.predictions import KeepPredictions
from mnist_lit.data.datamodule import DigitDataModule
from mnist_lit.durable import write_text
from mnist_lit.errors import UserError
from mnist_lit.models import DigitClassifier
from mnist_lit.signals import RunInterrupted
from mnist_lit.training import story
from mnist_lit.training.build import auto_steps_per_execution, build_data, build_model, threads_worth_having
from mnist_lit.training.checkpoints import (
    LAST,
    CheckpointEvery,
    DurableCheckpointIO,
    checkpoint_callbacks,
    position,
    read_checkpoint,
    recover_checkpoint,
)
from mnist_lit.training.commands import resume_command
from mnist_lit.training.devices import device_name, remember_missing_gpu
from mnist_lit.training.early_stopping import StopEarly
from mnist_lit.training.interrupts import StopOnSignal
from mnist_lit.training.loggers import build_loggers, trackers_finished
from mnist_lit.training.profiling import build_profiler
from mnist_lit.training.progress import RunProgress
from mnist_lit.training.result import ResultFile, git_commit, versions
from mnist_lit.training.resume import hold
from mnist_lit.training.run_state import RunState
from mnist_lit.training.stopwatch import Stopwatch

log = logging.getLogger(__name__)


def train(
    config: TrainConfig,
    folder: Path,
    origin: dict[str, Any],
    *,
    resume: bool = False,
    watchers: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Train, test and record one run in `folder`, which must exist; returns what its result.json holds.

    `origin` says where the config came from, to be written down: the command line, the choices made in its groups.
    With `resume` the run goes on from its newest whole checkpoint, or from the beginning if it has none. `watchers` are
    callbacks beside the run's own.

    Raises:
        RunInterrupted: on Ctrl-C or SIGTERM, in training once last.ckpt is written.
    """
    with hold(folder), threads_restored(), trackers_finished(config.logger):
        checkpoint = recover_checkpoint(folder / "checkpoints") if resume else None
        resumed_at = position(checkpoint, config.trainer.max_epochs) if checkpoint else 0 if resume else None
        rank_zero_only(write_text)(
            folder / "config.yaml", yaml.safe_dump(config.model_dump(by_alias=True), sort_keys=False)
        )
        remember_missing_gpu()
        seed_everything(config.seed, verbose=False)
        data = build_data(config)
        model = build_model(config, data.steps_per_epoch)
        torch.set_num_threads(threads_worth_having(model, config.data.batch_size))
        stopwatch = Stopwatch()
        trainer = build_trainer(config, folder, data, stopwatch, resumed_at, watchers)
        data.steps_per_execution = steps_per_execution(config, model, trainer.strategy.root_device)
        result = ResultFile(folder, facts(config, model, data, trainer, origin), continued=resume)

        with result.status_recorded():
            if checkpoint:
                log.info(f"resume  {checkpoint}: step {resumed_at:,}")
            story.opening(config, folder, model, data, trainer)
            if warning := loss_warning(config.loss.name, model.output):
                log.warning(story.warning_box("This combination trains badly", warning))
            try:
                fit(trainer, model, data, checkpoint)
                result.update(**progress(trainer, stopwatch))
                result.update(**evaluate_best(trainer, model, data))
            except RunInterrupted:
                result.values.update(progress(trainer, stopwatch))
                kept = folder / "checkpoints" / LAST
                saved = f"saved {kept}" if kept.exists() else "there was nothing to save yet"
                go_on = resume_command(story.short(folder))
                log.warning(f"interrupted at step {trainer.global_step:,}; {saved}. Go on with: {go_on}")
                raise
        story.ending(folder, result.values)
        return result.values


def fit(trainer: Trainer, model: DigitClassifier, data: DigitDataModule, checkpoint: Path | None) -> None:
    try:
        trainer.fit(model, data, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if checkpoint is None or run_state(trainer).started:
            raise
        raise UserError(f"{checkpoint}: does not fit this run: {error}") from error


def run_state(trainer: Trainer) -> RunState:
    return next(callback for callback in trainer.callbacks if isinstance(callback, RunState))  # type: ignore[attr-defined]


def steps_per_execution(config: TrainConfig, model: DigitClassifier, device: torch.device) -> int:
    chosen = config.trainer.steps_per_execution
    if chosen == "auto":
        return auto_steps_per_execution(model, config.data.batch_size, accelerated=device.type != "cpu")
    return chosen


@contextmanager
def threads_restored() -> Iterator[None]:
    """The next run in this process may be of a larger network."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def build_trainer(
    config: TrainConfig,
    folder: Path,
    data: DigitDataModule,
    stopwatch: Stopwatch,
    resumed_at: int | None = None,
    watchers: Sequence[Callback] = (),
) -> Trainer:
    checkpoints = folder / "checkpoints"
    return Trainer(
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        strategy="ddp" if config.trainer.devices > 1 else "auto",
        max_epochs=config.trainer.max_epochs,
        precision=config.trainer.precision,
        logger=build_loggers(config.logger, folder, data, flat_options(config), resumed_at),
        callbacks=[
            stopwatch,
            RunProgress(data.steps_per_epoch),
            KeepPredictions(folder / "test_predictions.npz"),
            *dashboard_callbacks(config.callbacks.options(), flat_options(config)),
            RunState(),
            StopOnSignal(checkpoints / LAST),
            *timed_checkpoints(config, checkpoints / LAST),
            *early_stopping(config),
            *watchers,
            *checkpoint_callbacks(checkpoints, config.checkpoint.monitor, config.checkpoint.mode),
        ],
        plugins=[DurableCheckpointIO()],
        profiler=build_profiler(config.trainer.profiler, folder),
        num_sanity_val_steps=0 if resumed_at else -1,  # all of it once before training: the accuracy of guessing
        log_every_n_steps=1,  # counts blocks, and only for Lightning's own logging, which is not used
        enable_model_summary=False,
        default_root_dir=folder,
    )


def timed_checkpoints(config: TrainConfig, path: Path) -> list[CheckpointEvery]:
    seconds = config.checkpoint.every_seconds
    return [] if seconds is None else [CheckpointEvery(path, seconds)]


def early_stopping(config: TrainConfig) -> list[StopEarly]:
    patience = config.trainer.early_stopping_patience
    return [] if patience is None else [StopEarly(config.checkpoint.monitor, config.checkpoint.mode, patience)]


def facts(
    config: TrainConfig, model: DigitClassifier, data: DigitDataModule, trainer: Trainer, origin: dict[str, Any]
) -> dict[str, Any]:
    """What is known of a run before it starts."""
    return {
        "seed": config.seed,
        "params": model.parameter_count,
        "device": device_name(trainer.strategy.root_device),
        "precision": config.trainer.precision,
        "data": {
            "name": data.name,
            "fallback": getattr(config.data, "fallback_reason", None) is not None,
            "train_size": len(data.splits.train),
            "val_size": len(data.splits.val),
            "test_size": len(data.splits.test),
            "checksums": data.splits.checksums,
        },
        "versions": versions(),
        "git_commit": git_commit(),
        **origin,
    }


def progress(trainer: Trainer, stopwatch: Stopwatch) -> dict[str, Any]:
    return {
        "epochs": trainer.current_epoch,
        "global_step": trainer.global_step,
        "fit_seconds": round(stopwatch.fit_seconds, 3),
        "train_samples_per_second": round(stopwatch.train_samples_per_second, 1),
    }


def evaluate_best(trainer: Trainer, model: DigitClassifier, data: DigitDataModule) -> dict[str, Any]:
    """The best checkpoint on the validation set and, this once, on the test set."""
    best = read_checkpoint(trainer.checkpoint_callbacks[0].best_model_path)  # type: ignore[attr-defined]
    model.load_state_dict(best["state_dict"])
    trainer.validate(model, data, verbose=False)
    metrics = dict(trainer.callback_metrics)
    trainer.test(model, data, verbose=False)
    metrics |= trainer.callback_metrics
    return {"best_epoch": best["epoch"] + 1} | {name: round(float(value), 6) for name, value in metrics.items()}
