"""Training with Lightning alone: no logger, no checkpoints, no callbacks of a run."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from mnist_lit.data.datamodule import DigitDataModule
from mnist_lit.models import DigitClassifier


def fit_with_lightning(
    model: DigitClassifier,
    data: DigitDataModule,
    tmp_path: Path,
    *callbacks: Callback,
    precision: Any = "32-true",
    accelerator: str = "cpu",
) -> Trainer:
    trainer = Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=2,
        precision=precision,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, data)
    return trainer
