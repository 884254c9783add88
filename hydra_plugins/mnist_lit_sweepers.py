"""Hydra finds sweepers in this package alone: the door is here, the rooms are in mnist_lit/sweeps/."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Grid(Sweeper):
    """Every combination of the choices given: `-m model=cnn,mlp_500 'seed=range(0,5)'`."""

    hydra_context: HydraContext
    config: DictConfig

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def sweep(self, arguments: list[str]) -> None:
        from mnist_lit.sweeps.grid import run_grid

        run_grid(self.config, self.hydra_context, self.given(arguments))

    def given(self, arguments: list[str]) -> list[str]:
        return [*(f"{key}={value}" for key, value in self.params.items()), *arguments]


class Search(Grid):
    """The best of a space: `-m hydra/sweeper=optuna 'optimizer.lr=tag(log,interval(1e-4,1e-1))'`."""

    def sweep(self, arguments: list[str]) -> None:
        from mnist_lit.sweeps.search import run_search

        run_search(self.config, self.hydra_context, self.given(arguments))
