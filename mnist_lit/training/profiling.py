"""Where a fit's time goes: `trainer.profiler=simple` by part, `advanced` by Python function; written to profile.txt."""

import cProfile
import io
import math
import pstats
import re
from pathlib import Path

from lightning.pytorch.profilers import Profiler, SimpleProfiler

PROFILE = "profile.txt"
EPOCH = "run_training_epoch"  # Lightning's name for an epoch with its validation; both accounts are shares of it


def build_profiler(kind: str | None, folder: Path) -> Profiler | None:
    match kind:
        case "simple":
            return PartProfiler(folder)
        case "advanced":
            return FunctionProfiler(folder)
    return None


class PartProfiler(SimpleProfiler):
    """Lightning's own clock, with a report that fits a screen."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / PROFILE

    def summary(self) -> str:
        totals = {name: (math.fsum(times), len(times)) for name, times in self.recorded_durations.items()}
        epochs = totals.get(EPOCH, (math.nan, 0))[0]
        lines = [
            "A part contains those that it calls: run_training_epoch is everything, training_step a block of steps.",
            "",
            f"{'seconds':>9} {'share':>7} {'calls':>8} {'ms a call':>10}  part",
        ]
        for name, (seconds, calls) in sorted(totals.items(), key=lambda part: -part[1][0]):
            if seconds >= 0.001 * epochs:
                share, per_call = seconds / epochs, 1000 * seconds / calls
                lines.append(f"{seconds:9.3f} {share:7.1%} {calls:8,} {per_call:10.3f}  {_readable(name)}")
        return "\n".join(lines) + "\n"

    def describe(self) -> None:
        if self._stage == "fit":
            self.path.write_text(self.summary())


class FunctionProfiler(Profiler):
    """Python's own profiler over the epochs, validations included. It slows small networks down by half."""

    LINES = 40

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / PROFILE
        self._profile = cProfile.Profile()

    def start(self, action_name: str) -> None:
        if action_name == EPOCH:
            self._profile.enable()

    def stop(self, action_name: str) -> None:
        if action_name == EPOCH:
            self._profile.disable()

    def summary(self) -> str:
        text = io.StringIO()
        pstats.Stats(self._profile, stream=text).strip_dirs().sort_stats("tottime").print_stats(self.LINES)
        return text.getvalue()

    def describe(self) -> None:
        if self._stage == "fit":
            self.path.write_text(self.summary())


def _readable(name: str) -> str:
    """`[Callback]ModelCheckpoint{'monitor': …}.on_train_epoch_end` → `ModelCheckpoint.on_train_epoch_end`"""
    return re.sub(r"\{.*\}|^\[\w+\]", "", name)
