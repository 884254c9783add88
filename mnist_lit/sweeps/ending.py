"""What a sweep says last: the leaderboard, what failed and why, how to go on. Imports no torch."""

from collections.abc import Sequence
from pathlib import Path

import rich

from mnist_lit.reports.leaderboard import leaderboard
from mnist_lit.reports.render import terminal
from mnist_lit.reports.runs import find_runs
from mnist_lit.sweeps.plan import Job
from mnist_lit.sweeps.watch import reason, say
from mnist_lit.training.resume import recorded


def tell_ending(folder: Path, jobs: Sequence[Job], command: str) -> bool:
    """Whether any job has failed."""
    board = leaderboard(find_runs(folder)[0])
    if board.rows:
        console = rich.get_console()
        console.print(terminal(board, console))
        say(f"the best row again    {board.rows[0].command}")
    say(f"as a page with plots  mnist-lit report {folder} --html page.html")
    failed = [job for job in jobs if recorded(folder / job.folder).get("status") != "completed"]
    if failed:
        say(f"\n{len(failed)} of {len(jobs)} failed")
        for job in failed:
            say(f"  {job.folder}  {job.label}: {reason(recorded(folder / job.folder))}")
        say(f"run what failed again {command}")
    return bool(failed)
