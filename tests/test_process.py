"""Signals, output that nobody reads, threads, and what the environment has set to run at the end."""

import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from mnist_lit.models.checkpoint_file import load_classifier
from mnist_lit.process import (
    LossyOutput,
    importing,
    raise_on_signal,
    raising_signals,
    set_signal_handler,
    usable_cores,
)
from mnist_lit.run_folder import CHECKPOINTS, LAST, LOG, RESULT
from tests.configs import PROJECT
from tests.conftest import OFFLINE, TINY, Outcome, Run

Command = Callable[..., Outcome]
posix = pytest.mark.skipif(os.name != "posix", reason="Windows has other pipes, terminals and signals")
SHORT = [*TINY, "callbacks=none", "trainer.max_epochs=20", "hydra.run.dir=run"]
LONG = [*SHORT, "trainer.max_epochs=2000"]


def start(folder: Path, *arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, str(PROJECT / "train.py"), *arguments], cwd=folder, env=os.environ | OFFLINE, **options
    )


def read_until(stream: IO[bytes], words: bytes) -> None:
    for line in stream:
        if words in line:
            return
    raise AssertionError(f"the output ended before {words!r}")


def check_completed(folder: Path) -> None:
    assert json.loads((folder / RESULT).read_text(encoding="utf-8"))["status"] == "completed"
    log = (folder / LOG).read_text(encoding="utf-8")
    assert "epoch 20/20" in log
    assert "test accuracy" in log


def check_interrupted(folder: Path) -> None:
    assert json.loads((folder / RESULT).read_text(encoding="utf-8"))["status"] == "interrupted"
    assert f"train.py resume={folder.name}" in (folder / LOG).read_text(encoding="utf-8")
    load_classifier(folder / CHECKPOINTS / LAST)


# ---- output that nobody reads --------------------------------------------------------------------------------------


@posix
@pytest.mark.slow
@pytest.mark.parametrize("last_line", [b"run ", b"epoch"])
def test_a_run_goes_on_when_the_reader_of_its_pipe_ends(tmp_path: Path, last_line: bytes) -> None:
    """`train.py … | head -n 1`, `| grep -m1 epoch`."""
    run = start(tmp_path, *SHORT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert run.stdout
    read_until(run.stdout, last_line)
    run.stdout.close()
    assert run.wait(100) == 0
    check_completed(tmp_path / "run")


@posix
@pytest.mark.slow
def test_a_run_goes_on_when_its_terminal_is_closed(tmp_path: Path) -> None:
    """A terminal has a progress bar, too. In a session of its own the run gets no SIGHUP."""
    own, terminal = os.openpty()
    run = start(tmp_path, *SHORT, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    with os.fdopen(own, "rb") as screen:
        read_until(screen, b"untrained")
    assert run.wait(100) == 0
    check_completed(tmp_path / "run")


@posix
@pytest.mark.slow
@pytest.mark.parametrize("redirection", [">&- 2>&-", ">/dev/full 2>&1"])
def test_a_run_needs_no_place_for_its_output(tmp_path: Path, redirection: str) -> None:
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, str(PROJECT / "train.py"), *SHORT]
    assert subprocess.run(command, cwd=tmp_path, env=os.environ | OFFLINE, timeout=100, check=False).returncode == 0
    check_completed(tmp_path / "run")


@posix
@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_ctrl_c_in_a_pipe_is_recorded_though_its_reader_ends_first(tmp_path: Path, devices: int) -> None:
    """Ctrl-C at `train.py … 2>&1 | tee log` reaches tee as well."""
    run = start(
        tmp_path,
        *LONG,
        *(["trainer=ddp", "trainer.accelerator=cpu"] if devices == 2 else []),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert run.stdout
    read_until(run.stdout, b"epoch ")
    run.stdout.close()
    run.send_signal(signal.SIGINT)
    assert run.wait(100) == 130
    check_interrupted(tmp_path / "run")


@posix
@pytest.mark.slow
def test_a_sweep_goes_on_when_the_reader_of_its_pipe_ends(tmp_path: Path) -> None:
    sweep = start(tmp_path, "-m", *SHORT[:-1], "seed=0,1", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert sweep.stdout
    sweep.stdout.readline()
    sweep.stdout.close()
    assert sweep.wait(100) == 0
    folders = [path.parent for path in tmp_path.glob(f"outputs/sweeps/*/*/{RESULT}")]
    assert len(folders) == 2
    for folder in folders:
        check_completed(folder)


@posix
def test_output_is_written_or_dropped() -> None:
    reader, writer = os.pipe()
    output = LossyOutput(writer, "w")
    assert output.write(b"read") == 4
    assert os.read(reader, 10) == b"read"
    os.close(reader)
    assert output.write(memoryview(b"lost")) == 4
    output.close()


@posix
def test_output_into_a_full_pipe_that_does_not_wait_is_dropped() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with LossyOutput(writer, "w") as output:
        for _ in range(100):
            assert output.write(bytes(10_000)) > 0
    os.close(reader)


# ---- signals -------------------------------------------------------------------------------------------------------


@posix
@pytest.mark.slow
def test_a_closed_terminal_stops_a_run_as_sigterm_does(tmp_path: Path) -> None:
    run = start_with_hangup(tmp_path, signal.SIG_DFL)
    assert run.wait(100) == 129
    check_interrupted(tmp_path / "run")


@posix
@pytest.mark.slow
def test_a_run_under_nohup_ignores_the_closed_terminal(tmp_path: Path) -> None:
    run = start_with_hangup(tmp_path, signal.SIG_IGN)
    with pytest.raises(subprocess.TimeoutExpired):
        run.wait(2)
    run.terminate()
    assert run.wait(100) == 143


def start_with_hangup(folder: Path, inherited: signal.Handlers) -> "subprocess.Popen[bytes]":
    run = start(
        folder,
        *LONG,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, inherited),
    )
    assert run.stdout
    read_until(run.stdout, b"epoch ")
    run.stdout.close()
    run.send_signal(signal.SIGHUP)
    return run


# ---- other front ends ----------------------------------------------------------------------------------------------


def test_a_run_in_a_thread_leaves_signals_to_the_main_thread(run: Callable[..., Run]) -> None:
    """As Streamlit, Ray and the agent of W&B train."""
    before, done = signal.getsignal(signal.SIGTERM), list[Run]()

    def work() -> None:
        set_signal_handler(raise_on_signal)
        with raising_signals():
            done.append(run("trainer.max_epochs=1"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done[0].result["status"] == "completed"
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.slow
def test_the_matplotlib_backend_of_a_notebook_is_not_used(command: Command, tmp_path: Path) -> None:
    backend = {"MPLBACKEND": "module://matplotlib_inline.no_such_backend"}
    done = command(*TINY, "trainer.max_epochs=1", **backend)
    assert done.code == 0, done.output
    report = [sys.executable, "-m", "mnist_lit", "report", str(tmp_path / "outputs"), "--html", "page.html"]
    subprocess.run(report, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(PROJECT)} | backend, check=True)
    assert (tmp_path / "page.html").stat().st_size > 1000


# ---- the end of a program ------------------------------------------------------------------------------------------


PROGRAM = """
import sys
from mnist_lit import process
class Module:
    def __del__(self): print("taken apart")
module = Module()
process.exit_quickly()
"""


def run_program(folder: Path, **variables: str) -> str:
    path = os.pathsep.join([str(folder), str(PROJECT)])
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"PYTHONPATH": path} | variables,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    ).stdout


def test_a_quick_exit_runs_what_the_environment_has_registered(tmp_path: Path) -> None:
    """Coverage and profilers that are started by a .pth file or sitecustomize."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit; atexit.register(print, 'coverage is written')", encoding="utf-8"
    )
    assert "coverage is written" in run_program(tmp_path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libraries are preloaded in another way")
def test_a_library_in_the_process_sees_its_normal_end(tmp_path: Path) -> None:
    """gperftools and Nsight write their profile then."""
    assert "taken apart" in run_program(tmp_path, LD_PRELOAD="libm.so.6")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no cpusets")
def test_a_job_with_one_core_of_the_machine_counts_one() -> None:
    program = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    program += "from mnist_lit.process import usable_cores; print(usable_cores())"
    counted = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, encoding="utf-8", check=True)
    assert counted.stdout == "1\n"
    assert usable_cores() == len(os.sched_getaffinity(0))


def test_a_container_with_two_cores_of_the_machine_counts_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # joblib takes the least of this, the affinity and the cgroup's limit
    assert usable_cores() == 1


def test_a_garbage_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with importing():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()
