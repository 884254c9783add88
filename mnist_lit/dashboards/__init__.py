"""Lightning callbacks that fill TensorBoard. Each one has a switch in `conf/callbacks`."""

from pathlib import Path

from lightning.pytorch import Callback

from mnist_lit.config import TrainConfig
from mnist_lit.dashboards.class_metrics import ConfusionMatrix, PerClassAccuracy, PRCurves
from mnist_lit.dashboards.galleries import SamplePredictions, WorstMistakes
from mnist_lit.dashboards.network_views import Graph, Projector, WeightHistograms
from mnist_lit.dashboards.tensorboard_logger import HParams, RunText


def dashboard_callbacks(config: TrainConfig, folder: Path) -> list[Callback]:
    """The callbacks that are switched on."""
    available: dict[str, Callback] = {
        "hparams": HParams(config, folder),
        "text": RunText(folder),
        "per_class_accuracy": PerClassAccuracy(),
        "confusion_matrix": ConfusionMatrix(),
        "worst_mistakes": WorstMistakes(),
        "sample_predictions": SamplePredictions(),
        "pr_curves": PRCurves(),
        "weight_histograms": WeightHistograms(),
        "graph": Graph(),
        "projector": Projector(),
    }
    return [available[name] for name, on in config.callbacks.switches.items() if on]
