"""`python -m benchmarks.evidence` runs every preset with 5 seeds on the real MNIST.

It writes docs/results.md and the table in both READMEs, except with --only. It keeps the completed runs in the folder,
so you can stop it and start it again.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.pages import replace_between
from mnist_lit.errors import UserError
from mnist_lit.reports.leaderboard import Leaderboard, build_leaderboard
from mnist_lit.reports.run_reader import find_runs, read_run
from mnist_lit.reports.tables import format_markdown_table, format_row
from mnist_lit.run_folder import read_config
from tests.configs import PROJECT, compose_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("outputs/evidence"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", help="presets, comma-separated; default: all presets")
    arguments = parser.parse_args()

    all_presets = sorted(path.stem for path in (PROJECT / "conf" / "experiment").glob("*.yaml") if path.stem != "debug")
    presets = arguments.only.split(",") if arguments.only else all_presets
    for preset in presets:
        for seed in range(arguments.seeds):
            run_preset(arguments.folder / "presets" / f"{preset}_{seed}", f"experiment={preset}", f"seed={seed}")
    if not arguments.only:
        write_pages(arguments.folder)


def run_preset(folder: Path, *overrides: str) -> None:
    """Run the preset, unless the folder holds a completed run of the same config."""
    try:
        if read_run(folder).completed and read_config(folder) == compose_config(*overrides):
            return
    except UserError:  # also the config of another version
        pass
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, str(PROJECT / "train.py"), *overrides, f"hydra.run.dir={folder}"]
    subprocess.run(command, check=True)


def write_pages(folder: Path) -> None:
    presets = build_leaderboard(find_runs(folder / "presets")[0])
    parts = [
        "# Results",
        f"Written by `python -m benchmarks.evidence` from {sum(row.n for row in presets.rows)} runs on the real MNIST. "
        "The runs use the presets in `conf/experiment/`.",
        describe_machine(presets),
        "## Presets",
        "`published` is the accuracy in the article. `reference` is the accuracy of one run of the training loop in "
        "the article. `test_acc` is the accuracy on the official 10,000 test images, mean ± standard deviation over "
        "the seeds. `fit s` is the fit time in seconds. It is not a benchmark, because other programs may have run at "
        "the same time. For speed, see `benchmarks/results.md`.",
        format_markdown_table(presets),
        "## Together",
        "The networks of all seeds of a preset as one: the mean of their probabilities decides. `one` is the mean test "
        "accuracy of a single network. `mnist-lit evaluate RUN RUN …` does the same. `all wrong` counts the test "
        "images that every network gets wrong, `some wrong` those that at least one gets wrong.",
        format_together(presets),
    ]
    (PROJECT / "docs" / "results.md").write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")
    for readme in (PROJECT / "README.md", PROJECT / "README.zh-CN.md"):
        replace_between(readme, "<!-- results -->\n", "<!-- end -->", format_short_table(presets))


def format_together(board: Leaderboard) -> str:
    lines = ["| experiment | n | one | together | all wrong | some wrong |", "| --- | --- | --- | --- | --- | --- |"]
    for row in board.rows:
        if row.together is None:
            continue
        answers = [run.read_predictions() for run in row.seeds.values()]
        wrong = np.stack([it["prediction"] != it["label"] for it in answers])
        cells = [row.choices["experiment"], row.n, f"{row.mean('test_acc'):.2%}", f"{row.together:.2%}"]
        cells += [wrong.all(0).sum(), f"{wrong.any(0).sum():,}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def describe_machine(board: Leaderboard) -> str:
    runs = [run for row in board.rows for run in row.runs]
    presets: dict[str, set[str]] = {}
    for run in runs:
        presets.setdefault(run.result["device"], set()).add(run.choices["experiment"])
    devices = "; ".join(f"{device}: {', '.join(sorted(names))}" for device, names in sorted(presets.items()))
    versions = ", ".join(sorted({f"{name} {it}" for run in runs for name, it in run.result["versions"].items()}))
    commits = ", ".join(sorted({run.result["git_commit"] for run in runs}))
    return f"Machine: {devices}. Versions: {versions}. Commit: {commits}."


def format_short_table(board: Leaderboard) -> str:
    """Return the table for the READMEs: it has only the most important columns."""
    rows = [format_row(board, rank, row) for rank, row in enumerate(board.rows, 1)]
    wanted = ("experiment", "published", "reference", "test_acc", "n", "params", "fit s")
    columns = [name for name in wanted if name in rows[0]]
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(row[name] for name in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
