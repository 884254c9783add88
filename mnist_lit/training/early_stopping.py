"""Training ends when the monitored metric has not improved for so many epochs; also across a stop and a resumption."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping


class StopEarly(EarlyStopping):
    def __init__(self, monitor: str, mode: str, patience: int) -> None:
        super().__init__(monitor, mode=mode, patience=patience, check_on_train_epoch_end=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.wait_count >= self.patience:  # stopped after the decision, before the end
            trainer.should_stop = True
