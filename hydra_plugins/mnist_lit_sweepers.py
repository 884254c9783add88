"""Hydra finds sweepers in this package alone: the door is here, the rooms are in mnist_lit/sweeps/."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from mnist_lit.errors import UserError


class Sweeps(Sweeper):
    """A grid, every combination of the choices given; with `hydra/sweeper=optuna` a search. `params` are the choices of
    a file in conf/sweep/; `max_batch_size` is an option of Hydra's own sweeper."""

    hydra_context: HydraContext
    config: DictConfig

    def __init__(self, params: dict[str, Any] | None = None, max_batch_size: int | None = None) -> None:
        self.params = params or {}
        if max_batch_size is not None:
            raise UserError("hydra.sweeper.max_batch_size: jobs are not run in batches; leave it out")

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def sweep(self, arguments: list[str]) -> None:
        given = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        if self.config.hydra.runtime.choices["hydra/sweeper"] == "optuna":
            from mnist_lit.sweeps.search import run_search

            run_search(self.config, self.hydra_context, given)
        else:
            from mnist_lit.sweeps.grid import run_grid

            run_grid(self.config, self.hydra_context, given)
