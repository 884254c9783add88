"""Runs within the jobs of srun, torchrun and mpirun, and on machines of a cluster."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnist_lit.errors import UserError
from mnist_lit.run_folder import METRICS, PREDICTIONS, RESULT
from mnist_lit.training.devices import check_accelerator
from tests.configs import PROJECT
from tests.conftest import OFFLINE, TINY, Outcome, Run
from tests.selection import slow_except

DDP = [*TINY, "trainer=ddp", "trainer.accelerator=cpu", "trainer.max_epochs=1"]
LAUNCHERS = {
    "plain python in an sbatch script": {"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"},
    "the third task of srun": {
        **{"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS_PER_NODE": "4", "SLURM_JOB_ID": "7"},
        **{"SLURM_PROCID": "2", "SLURM_LOCALID": "2", "SLURM_NODEID": "0", "SLURM_JOB_NAME": "train"},
    },
    "the second process of torchrun": {
        **{"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x", "GROUP_RANK": "0"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "LOCAL_WORLD_SIZE": "2"},
    },
    "the second pod of a PyTorchJob": {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "no-such-host"},
    "a local rank alone": {"LOCAL_RANK": "3"},
    "a compose file with empty variables": {"RANK": "", "WORLD_SIZE": "", "SLURM_PROCID": "", "SLURM_NTASKS": ""},
    "jsrun": {"JSM_NAMESPACE_RANK": "1", "JSM_NAMESPACE_SIZE": "2", "LSB_JOBID": "7"},
}


@pytest.mark.parametrize("launcher", slow_except(LAUNCHERS, "the third task of srun", "the second process of torchrun"))
def test_a_run_is_complete_in_any_process_of_a_launcher(
    launcher: str, run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(name="plain").result
    variables = LAUNCHERS[launcher]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = run(name="launched")
    assert done.result["status"] == "completed"
    assert done.result["test_loss"] == plain["test_loss"]
    assert (done.folder / METRICS).read_text(encoding="utf-8").count("\n") > 2
    assert (done.folder / PREDICTIONS).exists()
    assert list(done.folder.glob("events*"))
    assert {name: os.environ[name] for name in variables} == variables, "they belong to the launcher"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_command_is_a_complete_run_in_any_process_of_a_launcher(
    launcher: str, command: Callable[..., Outcome]
) -> None:
    done = command(*TINY, "hydra.run.dir=outputs/runs/run", **LAUNCHERS[launcher])
    assert done.code == 0, done.output
    assert "Traceback" not in done.output
    assert done.result["status"] == "completed"
    assert (done.folder / METRICS).exists()


@pytest.mark.slow
def test_each_process_of_torchrun_trains_a_run_of_its_own(tmp_path: Path) -> None:
    done = torchrun(tmp_path, *TINY)
    assert done.returncode == 0, done.stdout
    results = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob(f"outputs/runs/*/{RESULT}")]
    assert [result["status"] for result in results] == ["completed"] * 2
    assert len({result["test_loss"] for result in results}) == 1


@pytest.mark.slow
def test_torchrun_with_several_devices_is_one_clear_error(tmp_path: Path) -> None:
    done = torchrun(tmp_path, *DDP)
    assert done.returncode != 0
    assert re.search(r"Leave torchrun out: python \S*train\.py trainer\.devices=2", done.stdout), done.stdout
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("launcher", "variables"),
    [
        ("torchrun", {"TORCHELASTIC_RUN_ID": "x"}),
        ("srun", {"SLURM_STEP_NUM_TASKS": "2"}),
        ("mpirun", {"OMPI_COMM_WORLD_SIZE": "2"}),
        ("mpiexec", {"PMI_SIZE": "2"}),
    ],
)
def test_several_devices_within_a_launcher_are_an_error(
    launcher: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_accelerator("cpu", 2, "32-true")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    check_accelerator("cpu", 1, "32-true")
    with pytest.raises(UserError, match=f"trainer.devices=2.*Leave {launcher} out"):
        check_accelerator("cpu", 2, "32-true")


NO_NAME = """
import socket
def unknown(name=""):
    return "no-such-host.invalid"
socket.getfqdn = socket.gethostname = unknown
"""


@pytest.mark.slow
def test_ranks_start_on_a_machine_whose_name_has_no_address(command: Callable[..., Outcome], tmp_path: Path) -> None:
    """Nor do variables that other launchers have left behind change the ranks."""
    (tmp_path / "sitecustomize.py").write_text(NO_NAME, encoding="utf-8")
    left_behind = {"PET_NNODES": "2", "RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "no-such-host"}
    path = os.pathsep.join([str(tmp_path), str(PROJECT)])
    done = command(*DDP, **left_behind, PYTHONPATH=path)
    assert done.code == 0, done.output
    assert done.result["status"] == "completed"


def torchrun(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*launcher, "--local-addr=127.0.0.1", str(PROJECT / "train.py"), *arguments],
        cwd=folder,
        env=os.environ | OFFLINE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=200,
        check=False,
    )


@pytest.mark.parametrize("accelerator", ["auto", "gpu"])
def test_more_devices_than_gpus_are_an_error(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check_accelerator(accelerator, 1, "32-true")
    check_accelerator("cpu", 2, "32-true")
    with pytest.raises(UserError, match=f"trainer.accelerator={accelerator} trainer.devices=2: .* finds 1 GPU"):
        check_accelerator(accelerator, 2, "32-true")
