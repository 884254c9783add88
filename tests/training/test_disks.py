"""Full and read-only disks: file systems in a mount namespace, or a limit on the size of a file."""

import errno
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from mnist_lit.models.checkpoint_file import load_classifier, weights_digest
from mnist_lit.run_folder import CHECKPOINTS, CONFIG, RESULT
from mnist_lit.training.run import train
from tests.configs import PROJECT, compose_config
from tests.conftest import TINY, Outcome, Run, launch

Start = Callable[..., Run]
Shell = Callable[[str], str]
TRAIN = f"{sys.executable} {PROJECT / 'train.py'}"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Runs a script in `tmp_path` and returns its output. What it mounts is visible to this script only."""
    for unshare in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        private = [*unshare, "sh", "-c", f"mount -t tmpfs tmpfs {tmp_path}"]
        if shutil.which("unshare") and subprocess.run(private, capture_output=True).returncode == 0:
            break
    else:
        pytest.skip("this system has no mount namespaces")

    def run(script: str) -> str:
        done = subprocess.run(
            [*unshare, "sh", "-c", script],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout

    return run


@pytest.mark.slow
def test_a_run_on_a_full_disk_stops_and_resumes_exactly(shell: Shell, tmp_path: Path) -> None:
    tiny = " ".join([*TINY, "scheduler=none", "callbacks=none"])
    printed = shell(f"""
        mkdir small && mount -t tmpfs -o size=20m tmpfs small
        {TRAIN} {tiny} trainer.max_epochs=1 hydra.run.dir=small/run > /dev/null; echo "planned: $?"
        cp small/run/checkpoints/last.ckpt before.ckpt
        cat /dev/zero > small/filler 2> /dev/null
        {TRAIN} resume=small/run trainer.max_epochs=3; echo "full: $?"
        cmp small/run/checkpoints/last.ckpt before.ckpt && echo "last.ckpt is untouched"
        rm small/filler
        {TRAIN} resume=small/run trainer.max_epochs=3 > /dev/null; echo "again: $?"
        cp -r small/run kept
        {TRAIN} {tiny} trainer.max_epochs=3 hydra.run.dir=whole > /dev/null
    """)
    assert "planned: 0" in printed
    assert "full: 1" in printed
    assert "cannot be written: No space left on device" in printed
    assert f"train.py resume={tmp_path}/small/run" in printed
    assert "last.ckpt is untouched" in printed
    assert "again: 0" in printed
    kept, whole = (load_classifier(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("kept", "whole"))
    assert weights_digest(kept) == weights_digest(whole)


@pytest.mark.slow
def test_a_read_only_output_folder_is_one_clear_error(shell: Shell) -> None:
    printed = shell(f"""
        mkdir frozen && mount -t tmpfs -o ro tmpfs frozen && cd frozen
        {TRAIN} {" ".join(TINY)}; echo "code: $?"
    """)
    assert "code: 1" in printed
    assert "cannot be written: Read-only file system" in printed
    assert "hydra.run.dir=FOLDER" in printed


@pytest.mark.slow
@pytest.mark.mnist
def test_data_is_read_from_a_read_only_folder(shell: Shell, mnist_root: str) -> None:
    printed = shell(f"""
        mkdir frozen && mount --bind {Path(mnist_root).absolute()} frozen && mount -o remount,bind,ro frozen
        touch frozen/x 2> /dev/null && echo "not read-only"
        {TRAIN} model=mlp_128_64 data=mnist data.root=frozen data.fallback=null data.val_size=50000 \
            trainer=cpu trainer.max_epochs=1 callbacks=none; echo "code: $?"
    """)
    assert "not read-only" not in printed
    assert "code: 0" in printed


@pytest.mark.slow
def test_a_download_into_a_read_only_folder_is_an_error_or_uses_the_fallback(shell: Shell) -> None:
    printed = shell(f"""
        mkdir frozen && mount -t tmpfs -o ro tmpfs frozen
        asked="model=mlp_128_64 data=mnist data.root=frozen/data trainer=cpu trainer.max_epochs=1 callbacks=none"
        {TRAIN} $asked data.fallback=null; echo "null: $?"; ls
        {TRAIN} $asked hydra.run.dir=run; echo "digits: $?"
    """)
    strict, lenient = printed.split("null: 1")
    assert "mnist cannot be written to frozen/data" in strict
    assert "outputs" not in lenient.split("digits: 0")[0].split("data=digits")[0]
    assert "Read-only file system" in lenient
    assert "digits: 0" in lenient


@contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_checkpoint_unchanged(run: Start) -> None:
    longer = compose_config(*TINY, "scheduler=none", "trainer.max_epochs=4")
    stopped, whole = run("scheduler=none"), run("scheduler=none", "trainer.max_epochs=4", name="whole")
    last = stopped.folder / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    with limit_file_size(500_000), pytest.raises(OSError, match="too large"):
        train(longer, stopped.folder, {}, resume=True)
    assert last.read_bytes() == before
    assert not list(last.parent.glob(".*")), "no partial file is left"
    train(longer, stopped.folder, {}, resume=True)
    assert weights_digest(load_classifier(last)) == weights_digest(
        load_classifier(whole.folder / "checkpoints" / "last.ckpt")
    )


@pytest.mark.parametrize(
    "function", ["logging.FileHandler._open", "hydra.core.utils._save_config", "mnist_lit.training.run.write_config"]
)
def test_a_full_disk_before_the_run_begins_is_one_clear_error(
    function: str, script: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """train.log, Hydra's own files, and config.yaml, without which a run cannot be resumed."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "run/FILE")

    monkeypatch.setattr(function, fail)
    done = script(*TINY, "hydra.run.dir=run")
    assert done.code == 1
    assert "Traceback" not in done.output
    assert (
        "error: run/FILE cannot be written: No space left on device. Repair the disk or free some space, then"
        in done.output
    )
    assert "resume=" not in done.output
    assert not [name for name in (CONFIG, RESULT, CHECKPOINTS) if (tmp_path / "run" / name).exists()]


def test_a_full_disk_that_lightning_reports_as_another_error_is_one_clear_error(
    script: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its TensorBoard logger raises a ValueError for any error of the writer."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", b"run/events")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", fail)
    done = script(*TINY, "callbacks=none", "hydra.run.dir=run")
    assert done.code == 1
    assert "Traceback" not in done.output
    assert "error: run/events cannot be written: No space left on device. Repair" in done.output
    assert "continue with: python" in done.output


@pytest.mark.slow
def test_a_full_disk_at_a_log_is_one_clear_error(run: Start, tmp_path: Path) -> None:
    stopped = run("scheduler=none")
    last = stopped.folder / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (1_000, 1_000))
    full = launch(tmp_path, f"resume={stopped.folder}", "trainer.max_epochs=4", preexec_fn=limit)
    printed, _ = full.communicate(timeout=100)
    assert full.returncode == 1
    assert "Traceback" not in printed, printed
    assert "cannot be written: File too large" in printed
    assert f"train.py resume={stopped.folder}" in printed
    assert last.read_bytes() == before
