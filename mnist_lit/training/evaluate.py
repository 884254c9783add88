"""A finished run measured again, from its folder alone."""

from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch import Trainer

from mnist_lit.training.build import build_data
from mnist_lit.training.checkpoints import load_classifier
from mnist_lit.training.resume import run_config


@dataclass(frozen=True)
class Evaluation:
    checkpoint: Path
    data: str
    samples: int
    test_acc: float
    test_loss: float


def evaluate_run(run: Path) -> Evaluation:
    """Test a run's best checkpoint, or the checkpoint given, on the test set of the run's own data.

    Raises:
        UserError: if this is not a run, or its checkpoint or data cannot be read.
    """
    checkpoint = run if run.is_file() else run / "checkpoints" / "best.ckpt"
    data = build_data(run_config(checkpoint.parent.parent))
    data.prepare_data()
    trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.test(load_classifier(checkpoint), data, verbose=False)
    measured = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return Evaluation(checkpoint, data.name, len(data.splits.test), **measured)
