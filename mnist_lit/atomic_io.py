"""Writes files so that they stay complete after a kill, on a full disk or on a file system with few functions; and file
locks. Imports no torch."""

import atexit
import errno
import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import FileLock, SoftFileLock

LEFTOVER = re.compile(r"\..+(\.(ckpt|json|csv|npz|png|yaml)|tfevents\..+)\.[a-z0-9_]{8}")
# The answers of file systems that cannot do it: network folders, FUSE, shared folders of virtual machines.
REFUSALS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EPERM, errno.ENOLCK)
FULL = (errno.ENOSPC, errno.EDQUOT)

log = logging.getLogger(__name__)
_warned: set[str] = set()


@contextmanager
def atomic_file(path: Path, previous: Path | None = None) -> Iterator[IO[bytes]]:
    """A stream whose content replaces `path` at the end of the block, when it is on the disk. If the block fails,
    `path` stays as it was. The new file is written beside `path`, so the renaming never crosses a file system.

    The old file becomes `previous`, if that is given.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with unfinished.open("xb") as stream:
            yield stream
            stream.flush()
            _sync_file(stream)
        # Windows renames no open file, so the stream is closed here.
        if previous and path.exists():
            os.replace(path, previous)
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):  # a signal came right after the renaming, or the disk is gone
            unfinished.unlink()
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    with atomic_file(path) as stream:
        stream.write(text.encode())


def remove_leftovers(folder: Path) -> None:
    """Delete the unfinished files of a killed process. Call it only when no process writes to the folder."""
    for leftover in folder.glob(".*.*"):
        if LEFTOVER.fullmatch(leftover.name):
            leftover.unlink(missing_ok=True)  # another rank may be faster


def lock_file(path: Path, timeout: float = 0) -> AbstractContextManager[object]:
    """Lock until the `with` block ends or the process dies. One process may lock the same file several times.

    A file system without locks gets a soft lock: a file that exists while the lock is held, and that names the process
    and the computer.

    Raises:
        filelock.Timeout: if another process holds the lock for longer than `timeout` seconds. Negative: no limit.
        OSError: if the file cannot be written.
    """
    lock: FileLock | SoftFileLock = FileLock(path, timeout=timeout, is_singleton=True, fallback_to_soft=False)
    try:
        held = lock.acquire()
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in REFUSALS:  # Timeout has no errno
            raise
        lock = SoftFileLock(soft_lock_path(path), timeout=timeout, is_singleton=True)
        held = lock.acquire()
        atexit.unregister(lock.release)
        atexit.register(lock.release, force=True)  # the system does not do it when the process ends
        warn_once(
            f"The file system of {path.parent} has no locks. If this computer fails, another one cannot use the folder "
            f"until you delete {lock.lock_file}",
            topic="locks",
        )
    return held


def soft_lock_path(path: Path) -> Path:
    return path.with_name(f"{path.name}_soft")


def lock_holder(path: Path) -> str | None:
    """The process that holds the soft lock beside or at `path`; None if there is none."""
    for soft in (soft_lock_path(path), path):
        with suppress(OSError, ValueError):
            process, computer, *_ = soft.read_text(encoding="utf-8").split()
            return f"process {int(process)} on {computer}. If it no longer runs, delete {soft}"
    return None


def warn_once(text: str, topic: str) -> None:
    """One warning for each topic in a process."""
    if topic not in _warned:
        _warned.add(topic)
        log.warning(text)


def _sync_file(stream: IO[bytes]) -> None:
    try:
        os.fsync(stream.fileno())
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        _warn_of_power_failure(Path(stream.name).parent, error)


def _sync_folder(folder: Path) -> None:
    """Without this, a power failure can undo the renaming. The file itself is safe by now, so an error that says
    nothing about the space on the disk does not end a run."""
    if os.name == "nt":  # Windows cannot open folders
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in FULL:
            raise
        _warn_of_power_failure(folder, error)


def _warn_of_power_failure(folder: Path, error: OSError) -> None:
    warn_once(
        f"The file system of {folder} does not confirm that files are on the disk ({error.strerror or error}). "
        "A power failure can lose the newest ones",
        topic="power failure",
    )
