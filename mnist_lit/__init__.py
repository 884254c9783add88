"""Train, compare and understand digit classifiers with PyTorch Lightning and Hydra.

    import mnist_lit

    run = mnist_lit.train("model=cnn", "optimizer.lr=0.01")  # as `python train.py model=cnn optimizer.lr=0.01`
    run.result["test_acc"], run.folder, run.metrics()
    mnist_lit.load(run).predict(images)  # arrays, tensors, PIL pictures or paths
    mnist_lit.runs()  # all runs below outputs/

docs/python.md has more. This module imports nothing of that before it is used.
"""

import atexit
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnist_lit.api import Classifier, Predictions, Run, Runs, UserError, load, runs, train

__all__ = ["Classifier", "Predictions", "Run", "Runs", "UserError", "load", "runs", "train"]

__version__ = "0.2.0"

PACKAGE = Path(__file__).parent
CHECKOUT = None if (PACKAGE / "conf").is_dir() else PACKAGE.parent  # an installed package has conf/ inside
CONFIG_FOLDER = (CHECKOUT or PACKAGE) / "conf"
CONFIG = "config.yaml"  # in a run's folder; run_folder.py has the other names, and needs more packages
DIGITS = tuple("0123456789")  # the names of the classes, unless a data set has others

# Counted before this package imports anything: coverage and profilers that the environment starts. See process.py.
EARLIER_EXIT_FUNCTIONS = atexit._ncallbacks() if hasattr(atexit, "_ncallbacks") else 1


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("mnist_lit.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
