"""Kills runs at random moments and resumes them until they end: `python -m benchmarks.chaos`.

Each case is trained once undisturbed. Then it is started again, killed with `kill -9`, resumed, killed, … until it
has been killed often enough, and left to end. Its weights, metrics and predictions must be those of the undisturbed
run, bit for bit. A third of the kills wait for a checkpoint that is being written, a sixth hit the start-up, the
others training. Now and then a run is stopped by SIGTERM or SIGINT instead: then its exit code must be 143 or 130, and
the time until it has ended is measured.
The figures go to docs/reliability.md.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks.product import PROJECT
from mnist_lit.training.checkpoints import load_classifier, weights_digest
from mnist_lit.training.resume import recorded

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
    "digits, convnet, augmented, adam, cosine": [
        *DIGITS,
        "model=convnet",
        "model.channels=[4,8]",
        "data.augment={rotation:10,shift:2,scale:0.1}",
        "trainer.max_epochs=40",
    ],
    "MNIST, dropout and batch norm, adam, cosine": [*MNIST, *DROPOUT, "trainer.max_epochs=5"],
    "MNIST, cnn, adam, cosine": [*MNIST, "model=cnn", "trainer.max_epochs=2"],
}


KINDS = ["training", "writing a checkpoint", "start-up", "signal"]


@dataclass
class Outcome:
    stops: Counter[str] = field(default_factory=Counter)  # by kind: what the run was doing when killed, or a signal
    resumes: int = 0
    seconds_to_stop: float = 0.0  # the longest after SIGTERM or SIGINT
    mismatches: list[str] = field(default_factory=list)

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.stops + other.stops,
            self.resumes + other.resumes,
            max(self.seconds_to_stop, other.seconds_to_stop),
            self.mismatches + other.mismatches,
        )

    def __str__(self) -> str:
        kills = self.stops.total() - self.stops["signal"]
        return (
            f"kills {kills}, signals {self.stops['signal']} (stopped within {self.seconds_to_stop:.1f} s), "
            f"resumes {self.resumes}, mismatches {len(self.mismatches)} {self.mismatches or ''}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--stops", type=int, default=11, help="how often each run is killed or stopped")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", default="", help="the cases with this in their name")
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    outcomes = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, overrides) in enumerate(CASES.items()):
            if arguments.only not in name:
                continue
            outcomes[name] = torment(Path(folder) / str(number), overrides, arguments.stops, dice)
            print(f"{name}: {outcomes[name]}", flush=True)
    total = sum(outcomes.values(), Outcome())
    print(total)
    if not arguments.only:
        write_figures(outcomes, total)
    return 1 if total.mismatches else 0


def torment(folder: Path, overrides: list[str], stops: int, dice: random.Random) -> Outcome:
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    folder.mkdir()
    start(undisturbed, overrides).wait()
    outcome = Outcome()
    while True:
        begun = (killed / "config.yaml").exists()
        run = resume(killed) if begun else start(killed, overrides, again=killed.exists())
        outcome.resumes += begun
        if outcome.stops.total() == stops or not stop(run, killed, dice, outcome):
            break
    run.wait()
    if recorded(killed).get("status") != "completed":
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


def stop(run: "subprocess.Popen[bytes]", folder: Path, dice: random.Random, outcome: Outcome) -> bool:
    """Kill or signal the run at a moment of the chosen kind; whether it was still there."""
    kind = dice.choice(["start-up", "signal", *["writing a checkpoint"] * 2, *["training"] * 3])
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
    if kind == "signal":
        return signalled(run, folder, dice.choice([signal.SIGTERM, signal.SIGINT]), outcome)
    run.kill()
    run.wait()
    caught = bool(list(checkpoints.glob(".*.ckpt.*")))  # what it was writing lies there still
    outcome.stops["writing a checkpoint" if caught else "start-up" if kind == "start-up" else "training"] += 1
    return True


def signalled(run: "subprocess.Popen[bytes]", folder: Path, signum: signal.Signals, outcome: Outcome) -> bool:
    run.send_signal(signum)
    sent = time.monotonic()
    code = run.wait()
    if recorded(folder).get("status") == "completed":  # it was just ending
        return False
    outcome.seconds_to_stop = max(outcome.seconds_to_stop, time.monotonic() - sent)
    outcome.stops["signal"] += 1
    if code != 128 + signum:
        outcome.mismatches.append(f"exit code {code} after {signum.name}")
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


def write_figures(outcomes: dict[str, Outcome], total: Outcome) -> None:
    lines = [
        f"`python -m benchmarks.chaos`, {date.today()}:",
        "",
        f"| run | {' | '.join(KINDS)} | resumes | mismatches |",
        "| --- |" + " ---: |" * (len(KINDS) + 2),
    ]
    for name, outcome in {**outcomes, "**all**": total}.items():
        stops = [str(outcome.stops[kind]) for kind in KINDS]
        lines.append(f"| {name} | {' | '.join(stops)} | {outcome.resumes} | {len(outcome.mismatches)} |")
    lines += ["", "A run killed before it had begun is started again, which is no resume."]
    lines += ["", f"The longest time from a signal to the end of the process: {total.seconds_to_stop:.1f} s."]
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n\n" + END + after)


if __name__ == "__main__":
    sys.exit(main())
