"""Data-parallel training: two ranks train as one process does with a batch twice as large."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnist_lit.build import build_data
from mnist_lit.data.datasets import Split
from mnist_lit.data.loader import Normalize, RankShard, TrainLoader
from mnist_lit.errors import UserError
from mnist_lit.models.checkpoint_file import load_classifier, weights_digest
from tests.configs import PROJECT, compose_config
from tests.conftest import Outcome, Run

Command = Callable[..., Outcome]
DDP = ["data=digits", "model=mlp_128_64", "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=2"]


def test_ranks_share_each_batch_and_their_weighted_losses_average_to_its_loss() -> None:
    part = Split(torch.zeros(101, 1, 28, 28, dtype=torch.uint8), torch.arange(101))

    def batches(shard: RankShard) -> list[tuple[list[int], float]]:
        loader = TrainLoader(part, Normalize(0, 1), batch_size=20, steps_per_execution=2, seed=0, shard=shard)
        return [
            (labels.tolist(), weight)
            for block in loader
            for (_, labels), weight in zip(block, block.weights, strict=True)
        ]

    whole, ranks = batches(RankShard()), [batches(RankShard(rank, 3)) for rank in range(3)]
    for (everything, _), *shares in zip(whole, *ranks, strict=True):
        if len(everything) < 3:
            continue  # too small to share: an error before training, see the next test
        assert sorted(label for labels, _ in shares for label in labels) == sorted(everything)
        averaged = sum(weight * sum(labels) / len(labels) for labels, weight in shares) / 3
        assert averaged == pytest.approx(sum(everything) / len(everything))


def test_a_last_batch_with_fewer_samples_than_ranks_is_an_error() -> None:
    with pytest.raises(UserError, match=r"data.batch_size=314.*trainer.devices=4"):
        build_data(compose_config("data=digits", "data.batch_size=314", "trainer=ddp", "trainer.devices=4"))


@pytest.mark.slow
def test_two_ranks_match_one_process_with_twice_the_batch_size(command: Command, run: Callable[..., Run]) -> None:
    two = command(*DDP, "trainer.log_every_n_steps=5")
    assert two.code == 0, two.output
    one = run("data.batch_size=128", "trainer.log_every_n_steps=5")
    assert two.result["status"] == "completed"
    assert two.result["test_acc"] == one.result["test_acc"]
    assert two.result["global_step"] == one.result["global_step"]
    curves = []
    for folder in (two.folder, one.folder):
        with (folder / "metrics.csv").open(newline="", encoding="utf-8") as stream:
            curves.append([(int(row["step"]), float(row["train_loss"])) for row in csv.DictReader(stream)])
    assert [step for step, _ in curves[0]] == [step for step, _ in curves[1]]
    assert [loss for _, loss in curves[0]] == pytest.approx([loss for _, loss in curves[1]], rel=1e-4)
    assert len(list((two.folder).glob("events*"))) == len(list((one.folder).glob("events*")))
    assert two.output.count("test accuracy") == 1, "only one rank prints"


@pytest.mark.slow
def test_each_job_of_a_sweep_trains_with_its_own_options(command: Command, tmp_path: Path) -> None:
    done = command("-m", *DDP, "model.hidden=[16],[32]")
    assert done.code == 0, done.output
    results = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(tmp_path.glob("outputs/sweeps/*/*/result.json"))
    ]
    assert [result["params"] for result in results] == [784 * 16 + 16 + 170, 784 * 32 + 32 + 330]
    assert all(result["status"] == "completed" for result in results)


@pytest.mark.slow
def test_ranks_save_at_the_same_steps_within_an_epoch(command: Command) -> None:
    """Each rank has its own clock, and a rank that saves waits for all others."""
    done = command(*DDP, "trainer.steps_per_execution=1", "checkpoint.every_seconds=0.03")
    assert done.code == 0, done.output
    assert done.result["status"] == "completed"


def start_long_run(tmp_path: Path, *overrides: str) -> "subprocess.Popen[str]":
    options = [*DDP, "trainer.max_epochs=100000", *overrides, "hydra.run.dir=run"]
    command = [sys.executable, str(PROJECT / "train.py"), *options]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )
    assert process.stdout
    for line in process.stdout:
        if re.match(r"epoch +2/", line):
            return process
    raise AssertionError("the run ended before its second epoch")


def find_ranks(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if (
            b"mnist_lit.training.ranks" in words
            and b"TORCHELASTIC_RUN_ID" in environment
            and str(folder).encode() in words
        ):
            found.append(int(entry.name))
    return sorted(found)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the test finds the ranks in /proc")
def test_a_rank_that_dies_ends_the_run_with_an_error(tmp_path: Path) -> None:
    process = start_long_run(tmp_path)
    ranks = find_ranks(tmp_path / "run")
    assert len(ranks) == 2
    os.kill(ranks[-1], signal.SIGKILL)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "a rank failed" in output
    assert json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["status"] in (
        "failed",
        "interrupted",
    )
    assert find_ranks(tmp_path / "run") == []


@pytest.mark.slow
def test_a_signal_stops_all_ranks_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    process = start_long_run(tmp_path)
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 143, output
    assert json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["status"] == "interrupted"
    load_classifier(tmp_path / "run" / "checkpoints" / "last.ckpt")


@pytest.mark.slow
@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only on Linux do ranks stop with the process that started them"
)
def test_a_killed_run_with_ranks_resumes_bit_for_bit(command: Command, tmp_path: Path) -> None:
    """Batch norm has averages of its own in each rank."""
    options = ["model=convnet", "model.channels=[4]", "trainer.max_epochs=15", "scheduler=none"]
    process = start_long_run(tmp_path, *options)
    process.kill()
    while find_ranks(tmp_path / "run"):
        time.sleep(0.1)
    assert json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))["status"] == "interrupted"
    shorter = command("resume=run", "trainer.max_epochs=1")
    assert shorter.code == 1
    assert "trainer.max_epochs=1" in shorter.output
    assert command("resume=run").code == 0
    assert command(*DDP, *options, "hydra.run.dir=whole").code == 0
    digests = [
        weights_digest(load_classifier(tmp_path / name / "checkpoints" / "last.ckpt")) for name in ("run", "whole")
    ]
    assert digests[0] == digests[1]
    assert (tmp_path / "run" / "metrics.csv").read_text(encoding="utf-8") == (
        tmp_path / "whole" / "metrics.csv"
    ).read_text(encoding="utf-8")
