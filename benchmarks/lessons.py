"""`python -m benchmarks.lessons`: every lesson of conf/sweep on the real MNIST → docs/lessons.md.

It can be stopped and started again.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.product import PROJECT
from mnist_lit.reports.leaderboard import leaderboard
from mnist_lit.reports.render import markdown_table
from mnist_lit.reports.runs import Run, find_runs

SEARCHES = ("learning_rate_search",)  # in conf/sweep, but no lesson
OPENING = """\
# Lessons

Written by `python -m benchmarks.lessons`: each is one command, several runs on the real MNIST, and the leaderboard that
it ends with. `test_acc` is of the official 10,000 test images, mean ± standard deviation over the seeds; a few epochs
are enough to see the difference, and too few for the best that a network can do. `fit s` is no benchmark.
"""


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks.lessons", description=__doc__)
    options.add_argument("--folder", type=Path, default=Path("outputs/lessons"))
    folder = options.parse_args().folder
    lessons = [path for path in sorted((PROJECT / "conf" / "sweep").glob("*.yaml")) if path.stem not in SEARCHES]
    for lesson in lessons:
        sweep(folder / lesson.stem, f"sweep={lesson.stem}")
    sections = "".join(section(lesson, folder / lesson.stem) for lesson in lessons)
    (PROJECT / "docs" / "lessons.md").write_text(OPENING + sections)


def sweep(folder: Path, *overrides: str) -> None:
    """From the start, or where it was stopped. A run that fails is a part of the lesson: a learning rate can be too
    high."""
    going_on = [f"sweep.resume={folder}"] if folder.exists() else [f"hydra.sweep.dir={folder}"]
    subprocess.run([sys.executable, str(PROJECT / "train.py"), *overrides, *going_on], check=False)


def section(lesson: Path, folder: Path) -> str:
    """The lesson in a sentence, which is the second line of its file, and its table."""
    sentence = lesson.read_text().splitlines()[1].removeprefix("# ")
    board = leaderboard(*find_runs(folder))
    parts = [f"## `python train.py sweep={lesson.stem}`", sentence, markdown_table(board).strip()]
    if board.unfinished:
        parts.append("\n".join(f"- {failure(run, board.columns)}" for run in board.unfinished))
    return "".join(f"\n{part}\n" for part in parts)


def failure(run: Run, columns: Iterable[str]) -> str:
    told = [f"{name}={run.options[name]}" for name in (*columns, "seed") if name in run.options]
    return f"{' '.join(told)}: {run.result['status']}: {str(run.result['error']).partition('. Try')[0]}"


if __name__ == "__main__":
    main()
