"""`python -m benchmarks.lessons` runs every lesson of conf/sweep on the real MNIST and writes docs/lessons.md.

You can stop it and start it again.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import yaml

from mnist_lit.reports.leaderboard import build_leaderboard
from mnist_lit.reports.run_reader import Run, find_runs
from mnist_lit.reports.tables import format_markdown_table
from mnist_lit.run_folder import RESULT, read_result
from tests.configs import PROJECT

SEARCHES = ("learning_rate_search",)  # these files of conf/sweep are not lessons
OPENING = """\
# Lessons

Written by `python -m benchmarks.lessons`. Each lesson is one command. It trains several networks on the real MNIST and
prints the leaderboard below. `test_acc` is the accuracy on the official 10,000 test images, mean ± standard deviation
over the seeds. A few epochs are enough to show the difference, but not enough for the best accuracy of a network.
`fit s` is not a benchmark.
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lessons", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("outputs/lessons"))
    folder = parser.parse_args().folder
    lessons = [path for path in sorted((PROJECT / "conf" / "sweep").glob("*.yaml")) if path.stem not in SEARCHES]
    for lesson in lessons:
        run_sweep(folder / lesson.stem, f"sweep={lesson.stem}")
    sections = "".join(format_section(lesson, folder / lesson.stem) for lesson in lessons)
    (PROJECT / "docs" / "lessons.md").write_text(OPENING + sections, encoding="utf-8")


def run_sweep(folder: Path, *overrides: str) -> None:
    """Start or resume the sweep. A failed run is part of the lesson: the learning rate can be too large."""
    folder_option = [f"sweep.resume={folder}"] if folder.exists() else [f"hydra.sweep.dir={folder}"]
    subprocess.run([sys.executable, str(PROJECT / "train.py"), *overrides, *folder_option], check=False)


def format_section(lesson: Path, folder: Path) -> str:
    """Return the words of the lesson, which are in its file, and its table."""
    words = yaml.safe_load(lesson.read_text(encoding="utf-8"))["lesson"]
    board = build_leaderboard(find_runs(folder)[0])
    parts = [
        f"## `python train.py sweep={lesson.stem}`",
        f"{words['shows']} It takes {measure_minutes(folder):.1f} minutes on two CPU cores.",
        words["point"],
        format_markdown_table(board).strip(),
    ]
    if board.unfinished:
        parts.append("\n".join(f"- {format_failure(run, board.columns)}" for run in board.unfinished))
    return "".join(f"\n{part}\n" for part in parts)


def measure_minutes(folder: Path) -> float:
    """The time of all runs, from their start to the last change of their result. Correct for a resumed sweep too."""
    results = [(read_result(path.parent), path.stat().st_mtime) for path in folder.glob(f"*/{RESULT}")]
    return sum(end - datetime.fromisoformat(result["started"]).timestamp() for result, end in results) / 60


def format_failure(run: Run, columns: Iterable[str]) -> str:
    options = [f"{name}={run.options[name]}" for name in (*columns, "seed") if name in run.options]
    return f"{' '.join(options)}: {run.result['status']}: {str(run.result.get('error', '')).partition('. Try')[0]}"


if __name__ == "__main__":
    main()
