"""`python -m benchmarks.evidence`: every preset × 5 seeds on real MNIST → docs/results.md, and the README's table.

Runs that are finished already in the folder are kept, so that it can be stopped and started again.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.product import PROJECT
from mnist_lit.reports.leaderboard import Leaderboard, leaderboard
from mnist_lit.reports.render import cells, headings, markdown_table
from mnist_lit.reports.runs import UnreadableRun, find_runs, read_run

MARK = re.compile(r"(<!-- results -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, default=Path("outputs/evidence"))
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--only", help="presets, comma-separated; all of them if not given")
    chosen = options.parse_args()

    every = sorted(path.stem for path in (PROJECT / "conf" / "experiment").glob("*.yaml"))
    presets = chosen.only.split(",") if chosen.only else every
    for preset in presets:
        for seed in range(chosen.seeds):
            train(chosen.folder / "presets" / f"{preset}_{seed}", f"experiment={preset}", f"seed={seed}")
    write(chosen.folder)


def train(folder: Path, *overrides: str) -> None:
    try:
        if read_run(folder).completed:
            return
    except UnreadableRun:
        pass
    command = [sys.executable, str(PROJECT / "train.py"), *overrides, f"hydra.run.dir={folder}"]
    subprocess.run(command, check=True)


def write(folder: Path) -> None:
    presets = leaderboard(*find_runs(folder / "presets"))
    parts = [
        "# Results",
        f"Written by `python -m benchmarks.evidence` from {sum(row.n for row in presets.rows)} runs of the presets in "
        "`conf/experiment/`, on the real MNIST.",
        surroundings(presets),
        "## Presets",
        "`published` is what the article says, `reference` what its own training loop reached when it was run once; "
        "`test_acc` is the official 10,000 test images, mean ± standard deviation over the seeds. `fit s` is no "
        "benchmark: the machine may have had other work beside; for speed see `benchmarks/results.md`.",
        markdown_table(presets),
    ]
    (PROJECT / "docs" / "results.md").write_text("\n\n".join(part.strip() for part in parts) + "\n")
    readme = PROJECT / "README.md"
    readme.write_text(MARK.sub(lambda mark: mark[1] + short_table(presets) + mark[2], readme.read_text()))


def surroundings(board: Leaderboard) -> str:
    runs = [run for row in board.rows for run in row.runs]
    presets: dict[str, set[str]] = {}
    for run in runs:
        presets.setdefault(run.result["device"], set()).add(run.choices["experiment"])
    devices = "; ".join(f"{device}: {', '.join(sorted(names))}" for device, names in sorted(presets.items()))
    versions = ", ".join(f"{name} {version}" for name, version in runs[0].result["versions"].items())
    commits = ", ".join(sorted({run.result["git_commit"] for run in runs}))
    return f"Machine: {devices}. Versions: {versions}. Commit: {commits}."


def short_table(board: Leaderboard) -> str:
    """The README's: what is measured against what, and how to make it again."""
    wanted = ["experiment", "published", "reference", "test_acc", "n", "params", "fit s"]
    rows = [dict(zip(headings(board), cells(board, rank, row), strict=True)) for rank, row in enumerate(board.rows, 1)]
    lines = ["| " + " | ".join(wanted) + " |", "|" + " --- |" * len(wanted)]
    lines += ["| " + " | ".join(row[name] for name in wanted) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
