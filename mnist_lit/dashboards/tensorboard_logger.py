"""TensorBoard: the logger, and what describes a run there: the HParams tab and the Text tab."""

from collections.abc import Iterator, Mapping
from math import ceil
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.metadata import EXPERIMENT_TAG, create_summary_metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from mnist_lit.atomic_io import atomic_file, remove_leftovers
from mnist_lit.config import TrainConfig
from mnist_lit.dashboards.prediction_callbacks import writers
from mnist_lit.run_folder import CONFIG, TENSORBOARD, read_result
from mnist_lit.training.callbacks import Stopwatch

# Curves over samples. TensorBoard sorts by name: the first comes after val_acc. Release 0.2.0 wrote the second.
SAMPLES = ("vs_samples/", "by_samples/")


class TensorBoard(TensorBoardLogger):
    """Writes to the run's own folder, so that TensorBoard shows the run under the folder's name. Runs of release 0.2.0
    have a folder `tensorboard` for it.

    Writes each `train_…` and `val_…` scalar twice: `val_acc` over the step, and `vs_samples/val_acc` over the number
    of training samples seen so far. Curves over samples compare runs of different batch sizes."""

    def __init__(self, folder: Path, samples_per_step: int, samples_per_epoch: int) -> None:
        version = TENSORBOARD if (folder / TENSORBOARD).exists() else ""
        super().__init__(folder, name="", version=version, default_hp_metric=False)
        self.samples_per_step = samples_per_step
        self.samples_per_epoch = samples_per_epoch

    def samples_seen(self, step: int) -> int:
        """The last step of an epoch can have fewer samples than the others."""
        steps_per_epoch = ceil(self.samples_per_epoch / self.samples_per_step)
        epochs, rest = divmod(step, steps_per_epoch)
        return epochs * self.samples_per_epoch + rest * self.samples_per_step

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        curves = {name: value for name, value in metrics.items() if name.startswith(("train_", "val_"))}
        if step is not None and curves:
            by_samples = {f"{SAMPLES[0]}{name}": value for name, value in curves.items()}
            super().log_metrics(by_samples, self.samples_seen(step))

    @rank_zero_only
    def forget_after(self, step: int) -> None:
        """Rewrite the event files without the events that a resumed run will log again.

        TensorBoard's own `purge_step` knows only one x axis. It would drop the curves over samples as well.
        """
        samples = self.samples_seen(step)
        remove_leftovers(Path(self.log_dir))
        for path in sorted(Path(self.log_dir).glob("events.out.tfevents.*")):
            with atomic_file(path) as kept:
                records = RecordWriter(kept)
                for record in _read_records(path):
                    event = Event.FromString(record)
                    over_samples = any(value.tag.startswith(SAMPLES) for value in event.summary.value)
                    if event.step <= (samples if over_samples else step) and (step > 0 or event.file_version):
                        records.write(record)
                records.flush()

    @rank_zero_only
    def save(self) -> None:
        """Lightning would also write its own hparams.yaml, beside config.yaml."""
        self.experiment.flush()

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Lightning would log the options of the network only. The HParams callback logs those of the run."""


def _read_records(path: Path) -> Iterator[bytes]:
    """The records before the first one that a crash has damaged."""
    try:
        yield from RawEventFileLoader(str(path)).Load()
    except Exception:  # TensorBoard's DataLossError; its module depends on the installation
        return


METRICS = ("val_acc", "val_loss", "test_acc", "fit_seconds", "params")
NUMBERS = ("lr", "batch_size", "epochs", "seed")
SHOWN = (
    "experiment",
    "model",
    "optimizer",
    "lr",
    "scheduler",
)  # TensorBoard shows only five columns at first
COLUMNS = (*SHOWN, "loss", "batch_size", "epochs", "seed", "precision", "options", "tags")


class HParams(Callback):
    """The HParams tab: the options that people compare, beside the metrics of the run.

    Every run has the same columns, because TensorBoard takes the columns of one run for all. `options` lists what else
    was given on the command line.
    """

    def __init__(self, config: TrainConfig, folder: Path) -> None:
        super().__init__()
        self.config = config
        self.folder = folder

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 0:
            for writer in writers(trainer):
                assert writer.file_writer is not None  # add_hparams would open a second file
                for summary in (describe_columns(), hparams_pb(self.find_values(), trial_id=self.folder.name)):
                    writer.file_writer.add_summary(summary)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        (stopwatch,) = (it for it in trainer.callbacks if isinstance(it, Stopwatch))  # type: ignore[attr-defined]
        for writer in writers(trainer):
            writer.add_scalar("fit_seconds", stopwatch.fit_seconds, trainer.global_step)
            writer.add_scalar("params", pl_module.parameter_count, trainer.global_step)

    def find_values(self) -> dict[str, Any]:
        """Column → value. A choice is shown by its name, a class of one's own by the name of the class."""
        config, result = self.config, read_result(self.folder)
        choices, sections = result.get("choices") or {}, {**config.class_sections, "loss": config.loss}
        names = {
            group: choices.get(group) or str(sections[group].target).rpartition(".")[2]
            for group in ("model", "optimizer", "scheduler", "loss")
        }
        values = names | {
            "experiment": choices.get("experiment") or "none",
            "lr": config.optimizer.options.get("lr"),
            "batch_size": config.data.batch_size,
            "epochs": config.trainer.max_epochs,
            "seed": config.seed,
            "precision": result.get("precision"),
            "options": " ".join(find_other_options(result)) or "none",
            "tags": ", ".join(config.tags) or "none",
        }
        return {name: float(value) if name in NUMBERS else value for name, value in values.items() if value is not None}


class RunText(Callback):
    """The Text tab: the command and the config."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == 0:
            texts = {
                "command": read_result(self.folder).get("command"),
                "config": (self.folder / CONFIG).read_text(encoding="utf-8"),
            }
            for writer in writers(trainer):
                for name, text in texts.items():
                    writer.add_text(name, f"```\n{text}\n```", 0)


def describe_columns() -> Summary:
    """The columns of the HParams tab. TensorBoard puts those that `differ` first, each part by name."""
    text, number = api_pb2.DATA_TYPE_STRING, api_pb2.DATA_TYPE_FLOAT64
    infos = [
        api_pb2.HParamInfo(name=name, type=number if name in NUMBERS else text, differs=name in SHOWN)
        for name in COLUMNS
    ]
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in METRICS]
    content = HParamsPluginData(experiment=api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics))
    summary = Summary()
    summary.value.add(tag=EXPERIMENT_TAG, metadata=create_summary_metadata(content))
    return summary


def find_other_options(result: Mapping[str, Any]) -> list[str]:
    """What was given on the command line and has no column of its own."""
    own = ("optimizer.lr", "data.batch_size", "trainer.max_epochs", "trainer.precision", "tags", *COLUMNS)
    return [text for text in result.get("overrides") or () if text.lstrip("+~").partition("=")[0] not in own]
