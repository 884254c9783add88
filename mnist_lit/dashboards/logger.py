"""TensorBoard with curves over optimiser steps and, so that batch sizes can be compared, over samples seen."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import RecordWriter

from mnist_lit.durable import remove_leftovers, whole_file


class TensorBoard(TensorBoardLogger):
    """Writes each `train_…` and `val_…` scalar twice: `val_acc` at the step, `by_samples/val_acc` at the number of
    training samples seen by then."""

    def __init__(self, folder: Path, *, batch_size: int, train_size: int) -> None:
        super().__init__(folder, name="", version="tensorboard", default_hp_metric=False)
        self.batch_size = batch_size
        self.train_size = train_size

    def samples_seen(self, step: int) -> int:
        """The last batch of an epoch may be smaller than the others."""
        steps_per_epoch = -(-self.train_size // self.batch_size)
        epochs, rest = divmod(step, steps_per_epoch)
        return epochs * self.train_size + rest * self.batch_size

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        curves = {name: value for name, value in metrics.items() if name.startswith(("train_", "val_"))}
        if step is not None and curves:
            by_samples = {f"by_samples/{name}": value for name, value in curves.items()}
            super().log_metrics(by_samples, self.samples_seen(step))

    @rank_zero_only
    def forget_after(self, step: int) -> None:
        """Rewrite the event files without what a resumed run is going to log again.

        TensorBoard's own `purge_step` cannot: it knows one x axis, and would drop the curves over samples whole.
        """
        samples = self.samples_seen(step)
        remove_leftovers(Path(self.log_dir))
        for path in sorted(Path(self.log_dir).glob("events.out.tfevents.*")):
            with whole_file(path) as kept:
                records = RecordWriter(kept)
                for record in _whole_records(path):
                    event = Event.FromString(record)
                    over_samples = any(value.tag.startswith("by_samples/") for value in event.summary.value)
                    if event.step <= (samples if over_samples else step) and (step > 0 or event.file_version):
                        records.write(record)
                records.flush()

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Lightning would log the network's alone; the HParams callback logs the whole run's."""


def _whole_records(path: Path) -> Iterator[bytes]:
    """Up to the first that a crash has cut off or damaged."""
    try:
        yield from RawEventFileLoader(str(path)).Load()
    except Exception:  # TensorBoard's DataLossError, which lies in one of two modules
        return
