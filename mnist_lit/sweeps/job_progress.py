"""What a sweep prints about its jobs: one line when a job ends, and a summary of a grid at the end."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich

from mnist_lit.atomic_io import write_text
from mnist_lit.commands import name_program, report_command
from mnist_lit.console import plural, print_line, wrap_text
from mnist_lit.reports.leaderboard import build_leaderboards
from mnist_lit.reports.run_reader import find_runs
from mnist_lit.reports.tables import build_table
from mnist_lit.run_folder import read_result
from mnist_lit.sweeps.grid_jobs import Job
from mnist_lit.sweeps.job_run import read_finished

MOST_ROWS = 20
INTERVAL = 0.3  # seconds


@contextmanager
def printing_ended_jobs(folder: Path, jobs: Sequence[Job], total: int) -> Iterator[None]:
    """Inside the block, a thread prints a line for each job that ends.

    It reads the folders of the jobs, so it works with every launcher.
    """
    waiting, stop = list(jobs), threading.Event()

    def print_ended() -> None:
        for job in tuple(waiting):
            if result := read_finished(folder / job.folder):
                waiting.remove(job)
                print_line(
                    f"{format_count(total - len(waiting), total)}  {format_result(job.label or job.folder, result)}"
                )

    def watch() -> None:
        while not stop.wait(INTERVAL):
            print_ended()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        print_ended()


def format_count(number: int, total: int) -> str:
    return f"{number:{len(str(total))}}/{total}"


def format_result(label: str, result: dict[str, Any]) -> str:
    if result["status"] == "completed":
        return f"{label}  val_acc {result['val_acc']:.2%}  {result['fit_seconds']:.1f} s"
    return f"{label}  {result['status'].upper()}: {format_reason(result)}"


def format_reason(result: dict[str, Any]) -> str:
    return " ".join(str(result.get("error") or "no reason was recorded").split())


def warn_about_digits(overrides: Sequence[str]) -> None:
    for text in overrides:
        if text.startswith("data.fallback_reason="):
            print_line(f"NOT MNIST, training on scikit-learn's 1,797 small digits instead: {text.partition('=')[2]}")


def print_summary(folder: Path, jobs: Sequence[Job], resume_command: str, expect_divergence: bool) -> bool:
    """Print the leaderboard, the failed jobs and the next commands. Returns True if a job failed, except for jobs that
    diverged as expected."""
    console = rich.get_console()
    for board in build_leaderboards(find_runs(folder)[0]):
        if board.rows:
            console.print(build_table(board, console, MOST_ROWS))
            print_line(f"repeat the best row  {board.rows[0].command}")
    print_line(f"page with plots      {report_command(folder)}")
    results = [(job, read_result(folder / job.folder)) for job in jobs]
    failed = [(job, result) for job, result in results if result.get("status") != "completed"]
    diverged = [job for job, result in failed if expect_divergence and "LossNotFinite" in str(result.get("error"))]
    if failed:
        expected = f", {len(diverged)} of them as expected: the loss became infinite" if diverged else ""
        print_line(f"\n{len(failed)} of {len(jobs)} failed{expected}")
        for job, result in failed:
            print_line(f"  {job.folder}  {job.label}: {format_reason(result)}")
    if len(failed) > len(diverged):
        print_line(f"run the failed jobs again  {resume_command}")
    return len(failed) > len(diverged)


def introduce_lesson(lesson: Any) -> str:
    """What a lesson shows and how long it takes."""
    minutes = lesson.get("minutes")
    duration = f" It takes about {plural(minutes, 'minute')} on two CPU cores with MNIST." if minutes else ""
    return wrap_text(f"{lesson.shows}{duration}", "lesson  ")


def print_lesson(lesson: Any, folder: Path) -> None:
    """Print what the runs of a lesson show and what to try next, and write a page with plots. `lesson` is the section
    of this name in a config."""
    from mnist_lit.reports.html_page import render_page

    boards, page = build_leaderboards(find_runs(folder)[0]), folder / "lesson.html"
    write_text(page, render_page(boards, (), page, MOST_ROWS))
    print_line(f"plots  {page}\n")
    if any(row.data == "digits" for board in boards for row in board.rows):
        print_line("These figures are for the small digits of scikit-learn, not for MNIST.")
    print_line(wrap_text(f"The point: {lesson.point}"))
    if lesson.get("try_next"):
        command, _, effect = lesson.try_next.partition("\n")
        print_line(f"Try next: {name_program(command)}")  # on one line, so that it can be pasted
        print_line(wrap_text(effect))
