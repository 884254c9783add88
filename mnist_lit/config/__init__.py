"""The schema of the config: every option with its type and range. Imports no torch, so a bad option fails at once.

Holds no defaults: those are in `conf/`, one commented line each.
"""

from mnist_lit.config.check import parse_config, parse_sweep
from mnist_lit.config.data import MNISTData
from mnist_lit.config.model import OwnModel
from mnist_lit.config.sweep import SweepSection
from mnist_lit.config.train import LoggerSection, TrainConfig, flat_options

__all__ = [
    "LoggerSection",
    "MNISTData",
    "OwnModel",
    "SweepSection",
    "TrainConfig",
    "flat_options",
    "parse_config",
    "parse_sweep",
]
