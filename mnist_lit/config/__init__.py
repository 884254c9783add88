"""The config: its schema and its checks, without torch.

Every option is written once and checked by its owner. This project owns `trainer`, `data`, `checkpoint`, `sweep` and
the switches of `logger` and `callbacks`: schema.py. A class named by `_target_` owns the options of `model`, `loss`,
`optimizer`, `scheduler` and of a person's own data set, callback or logger: group_files.py checks their types against
the YAML file, and class_checks.py asks the class itself."""

from mnist_lit.config.checks import parse_config, parse_sweep
from mnist_lit.config.schema import (
    ClassSection,
    DataSection,
    IDXData,
    LoggerSection,
    SweepSection,
    TrainConfig,
)

__all__ = [
    "ClassSection",
    "DataSection",
    "IDXData",
    "LoggerSection",
    "SweepSection",
    "TrainConfig",
    "parse_config",
    "parse_sweep",
]
