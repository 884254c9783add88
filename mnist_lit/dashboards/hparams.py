"""TensorBoard's HParams tab: every option of the run beside its accuracy and loss."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.tensorboard.summary import hparams

from mnist_lit.dashboards.base import writers

METRICS = ("val_acc", "val_loss", "test_acc", "test_loss")


class HParams(Callback):
    """Declares, before training, which of the run's scalars are the metrics of the tab; their values are those that the
    run logs under these names, so that they are never made up."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self.options = {
            name: value if isinstance(value, str | int | float | bool) else str(value)
            for name, value in options.items()
            if value is not None
        }

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for writer in writers(trainer):
            for summary in hparams(self.options, dict.fromkeys(METRICS)):
                writer._get_file_writer().add_summary(summary)
