"""Folders as runs and searches write them, with the results that a test needs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml

CROSS_ENTROPY = "mnist_lit.losses.CrossEntropy"
ADAM, SGD = "torch.optim.Adam", "torch.optim.SGD"
OPTIONS = {
    "data": {"name": "mnist", "batch_size": 64},
    "optimizer": {"_target_": ADAM, "lr": 0.001},
    "loss": {"_target_": CROSS_ENTROPY, "label_smoothing": 0.0},
    "trainer": {},
}
CURVES = """step,train_loss,train_acc,epoch,val_loss,val_acc
5,1.2,0.5,0,,
10,0.6,0.75,0,0.5,0.8
20,0.4,1.0,1,0.3,0.9
"""


def write_run(
    folder: Path, *, seed: int = 0, test_acc: float = 0.9, val_acc: float = 0.9, lr: float = 0.001, **changes: Any
) -> Path:
    folder.mkdir(parents=True)
    config = OPTIONS | {"seed": seed, "optimizer": {"_target_": ADAM, "lr": lr}} | changes.pop("config", {})
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    result = {
        "status": "completed", "seed": seed, "params": 10, "data": {"name": "mnist", "test_size": 10_000},
        "choices": {"model": "cnn", "optimizer": "adam"}, "command": f"python train.py optimizer.lr={lr} seed={seed}",
        "epochs": 2, "global_step": 20, "fit_seconds": 4.0, "train_samples_per_second": 100.0,
        "val_acc": val_acc, "test_acc": test_acc, "test_loss": 0.1,
    } | changes  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (folder / "metrics.csv").write_text(CURVES, encoding="utf-8")
    return folder


def write_predictions(folder: Path, right: np.ndarray, **more: np.ndarray) -> None:
    label = (np.arange(len(right)) % 10).astype(np.uint8)
    prediction = np.where(right, label, (label + 1) % 10).astype(np.uint8)
    answers = {"label": label, "prediction": prediction, "confidence": np.ones(len(right)), **more}
    np.savez(folder / "test_predictions.npz", **answers)


def write_lesson(folder: Path) -> None:
    """A sweep of one run, with the words of its lesson."""
    lesson = {"lesson": {"shows": "Four losses.", "point": "All four train."}}
    write_run(folder / "0_loss", config=lesson, choices={"sweep": "losses"})
    (folder / "sweep.yaml").write_text("grid: []\n", encoding="utf-8")


def write_grid(folder: Path, *rates: float) -> Path:
    """A grid with a run for each learning rate."""
    for number, lr in enumerate(rates):
        write_run(folder / f"{number}_lr-{lr}", lr=lr, val_acc=0.9 - number / 1000)
    (folder / "sweep.yaml").write_text("grid: []\n", encoding="utf-8")
    return folder


def write_search(folder: Path) -> Path:
    """A search with three complete trials, a pruned one and a failed one."""
    states = {0: "complete", 1: "pruned", 2: "complete", 3: "fail", 4: "complete"}
    trials = []
    for number, state in states.items():
        lr, value = 10.0 ** (number - 4), (90 + number) / 100
        status = {"complete": "completed", "fail": "failed"}.get(state, state)
        write_run(folder / f"{number}_lr-{lr:g}", lr=lr, val_acc=value, status=status)
        values, curve = [value] if state == "complete" else None, {"1": 0.42} if state == "pruned" else {}
        params = {"optimizer": "sgd", "optimizer.lr": lr}
        trials.append({"number": number, "state": state, "params": params, "values": values, "curve": curve})
    study = {"objectives": ["val_acc"], "directions": ["maximize"], "importances": {"val_acc": {"optimizer.lr": 1.0}}}
    (folder / "study.json").write_text(json.dumps(study | {"trials": trials}), encoding="utf-8")
    (folder / "sweep.yaml").write_text("search: []\n", encoding="utf-8")
    return folder
