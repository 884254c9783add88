"""The same grid on other launchers: submitit, and a Ray cluster of two nodes of which one is killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.configs import PROJECT
from tests.conftest import Outcome
from tests.sweeps.test_grid import QUICK, read_until, results, start, start_command

pytestmark = pytest.mark.slow

Command = Callable[..., Outcome]


def test_submitit_runs_each_job_in_its_own_process(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    done = command("-m", *QUICK, "optimizer=sgd", "data.batch_size=8", "optimizer.lr=0.1,1e9", "hydra.sweep.dir=sweep",
                   "hydra/launcher=submitit_local")  # fmt: skip
    assert done.code == 1, done.output
    assert "1 of 2 failed" in done.output
    assert [run["status"] for _, run in sorted(results(tmp_path / "sweep").items())] == ["completed", "failed"]


def test_a_missing_slurm_is_an_error_and_leaves_no_files(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    done = command("-m", *QUICK, "seed=0,1", "hydra/launcher=submitit_slurm")
    assert done.code == 1
    assert "error: hydra/launcher=submitit_slurm" in done.output
    assert "srun" in done.output
    assert not list(tmp_path.glob("outputs/sweeps/*"))


def ray_node(*options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", "--block", *options]
    return start_command(command, start_new_session=True)


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The address of a cluster of two nodes with one core each, and the process of the second node."""
    pytest.importorskip("ray", reason="needs the extra ray")
    settings = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(PROJECT)}
    folder = tempfile.mkdtemp(prefix="ray")  # a short path, because Ray puts sockets into it
    for name, value in (settings | {"RAY_TMPDIR": folder}).items():
        monkeypatch.setenv(name, value)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    head = ray_node("--head", f"--port={port}", "--include-dashboard=false", "--node-ip-address=127.0.0.1")
    read_until(head, "Ray runtime started")
    other = ray_node(f"--address=127.0.0.1:{port}")
    read_until(other, "Ray runtime started")
    yield f"127.0.0.1:{port}", other
    for node in (other, head):
        if node.poll() is None:
            os.killpg(node.pid, signal.SIGKILL)
        node.communicate()
    shutil.rmtree(folder, ignore_errors=True)


def running_jobs(sweep: Path) -> list[Path]:
    runs = [path.parent.parent for path in sweep.glob("*/checkpoints/last.ckpt")]
    return [run for run in runs if json.loads((run / "result.json").read_text(encoding="utf-8"))["status"] == "running"]


def test_a_ray_cluster_that_loses_a_node_completes_every_job(
    tmp_path: Path, two_nodes: tuple[str, "subprocess.Popen[str]"]
) -> None:
    address, other = two_nodes
    grid = ["-m", *QUICK, "scheduler=none", "trainer.max_epochs=100", "seed=range(0,6)", "hydra/launcher=ray_cluster"]
    process = start(tmp_path, *grid, f"hydra.launcher.ray.init.address='{address}'", "hydra.sweep.dir=sweep")
    while len(running_jobs(tmp_path / "sweep")) < 2:  # one on each node
        assert process.poll() is None, process.communicate()[0]
    os.killpg(other.pid, signal.SIGKILL)
    printed = process.communicate(timeout=300)[0]
    assert process.returncode == 0, printed
    assert "6/6 " in printed
    runs = results(tmp_path / "sweep").values()
    assert [run["status"] for run in runs] == ["completed"] * 6
    assert any("resumed" in run for run in runs), (
        "the job of the dead node continued on the other one, from its checkpoint"
    )
