"""`python -m benchmarks.dashboards`: what each dashboard callback costs a 5-epoch cnn run → docs/dashboards.md.

Measured in one run with all of them on: the time inside each callback's hooks, against the rest of the run's time.
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from benchmarks.product import PROJECT, config_of
from mnist_lit.dashboards import build
from mnist_lit.training import run

OVERRIDES = ["model=cnn", "trainer.max_epochs=5", "data.fallback=null"]
GOALS = {"default": 0.05, "all": 0.15}


def main() -> None:
    spent: dict[str, float] = defaultdict(float)
    make = build.dashboard_callbacks

    def timed(switches: dict[str, bool], options: dict[str, Any]) -> list[Callback]:
        callbacks = make(switches, options)
        for callback in callbacks:
            for hook in [name for name in dir(callback) if name.startswith("on_")]:
                setattr(callback, hook, _timed(getattr(callback, hook), type(callback).__name__, spent))
        return callbacks

    run.dashboard_callbacks = timed
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        run.train(config_of(*OVERRIDES, "callbacks=all"), Path(folder), {})
        total = time.perf_counter() - started
    default = {type(callback).__name__ for callback in make(config_of(*OVERRIDES).callbacks.options(), {})}
    write(spent, default, total - sum(spent.values()))


def _timed(hook: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return hook(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - started

    return wrapper


def write(spent: dict[str, float], default: set[str], rest: float) -> None:
    lines = [
        "# What the dashboards cost",
        "",
        "Written by `python -m benchmarks.dashboards`: one run of `model=cnn trainer.max_epochs=5 callbacks=all`, the",
        "time inside each callback against the time of everything else.",
        "",
        "| callback | on by default | part of the run |",
        "| --- | --- | --- |",
    ]
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        lines.append(f"| {name} | {'yes' if name in default else 'no'} | {seconds / rest:.2%} |")
    for choice, goal in GOALS.items():
        cost = sum(seconds for name, seconds in spent.items() if choice == "all" or name in default) / rest
        lines.append(f"| **callbacks={choice}** | | **{cost:.2%}** (goal: at most {goal:.0%}) |")
    text = "\n".join(lines) + "\n"
    (PROJECT / "docs" / "dashboards.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
