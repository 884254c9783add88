"""Files that are whole or not there: a kill or a full disk at any moment leaves the old file or the new one."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFTOVER = re.compile(r"\..+(\.(ckpt|json|csv|npz|yaml)|tfevents\..+)\.[a-z0-9_]{8}")


@contextmanager
def whole_file(path: Path) -> Iterator["tempfile._TemporaryFileWrapper[bytes]"]:
    """A stream whose content appears under `path` at the end of the block, once it is on the disk; not at all if the
    block fails. It is written beside `path`, so that the renaming never crosses a file system."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            os.chmod(stream.name, 0o644)
            os.replace(stream.name, path)
        except BaseException:
            with suppress(FileNotFoundError):  # the signal came just after the renaming
                os.unlink(stream.name)
            raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as stream:
        stream.write(text.encode())


def remove_leftovers(folder: Path) -> None:
    """What a killed process was writing when it died; only for who knows that nobody is writing there now."""
    for leftover in folder.glob(".*.*"):
        if LEFTOVER.fullmatch(leftover.name):
            leftover.unlink(missing_ok=True)  # one of several ranks is the first


def _sync_folder(folder: Path) -> None:
    """Until its folder is on the disk too, a renaming can be lost with the power."""
    if os.name == "nt":  # where folders cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
