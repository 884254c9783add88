"""The same grid on other engines: submitit's processes, a Ray cluster of two nodes, one of them killed."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT, Outcome
from tests.sweeps.test_grid import QUICK, read_until, results, start, start_command

Command = Callable[..., Outcome]


def test_submitit_runs_jobs_in_processes_of_their_own(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    done = command("-m", *QUICK, "optimizer=sgd", "data.batch_size=8", "optimizer.lr=0.1,1e9", "hydra.sweep.dir=sweep",
                   "hydra/launcher=submitit_local")  # fmt: skip
    assert done.code == 1, done.output
    assert "1 of 2 failed" in done.output
    assert [run["status"] for _, run in sorted(results(tmp_path / "sweep").items())] == ["completed", "failed"]


def test_without_slurm_that_is_said_and_nothing_left(command: Command, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    done = command("-m", *QUICK, "seed=0,1", "hydra/launcher=submitit_slurm")
    assert done.code == 1
    assert "error: hydra/launcher=submitit_slurm" in done.output
    assert "srun" in done.output
    assert not list(tmp_path.glob("outputs/sweeps/*"))


RAY = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(PROJECT)}


def ray_node(*options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--num-cpus=1", "--block", *options]
    return start_command(command, env=os.environ | RAY, start_new_session=True)


@pytest.fixture
def two_nodes() -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The address of a cluster of two nodes with one core each, and the node that is not the head."""
    pytest.importorskip("ray", reason="needs the extra ray")
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


def test_a_ray_cluster_that_loses_a_node_still_ends_with_every_job(
    tmp_path: Path, two_nodes: tuple[str, "subprocess.Popen[str]"], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, other = two_nodes
    for name, value in RAY.items():
        monkeypatch.setenv(name, value)
    grid = ["-m", *QUICK, "scheduler=none", "trainer.max_epochs=100", "seed=range(0,6)", "hydra/launcher=ray_cluster"]
    process = start(tmp_path, *grid, f"hydra.launcher.ray.init.address='{address}'", "hydra.sweep.dir=sweep")
    printed = read_until(process, "1/6 ")
    os.killpg(other.pid, signal.SIGKILL)
    printed += process.communicate(timeout=300)[0]
    assert process.returncode == 0, printed
    assert "6/6 " in printed
    assert [run["status"] for run in results(tmp_path / "sweep").values()] == ["completed"] * 6
