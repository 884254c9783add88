"""The sweeper of this project. Hydra looks for sweepers in this package only; the work is done in mnist_lit/sweeps/."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Sweeps(Sweeper):
    """Runs a grid, which is every combination of the given choices, or with `hydra/sweeper=optuna` a search.

    `params` are the choices of a file in conf/sweep/. `max_batch_size` is an option of Hydra's own sweeper.
    """

    hydra_context: HydraContext
    config: DictConfig

    def __init__(self, params: dict[str, Any] | None = None, max_batch_size: int | None = None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def sweep(self, arguments: list[str]) -> None:
        overrides = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        if self.config.hydra.runtime.choices["hydra/sweeper"] == "optuna":
            from mnist_lit.sweeps.search import run_search

            run_search(self.config, self.hydra_context, overrides)
        else:
            from mnist_lit.sweeps.grid import run_grid

            run_grid(self.config, self.hydra_context, overrides)
