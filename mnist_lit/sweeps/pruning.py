"""The pruner's eye in a run: told the validation metric of each epoch, it ends the run if others do better."""

import optuna
from lightning.pytorch import Callback, LightningModule, Trainer

from mnist_lit.training.result import RunPruned


class Prune(Callback):
    """Raises RunPruned at the end of an epoch."""

    def __init__(self, trial: optuna.Trial, monitor: str) -> None:
        self.trial = trial
        self.monitor = monitor

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        value = float(trainer.callback_metrics[self.monitor])
        self.trial.report(value, epoch)
        if epoch < (trainer.max_epochs or 0) and self.trial.should_prune():
            raise RunPruned(f"{self.monitor} {value:.4f} after {epoch} of {trainer.max_epochs} epochs")
