"""`python -m benchmarks.dashboards` measures the time of each dashboard callback and writes docs/dashboards.md.

It trains the cnn for 5 epochs with all callbacks. It compares the time in the hooks of each callback with the time of
the rest of the run.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from mnist_lit.config import TrainConfig
from mnist_lit.dashboards import dashboard_callbacks
from mnist_lit.training import run, trainer
from tests.configs import PROJECT, compose_config

OVERRIDES = ["model=cnn", "trainer.max_epochs=5", "data.fallback=null"]
GOAL = 0.05
OPENING = """\
# Cost of the dashboards

Written by `python -m benchmarks.dashboards`, from one run of `model=cnn trainer.max_epochs=5`. It divides the time of
each callback by the time of the rest of the run.
"""


def main() -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.dashboards", description=__doc__).parse_args()
    spent, running = defaultdict[str, float](float), set[str]()

    def create_timed_callbacks(config: TrainConfig, folder: Path) -> list[Callback]:
        callbacks = dashboard_callbacks(config, folder)
        for callback in callbacks:
            for hook in [name for name in dir(callback) if name.startswith("on_")]:
                if getattr(type(callback), hook) is getattr(Callback, hook, None):
                    continue  # it is empty; and with a timer in each step, a run would not train in blocks
                setattr(callback, hook, add_timer(getattr(callback, hook), type(callback).__name__, spent, running))
        return callbacks

    trainer.dashboard_callbacks = create_timed_callbacks
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run.train(compose_config(*OVERRIDES), Path(folder), {})
        total = time.perf_counter() - started
    write_page(spent, total - sum(spent.values()))


def add_timer(hook: Callable[..., Any], name: str, spent: dict[str, float], running: set[str]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if name in running:  # a hook of this callback calls another one
            return hook(*args, **kwargs)
        started = time.perf_counter()
        running.add(name)
        try:
            return hook(*args, **kwargs)
        finally:
            running.remove(name)
            spent[name] += time.perf_counter() - started

    return wrapper


def write_page(spent: dict[str, float], rest: float) -> None:
    lines = ["| callback | time, relative to the rest |", "| --- | --- |"]
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        lines.append(f"| {name} | {seconds / rest:.2%} |")
    lines.append(f"| **all of them** | **{sum(spent.values()) / rest:.2%}** (goal: at most {GOAL:.0%}) |")
    text = "\n".join([OPENING, *lines]) + "\n"
    (PROJECT / "docs" / "dashboards.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
