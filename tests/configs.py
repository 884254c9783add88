"""Configs as the command line composes them."""

from pathlib import Path

from hydra import compose, initialize_config_dir

from mnist_lit.config import TrainConfig
from mnist_lit.preflight import check_composed, check_machine

PROJECT = Path(__file__).parent.parent


def compose_config(*overrides: str) -> TrainConfig:
    """Composes a config and checks names, types and ranges."""
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return check_composed(compose("train", list(overrides), return_hydra_config=True))


def check_config(*overrides: str) -> TrainConfig:
    """Composes a config and runs all checks, including those of the machine and the classes."""
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        config = compose("train", list(overrides), return_hydra_config=True)
        checked = check_composed(config)
        check_machine(checked, config)
        return checked
