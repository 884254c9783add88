"""The switches of `conf/callbacks` → the callbacks that are on."""

from typing import Any

from lightning.pytorch import Callback

from mnist_lit.dashboards.confusion import ConfusionMatrix, PerClassAccuracy
from mnist_lit.dashboards.galleries import SamplePredictions, WorstMistakes
from mnist_lit.dashboards.hparams import HParams
from mnist_lit.dashboards.inside import Graph, PRCurves, WeightHistograms
from mnist_lit.dashboards.projector import Projector


def dashboard_callbacks(switches: dict[str, bool], options: dict[str, Any]) -> list[Callback]:
    """`switches`: as in `conf/callbacks`; `options`: the run's own, flat, for the HParams tab."""
    available: dict[str, Callback] = {
        "hparams": HParams(options),
        "per_class_accuracy": PerClassAccuracy(),
        "confusion_matrix": ConfusionMatrix(),
        "worst_mistakes": WorstMistakes(),
        "sample_predictions": SamplePredictions(),
        "pr_curves": PRCurves(),
        "weight_histograms": WeightHistograms(),
        "graph": Graph(),
        "projector": Projector(),
    }
    return [available[name] for name, on in switches.items() if on]
