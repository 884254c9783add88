"""The Lightning Trainer of a run, with everything that the run watches, writes and keeps."""

import io
import logging
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyLogger

from mnist_lit.build import build, build_model
from mnist_lit.config import ClassSection, TrainConfig
from mnist_lit.dashboards import dashboard_callbacks
from mnist_lit.dashboards.galleries import PredictionPictures
from mnist_lit.dashboards.prediction_callbacks import PredictionWriter
from mnist_lit.data.datamodule import DigitDataModule
from mnist_lit.data.datasets import Split, Splits
from mnist_lit.run_folder import CHECKPOINTS, LAST, METRICS, PICTURES, PREDICTIONS
from mnist_lit.training.callbacks import RandomState, StopEarly, StopOnSignal, Stopwatch
from mnist_lit.training.checkpoints import CheckpointEvery, DurableCheckpointIO, checkpoint_callbacks
from mnist_lit.training.devices import OneProcess, cluster_environment, precision_plugins
from mnist_lit.training.loggers import MetricsCSV, build_loggers
from mnist_lit.training.profilers import build_profiler
from mnist_lit.training.progress import RunProgress
from mnist_lit.training.waiting import ThreadWaiting


def build_trainer(
    config: TrainConfig,
    folder: Path,
    data: DigitDataModule,
    precision: str,
    resumed_at: int | None = None,
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    """`resumed_at` is the optimizer step that the run continues from; None for a new run. `callbacks` are added to the
    run's own and to those that the config names."""
    environment = cluster_environment()  # before the loggers, which write in the first rank only
    checkpoints, is_trial = folder / CHECKPOINTS, config.trainer.fast_dev_run
    return Trainer(
        fast_dev_run=is_trial,
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        strategy="ddp" if config.trainer.devices > 1 else "auto",
        max_epochs=config.trainer.max_epochs,
        logger=_trial_loggers(config) if is_trial else build_loggers(config, folder, data, resumed_at),
        callbacks=[
            Stopwatch(),
            ThreadWaiting(),
            RunProgress(
                data.steps_per_epoch,
                bar=config.trainer.enable_progress_bar,
                print_every_n_steps=config.trainer.print_every_n_steps,
            ),
            *([] if is_trial else [PredictionWriter(folder / PREDICTIONS), PredictionPictures(folder / PICTURES)]),
            *dashboard_callbacks(config, folder),
            # before those that save: a checkpoint has what they did in this step
            *(build(entry, "callbacks") for entry in config.callbacks.entries.values()),
            *callbacks,
            RandomState(),
            StopOnSignal(checkpoints / LAST),
            *_timed_checkpoints(config, checkpoints / LAST),
            *_early_stopping(config),
            *checkpoint_callbacks(checkpoints, config.checkpoint.monitor, config.checkpoint.mode),
        ],
        plugins=[DurableCheckpointIO(), environment, *precision_plugins(precision, config.trainer.accelerator)],
        profiler=build_profiler(config.trainer.profiler, folder),
        num_sanity_val_steps=0 if resumed_at else -1,  # -1: all images; it shows the accuracy before training
        log_every_n_steps=1,  # what callbacks log with self.log is written at every block
        enable_model_summary=False,
        default_root_dir=folder,
    )


def _has_logger(config: TrainConfig) -> bool:
    return any(config.logger.switches.values()) or bool(config.logger.entries)


def _trial_loggers(config: TrainConfig) -> list[Logger]:
    """It writes nothing. Some callbacks need a logger."""
    return [DummyLogger()] if _has_logger(config) else []


def _timed_checkpoints(config: TrainConfig, path: Path) -> list[CheckpointEvery]:
    seconds = config.checkpoint.every_seconds
    return [] if seconds is None else [CheckpointEvery(path, seconds)]


def _early_stopping(config: TrainConfig) -> list[StopEarly]:
    patience = config.trainer.early_stopping_patience
    return [] if patience is None else [StopEarly(config.checkpoint.monitor, config.checkpoint.mode, patience)]


class CallbackTrial:
    """One epoch of noise with Lightning's own callbacks, in a temporary folder. It finds what their constructors do not
    check: packages, `monitor`, parts of the network that they need. Callbacks from elsewhere are not tried: they may
    send messages or write files."""

    def __init__(self, config: TrainConfig) -> None:
        entries = config.callbacks.entries
        sections = {name: entry for name, entry in entries.items() if str(entry.target).startswith("lightning.")}
        if len(sections) < len(entries):  # the others may log what `monitor` names
            sections = {name: section for name, section in sections.items() if "monitor" not in section.options}
        self.error: Exception | None = None
        self.guilty: list[str] = []
        if not sections:
            return
        with TemporaryDirectory() as folder:
            callbacks = {name: build(_in_folder(section, folder), "callbacks") for name, section in sections.items()}
            try:
                _fit_on_noise(config, Path(folder), [*callbacks.values()])
            except Exception as error:
                self.error = error
                called = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
                self.guilty = [name for name, callback in callbacks.items() if any(callback is it for it in called)]

    def raise_error_of(self, section: ClassSection, name: str) -> None:
        if self.error and name in self.guilty:
            raise self.error


def _in_folder(section: ClassSection, folder: str) -> ClassSection:
    changes = {"dirpath": folder} if "dirpath" in section.options else {}
    return ClassSection.model_validate({"_target_": section.target, **section.options, **changes})


def _fit_on_noise(config: TrainConfig, folder: Path, callbacks: Sequence[Callback]) -> None:
    """Train the run's network for one small epoch with these callbacks. Nothing is printed."""
    data = _Noise(name="noise", val_size=10, mean=0.1, std=0.3, batch_size=10)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        plugins=[OneProcess()],
        max_epochs=config.trainer.max_epochs,
        logger=MetricsCSV(folder / METRICS) if _has_logger(config) else False,
        callbacks=[*callbacks, _StopAfterEpoch()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        default_root_dir=folder,
    )
    with _silence():
        trainer.fit(build_model(config, data.steps_per_epoch), data)


class _Noise(DigitDataModule):
    def load(self) -> Splits:
        images = torch.randint(256, (40, 1, 28, 28), dtype=torch.uint8)
        everything = Split(images, torch.arange(40) % 10)
        train, val, test = (everything[index] for index in torch.arange(40).split([20, 10, 10]))
        return Splits(train, val, test)


class _StopAfterEpoch(Callback):
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = True


@contextmanager
def _silence() -> Iterator[None]:
    """Lightning and its callbacks print what they do."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
