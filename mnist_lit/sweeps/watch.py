"""A line when a job ends or fails, while the sweep runs: read from the jobs' folders, whoever runs them."""

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import rich

from mnist_lit.sweeps.plan import Job
from mnist_lit.sweeps.state import finished

EVERY = 0.3  # seconds


class Watch:
    """Within the block, a thread prints a line for each of the jobs that ends."""

    def __init__(self, folder: Path, jobs: Sequence[Job], of: int) -> None:
        self.folder = folder
        self.waiting = list(jobs)
        self.of = of
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._ending.wait(EVERY):
            self._look()

    def _look(self) -> None:
        for job in tuple(self.waiting):
            if result := finished(self.folder / job.folder):
                self.waiting.remove(job)
                number = f"{self.of - len(self.waiting):{len(str(self.of))}}/{self.of}"
                say(f"{number}  {line(job.label or job.folder, result)}")


def warn_of_digits(overrides: Sequence[str]) -> None:
    for text in overrides:
        if text.startswith("data.fallback_reason="):
            say(f"NOT MNIST, training on scikit-learn's 1,797 small digits instead: {text.partition('=')[2]}")


def line(label: str, result: dict[str, Any]) -> str:
    if result["status"] == "completed":
        return f"{label}  val_acc {result['val_acc']:.2%}  {result['fit_seconds']:.1f} s"
    return f"{label}  {result['status'].upper()}: {reason(result)}"


def reason(result: dict[str, Any]) -> str:
    return " ".join(str(result.get("error") or "no reason was recorded").split())


def say(text: str) -> None:
    rich.get_console().print(text, soft_wrap=True, markup=False, highlight=False)
