"""Kills runs at random moments and resumes them until they end: `python -m benchmarks.chaos`.

Each case is trained once undisturbed. Then it is started again, killed with `kill -9`, resumed, killed, … until it
has been killed often enough, and left to end. Its weights, metrics and predictions must be those of the undisturbed
run, bit for bit. A third of the kills wait for a checkpoint that is being written, a sixth hit the start-up, the
others training.
The figures go to docs/reliability.md.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

from mnist_lit.training.checkpoints import load_classifier, weights_digest

PROJECT = Path(__file__).parent.parent
PAGE = PROJECT / "docs" / "reliability.md"
BEGIN, END = "<!-- figures of benchmarks.chaos -->\n", "<!-- end of figures -->\n"

COMMON = ["trainer=cpu", "checkpoint.every_seconds=0.2"]
DIGITS = [*COMMON, "data=digits"]
MNIST = [*COMMON, "data=mnist", "data.fallback=null"]
DROPOUT = ["model._target_=benchmarks.dropout.Dropout", "~model.activation", "+model.width=64"]
CASES = {
    "digits, mlp_128_64, adam, cosine": [*DIGITS, "model=mlp_128_64", "trainer.max_epochs=150"],
    "digits, mlp_4x64, sgd, onecycle": [
        *DIGITS,
        "model=mlp_4x64",
        "optimizer=sgd",
        "optimizer.momentum=0.9",
        "scheduler=onecycle",
        "trainer.max_epochs=150",
    ],
    "digits, mlp_500, rmsprop, step": [
        *DIGITS,
        "model=mlp_500",
        "optimizer=rmsprop",
        "scheduler=step",
        "trainer.max_epochs=80",
    ],
    "digits, cnn, adamw, onecycle": [
        *DIGITS,
        "model=cnn",
        "optimizer=adamw",
        "scheduler=onecycle",
        "trainer.max_epochs=30",
    ],
    "digits, dropout and batch norm, adagrad, none, early stopping": [
        *DIGITS,
        *DROPOUT,
        "optimizer=adagrad",
        "scheduler=none",
        "trainer.early_stopping_patience=40",
        "trainer.max_epochs=150",
    ],
    "MNIST, dropout and batch norm, adam, cosine": [*MNIST, *DROPOUT, "trainer.max_epochs=5"],
    "MNIST, cnn, adam, cosine": [*MNIST, "model=cnn", "trainer.max_epochs=2"],
}


@dataclass
class Outcome:
    kills: Counter[str] = field(default_factory=Counter)  # by what the run was doing
    resumes: int = 0
    mismatches: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=9, help="how often each run is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", default="", help="the cases with this in their name")
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    outcomes = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, overrides) in enumerate(CASES.items()):
            if arguments.only not in name:
                continue
            outcomes[name] = torment(Path(folder) / str(number), overrides, arguments.kills, dice)
            told = outcomes[name]
            print(f"{name}: {told.kills.total()} kills, {told.resumes} resumes, mismatches: {told.mismatches or 0}")
    kills = sum(outcome.kills.total() for outcome in outcomes.values())
    resumes = sum(outcome.resumes for outcome in outcomes.values())
    mismatches = sum(len(outcome.mismatches) for outcome in outcomes.values())
    print(f"kills {kills}, resumes {resumes}, mismatches {mismatches}")
    if not arguments.only:
        write_figures(outcomes)
    return 1 if mismatches else 0


def torment(folder: Path, overrides: list[str], kills: int, dice: random.Random) -> Outcome:
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    folder.mkdir()
    start(undisturbed, overrides).wait()
    outcome = Outcome()
    while True:
        begun = (killed / "config.yaml").exists()
        run = resume(killed) if begun else start(killed, overrides, again=killed.exists())
        outcome.resumes += begun
        if outcome.kills.total() == kills or not kill(run, killed, dice, outcome):
            break
    if run.wait():
        outcome.mismatches.append(f"ended with exit code {run.returncode}")
    outcome.mismatches += differences(undisturbed, killed)
    return outcome


def start(folder: Path, overrides: list[str], again: bool = False) -> "subprocess.Popen[bytes]":
    if again:  # killed before it had written down what it was
        folder.rename(folder.with_name(f"{folder.name}_{time.monotonic_ns()}"))
    return command(*overrides, f"hydra.run.dir={folder}")


def resume(folder: Path) -> "subprocess.Popen[bytes]":
    return command(f"resume={folder}")


def command(*arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, PROJECT / "train.py", *arguments], stdout=subprocess.DEVNULL)


def kill(run: "subprocess.Popen[bytes]", folder: Path, dice: random.Random, outcome: Outcome) -> bool:
    """Kill the run at a moment of the chosen kind; whether it was still there to be killed."""
    kind = dice.choice(["start-up", *["writing a checkpoint"] * 2, *["training"] * 3])
    checkpoints = folder / "checkpoints"
    began = time.time()
    delay = dice.uniform(0, 4) if kind == "start-up" else dice.uniform(0, 1.5)
    if kind != "start-up":
        while run.poll() is None and newest(checkpoints) < began:
            time.sleep(0.005)
    until = time.monotonic() + delay
    while run.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    while kind == "writing a checkpoint" and run.poll() is None and not list(checkpoints.glob(".*.ckpt.*")):
        pass  # the moment is a few milliseconds long
    if run.poll() is not None:
        return False
    run.kill()
    run.wait()
    caught = bool(list(checkpoints.glob(".*.ckpt.*")))  # what it was writing lies there still
    outcome.kills["writing a checkpoint" if caught else "start-up" if kind == "start-up" else "training"] += 1
    return True


def newest(folder: Path) -> float:
    """When a file in the folder was last written; 0 if there is none."""
    times = []
    for path in folder.glob("*.ckpt"):
        try:
            times.append(path.stat().st_mtime)
        except FileNotFoundError:  # renamed just now
            continue
    return max(times, default=0)


def differences(one: Path, other: Path) -> list[str]:
    found = []
    for name in ("last.ckpt", "best.ckpt"):
        first, second = (weights_digest(load_classifier(folder / "checkpoints" / name)) for folder in (one, other))
        if first != second:
            found.append(f"weights of {name}")
    if (one / "metrics.csv").read_text() != (other / "metrics.csv").read_text():
        found.append("metrics.csv")
    with np.load(one / "test_predictions.npz") as first, np.load(other / "test_predictions.npz") as second:
        if any(not np.array_equal(first[name], second[name]) for name in first.files):
            found.append("test predictions")
    return found


def write_figures(outcomes: dict[str, Outcome]) -> None:
    kinds = ["training", "writing a checkpoint", "start-up"]
    lines = [
        f"`python -m benchmarks.chaos`, {date.today()}:",
        "",
        f"| run | {' | '.join(kinds)} | resumes | mismatches |",
    ]
    lines += ["| --- |" + " ---: |" * (len(kinds) + 2)]
    for name, outcome in outcomes.items():
        kills = [str(outcome.kills[kind]) for kind in kinds]
        lines.append(f"| {name} | {' | '.join(kills)} | {outcome.resumes} | {len(outcome.mismatches)} |")
    totals = [sum(outcome.kills[kind] for outcome in outcomes.values()) for kind in kinds]
    resumes = sum(outcome.resumes for outcome in outcomes.values())
    mismatches = sum(len(outcome.mismatches) for outcome in outcomes.values())
    lines.append(f"| **{sum(totals)} kills** | {' | '.join(map(str, totals))} | {resumes} | {mismatches} |")
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n\n" + END + after)


if __name__ == "__main__":
    sys.exit(main())
