"""File systems that refuse what a local disk can do, and Windows, where an open file cannot be renamed."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnist_lit import atomic_io
from mnist_lit.atomic_io import atomic_file, lock_file, write_text
from mnist_lit.errors import UserError
from mnist_lit.run_folder import lock_folder
from tests.configs import PROJECT
from tests.conftest import TINY, Outcome
from tests.selection import slow_except

Command = Callable[..., Outcome]
Refuse = Callable[[str, int], None]


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Refuse:
    """Makes one operation fail with this error number from now on."""
    monkeypatch.setattr(atomic_io, "_warned", set())

    def start(operation: str, number: int) -> None:
        def fail(*arguments: Any, **options: Any) -> None:
            raise OSError(number, os.strerror(number))

        real_open, real_fsync = os.open, os.fsync

        def fsync(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode) == (operation == "fsync of a folder"):
                fail()
            real_fsync(descriptor)

        def open_(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            return fail() if os.path.isdir(path) else real_open(path, flags, *arguments, **options)  # type: ignore[return-value]

        match operation:
            case "chmod":
                monkeypatch.setattr(os, "chmod", fail)
                monkeypatch.setattr(os, "fchmod", fail)
            case "locks":
                monkeypatch.setattr(fcntl, "flock", fail)
            case "open a folder":
                monkeypatch.setattr(os, "open", open_)
            case _:
                monkeypatch.setattr(os, "fsync", fsync)

    return start


SYNC, LOCKS = "does not confirm that files are on the disk", "has no locks"
REFUSALS = [
    *(("chmod", number, None) for number in (errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP)),
    *(("fsync of a folder", number, SYNC) for number in (errno.EINVAL, errno.EIO, errno.EOPNOTSUPP)),
    *(("fsync of a file", number, SYNC) for number in (errno.EINVAL, errno.ENOSYS)),
    ("open a folder", errno.EACCES, SYNC),
    *(("locks", number, LOCKS) for number in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)),
]


@pytest.mark.parametrize(("operation", "number", "warning"), REFUSALS)
def test_files_and_locks_work_where_the_file_system_refuses(
    operation: str, number: int, warning: str | None, refuse: Refuse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(operation, number)
    for text in ("first", "second"):
        with lock_file(tmp_path / ".lock"), lock_file(tmp_path / ".lock"):
            write_text(tmp_path / "file.json", text)
    assert (tmp_path / "file.json").read_text(encoding="utf-8") == "second"
    assert {path.name for path in tmp_path.iterdir()} <= {"file.json", ".lock"}
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == (warning is not None)
    assert all(warning in text for text in warnings if warning)


@pytest.mark.parametrize(
    "operation", slow_except(["chmod", "fsync of a folder", "fsync of a file", "open a folder", "locks"], "locks")
)
def test_a_run_completes_where_the_file_system_refuses(
    operation: str, refuse: Refuse, script: Command, tmp_path: Path
) -> None:
    refuse(operation, errno.EOPNOTSUPP)
    done = script(*TINY, "callbacks=none", "scheduler=none", "trainer.max_epochs=1", "hydra.run.dir=run")
    assert done.code == 0, done.output
    again = script("resume=run", "trainer.max_epochs=2")
    assert again.code == 0, again.output
    output = done.output + again.output
    assert "Traceback" not in output
    assert output.count(SYNC) + output.count(LOCKS) == (operation != "chmod")


def test_an_error_of_the_disk_itself_is_not_hidden(refuse: Refuse, tmp_path: Path) -> None:
    write_text(tmp_path / "file.json", "old")
    refuse("fsync of a file", errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        write_text(tmp_path / "file.json", "new")
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [("file.json", "old")]


def test_files_have_the_rights_that_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        write_text(tmp_path / "file.json", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.json").stat().st_mode) == 0o664


def test_a_soft_lock_of_another_computer_is_an_error_that_names_it(refuse: Refuse, tmp_path: Path) -> None:
    refuse("locks", errno.ENOLCK)
    (tmp_path / ".lock_soft").write_text("4711\nnode-7\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"in use .*process 4711 on node-7.*delete .*\.lock_soft"):
        lock_folder(tmp_path)
    (tmp_path / ".lock_soft").unlink()
    with lock_folder(tmp_path):
        pass


NO_LOCKS = """
import errno, fcntl, os, sys
from pathlib import Path
def flock(*_): raise OSError(errno.ENOLCK, "No locks available")
fcntl.flock = flock
from mnist_lit import process
from mnist_lit.run_folder import lock_folder
lock = lock_folder(Path(sys.argv[1]))
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
process.exit_quickly()
"""


@pytest.mark.parametrize("end", ["quickly", "killed"])
def test_a_soft_lock_ends_with_its_process(end: str, refuse: Refuse, tmp_path: Path) -> None:
    """A quick exit removes it. After `kill -9` the next process on this computer sees that its owner is gone."""
    done = subprocess.run(
        [sys.executable, "-c", NO_LOCKS, tmp_path, end], capture_output=True, encoding="utf-8", cwd=PROJECT
    )
    assert "has no locks" in done.stderr
    assert (tmp_path / ".lock_soft").exists() == (end == "killed")
    refuse("locks", errno.ENOLCK)
    with lock_folder(tmp_path):
        pass


@pytest.fixture
def windows_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, a file that is open in this process can be neither renamed, replaced nor deleted."""

    def is_open(path: Any) -> bool:
        wanted = os.path.realpath(path)
        for descriptor in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{descriptor}") == wanted:
                    return True
            except OSError:
                continue
        return False

    def guard(name: str) -> None:
        real = getattr(os, name)

        def checked(*paths: Any, **options: Any) -> None:
            if name == "rename" and os.path.exists(paths[1]):
                raise FileExistsError(errno.EEXIST, "[WinError 183] the file exists already", str(paths[1]))
            if any(is_open(path) for path in paths):
                raise PermissionError(errno.EACCES, "[WinError 32] used by another process", str(paths[0]))
            real(*paths, **options)

        monkeypatch.setattr(os, name, checked)

    for name in ("replace", "rename", "unlink", "remove"):
        guard(name)


@pytest.mark.slow
@pytest.mark.usefixtures("windows_files")
def test_no_open_file_is_renamed_or_deleted(script: Command, tmp_path: Path) -> None:
    done = script(*TINY, "scheduler=none", "trainer.max_epochs=1", "hydra.run.dir=run")
    assert done.code == 0, done.output
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    for _ in range(2):  # a second damaged checkpoint meets the first one's name
        last.write_bytes(last.read_bytes()[:-1])
        again = script("resume=run", "trainer.max_epochs=2")
        assert again.code == 0, again.output
        (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "file.json"):
        raise ZeroDivisionError
    assert not list(tmp_path.glob(".*"))
