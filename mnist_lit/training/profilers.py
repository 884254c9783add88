"""Where the time of a fit goes: `trainer.profiler=simple` by part, `advanced` by Python function. Writes
profile.txt."""

import cProfile
import io
import math
import pstats
import re
from pathlib import Path
from typing import Any

from lightning.pytorch.profilers import Profiler, SimpleProfiler

from mnist_lit.atomic_io import write_text

PROFILE = "profile.txt"
EPOCH = "run_training_epoch"  # Lightning's name for an epoch with its validation
MOST_FUNCTIONS = 40


def build_profiler(kind: str | None, folder: Path) -> Profiler | None:
    profilers: dict[str | None, type[_FitProfiler]] = {"simple": PartProfiler, "advanced": FunctionProfiler}
    return profilers[kind](folder) if kind in profilers else None


class _FitProfiler(Profiler):
    """Writes its summary after the fit, but not after validation and test."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / PROFILE
        self.stage: str | None = None

    def setup(self, stage: str, *args: Any, **kwargs: Any) -> None:
        super().setup(stage, *args, **kwargs)
        self.stage = stage

    def describe(self) -> None:
        if self.stage == "fit":
            write_text(self.path, self.summary())


class PartProfiler(_FitProfiler, SimpleProfiler):
    """Lightning's own measurement, with a report that fits a screen."""

    def summary(self) -> str:
        totals = {name: (math.fsum(times), len(times)) for name, times in self.recorded_durations.items()}
        epochs = totals.get(EPOCH, (math.nan, 0))[0]
        lines = [
            "A part includes the parts that it calls. run_training_epoch is everything, training_step one block.",
            "",
            f"{'seconds':>9} {'share':>7} {'calls':>8} {'ms a call':>10}  part",
        ]
        for name, (seconds, calls) in sorted(totals.items(), key=lambda part: -part[1][0]):
            if seconds >= 0.001 * epochs:
                share, per_call = seconds / epochs, 1000 * seconds / calls
                lines.append(f"{seconds:9.3f} {share:7.1%} {calls:8,} {per_call:10.3f}  {_shorten(name)}")
        return "\n".join(lines) + "\n"


class FunctionProfiler(_FitProfiler):
    """Python's own profiler over the epochs, with their validations. With it, a small network takes 1.5 times
    as long."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._profile = cProfile.Profile()
        self._has_run = False

    def start(self, action_name: str) -> None:
        if action_name == EPOCH:
            self._has_run = True
            self._profile.enable()

    def stop(self, action_name: str) -> None:
        if action_name == EPOCH:
            self._profile.disable()

    def summary(self) -> str:
        if not self._has_run:  # a run that was resumed after its last epoch
            return "No epoch was trained.\n"
        text = io.StringIO()
        pstats.Stats(self._profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(MOST_FUNCTIONS)
        return text.getvalue()


def _shorten(name: str) -> str:
    """`[Callback]ModelCheckpoint{'monitor': …}.on_train_epoch_end` → `ModelCheckpoint.on_train_epoch_end`"""
    return re.sub(r"\{.*\}|^\[\w+\]", "", name)
