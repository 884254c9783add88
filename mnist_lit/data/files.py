"""The four files of a data set in MNIST's format: found, downloaded, verified, unpacked. Needs no torch, except to ask
torchvision for MNIST's mirrors."""

import gzip
import hashlib
import http.client
import json
import os
import shutil
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from filelock import Timeout
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from mnist_lit.atomic_io import atomic_file, lock_file, write_text
from mnist_lit.console import print_line
from mnist_lit.data.idx import check_idx_file
from mnist_lit.errors import UserError

TIMEOUT = 10  # seconds without a byte until the next mirror is tried
WAIT = 300  # seconds for the download of another process
CHUNK = 1 << 16
BLOCK = 1 << 12
RECORD = ".mnist-lit.json"  # the MD5 of each file that this program wrote there


class DataFile(NamedTuple):
    """A file's name, the MD5 of NAME.gz and the MD5 of NAME; None where it is not known."""

    name: str
    archive_md5: str | None = None
    md5: str | None = None


MNIST_FILES = {
    "train_images": DataFile(
        "train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"
    ),
    "train_labels": DataFile(
        "train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"
    ),
    "test_images": DataFile(
        "t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"
    ),
    "test_labels": DataFile(
        "t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"
    ),
}


class DataUnavailable(UserError):
    """The files are neither in the folder nor available from any mirror. The message says where and why."""


@dataclass(frozen=True)
class FileSet:
    """Where the four files of a data set are, and where they come from. `mirrors` None means torchvision's for MNIST,
    and none for another data set."""

    name: str = "mnist"
    root: str | Path = "data"
    folder: str = "MNIST/raw"
    files: Mapping[str, DataFile] = field(default_factory=lambda: MNIST_FILES)
    mirrors: Sequence[str] | None = None

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "FileSet":
        """From the options of a data section; `files` None means MNIST's own."""
        files = {role: DataFile(**file) for role, file in (options["files"] or {}).items()} or MNIST_FILES
        return cls(options["name"], options["root"], options["folder"], files, options["mirrors"])

    @property
    def path(self) -> Path:
        """As torchvision has it, so that one download serves both."""
        return Path(self.root).expanduser() / self.folder

    def file(self, role: str) -> Path:
        """`role` is train_images, train_labels, test_images or test_labels."""
        return self.path / self.files[role].name


def recorded_root(options: Mapping[str, Any]) -> str:
    """Where the data of a finished run are: in the `root` of its data section; if they are not there, in
    MNIST_LIT_DATA."""
    elsewhere = os.environ.get("MNIST_LIT_DATA")
    return elsewhere if elsewhere and find_faults(FileSet.from_options(options)) else options["root"]


def find_faults(files: FileSet) -> dict[str, str]:
    """File name → what is wrong with it, for each of the four files that cannot be used."""
    recorded = _read_record(files.path)
    found = {file.name: _fault_of_content(files.path / file.name, file, recorded) for file in files.files.values()}
    return {name: fault for name, fault in found.items() if fault}


def ensure_files(files: FileSet) -> None:
    """Make all four unpacked files present and verified.

    Several processes may call this at once: one downloads, the others wait for it. Good files are not touched, and then
    neither a lock nor write access is needed. A file that this program did not write is never replaced.

    Raises:
        DataUnavailable: naming the folder, the files, the mirrors tried and why each failed.
        UserError: naming the files that this program did not write and would have to replace.
    """
    if faults := find_faults(files):
        check_nothing_is_lost(files, faults)
        try:
            files.path.mkdir(parents=True, exist_ok=True)
            with _waiting_for_others(files.path):
                for name, fault in find_faults(files).items():
                    file = next(file for file in files.files.values() if file.name == name)
                    _restore(files, file, fault)
        except OSError as error:
            raise DataUnavailable(
                f"{files.name} cannot be written to {files.path}: {error.strerror or error}. "
                "Choose another folder with data.root=FOLDER or the variable MNIST_LIT_DATA (mnist-lit data "
                "fetch: --root; evaluate and export: --data-root)"
            ) from error


def check_nothing_is_lost(files: FileSet, faults: Mapping[str, str]) -> None:
    """Raises UserError if a file has no read permission, or if a file that would be replaced is not in the record or is
    an archive that is not damaged."""
    recorded, foreign = _read_record(files.path), []
    for file in files.files.values():
        path, archive = files.path / file.name, files.path / f"{file.name}.gz"
        if file.name in faults:
            for found in (path, archive):
                if os.path.isfile(found) and not os.access(found, os.R_OK):
                    raise UserError(f"{found}: cannot be read; it has no read permission")
            if _holds_content(path) and path.name not in recorded and not _has_known_content(files, path):
                foreign.append(path)
            is_damaged = archive.name in recorded and _checksum(archive, unpack=True) is None
            if _holds_content(archive) and _fault(archive, file.archive_md5) and not is_damaged:
                foreign.append(archive)
    if foreign:
        raise _foreign_files(files, foreign)


def count_images(files: FileSet) -> tuple[int, int]:
    """The images for training (with validation) and for the test. Reads the headers of the four files alone.

    Raises:
        UserError: if a file is not in MNIST's format, or if images and labels do not have the same count.
    """
    counts = {role: check_idx_file(files.file(role), is_images=role.endswith("images")) for role in files.files}
    for part in ("train", "test"):
        images, labels = counts[f"{part}_images"], counts[f"{part}_labels"]
        if images != labels:
            raise UserError(f"{files.path}: there are {images:,} {part} images, but {labels:,} {part} labels")
    return counts["train_images"], counts["test_images"]


def torchvision_mirrors() -> list[str]:
    """The mirrors that torchvision itself downloads MNIST from."""
    from torchvision.datasets import MNIST

    return list(MNIST.mirrors)


def _fault_of_content(path: Path, file: DataFile, recorded: Mapping[str, str]) -> str | None:
    """A file whose MD5 is not known is compared with its archive. Where the data set names no MD5, it is trusted."""
    expected = file.md5 or (file.archive_md5 and recorded.get(file.name))
    archive = path.with_name(f"{path.name}.gz")
    if expected is None and file.archive_md5 and path.exists() and not _fault(archive, file.archive_md5):
        expected = _md5(archive, archive.stat().st_mtime_ns, unpack=True)
    return _fault(path, expected)


def _fault(path: Path, md5: str | None) -> str | None:
    try:
        status = path.stat()
        actual = _md5(path, status.st_ino, status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return error.strerror or str(error)
    return None if md5 in (actual, None) else f"wrong checksum ({path.stat().st_size:,} bytes)"


def _holds_content(path: Path) -> bool:
    """True also for a link to a file that is not there now."""
    return os.path.lexists(path) and not (path.is_file() and path.stat().st_size == 0)


def _has_known_content(files: FileSet, path: Path) -> bool:
    """True for a file of the data set under the name of another one, too."""
    known = {md5 for file in files.files.values() for md5 in (file.md5, file.archive_md5)}
    return _checksum(path) in known.union(_read_record(files.path).values()) - {None}


def _checksum(path: Path, unpack: bool = False) -> str | None:
    """None if the file cannot be read, or is no whole .gz file."""
    try:
        return _md5(path, path.stat().st_mtime_ns, unpack=unpack)
    except (OSError, EOFError, zlib.error):
        return None


def _foreign_files(files: FileSet, paths: Sequence[Path]) -> UserError:
    names = ", ".join(path.name for path in paths)
    use = "a YAML file in conf/data/ with their checksums, or with none, see docs/extending.md"
    if files.name == "mnist":
        use = f"if they are Fashion-MNIST: data=fashion_mnist data.folder={files.folder}. If not: {use}"
    return UserError(
        f"{files.path} holds files that are not {files.name}, and this program did not write them: {names}. "
        f"They stay as they are.\nTo train on them: {use}.\nTo train on {files.name}: name another folder with "
        "data.root=FOLDER or the variable MNIST_LIT_DATA, or move these files away"
    )


@cache
def _md5(path: Path, *version: int, unpack: bool = False) -> str:
    """Cached by path, inode, size and mtime. With `unpack` it is the MD5 of the content of a .gz file."""
    with gzip.open(path) if unpack else path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _restore(files: FileSet, file: DataFile, fault: str) -> None:
    archive = files.path / f"{file.name}.gz"
    path = files.path / file.name
    if _fault(archive, file.archive_md5):
        _download(files, archive, file, fault)
        _write_record(archive, _md5(archive, archive.stat().st_mtime_ns))
    checksum = _checksum(archive, unpack=True)
    if checksum is None:
        if archive.name in _read_record(files.path):
            archive.unlink()  # the next start downloads it again
        raise UserError(f"{archive}: is not a complete .gz file, so {file.name} cannot be unpacked")
    if _holds_content(path) and not _has_known_content(files, path):
        _check_damaged(files, path, archive)
    with gzip.open(archive) as packed, atomic_file(path) as unpacked:
        shutil.copyfileobj(packed, unpacked)
    _write_record(path, checksum)


def _check_damaged(files: FileSet, path: Path, archive: Path) -> None:
    """Raises UserError if no part of the file is what the archive holds: somebody has put another file there.

    If only parts of it differ, somebody may have changed them on purpose, so it is kept under another name.
    """
    with path.open("rb") as found, gzip.open(archive) as packed:
        blocks = iter(partial(found.read, BLOCK), b"")
        is_same = [block == packed.read(BLOCK)[: len(block)] for block in blocks]
    if not any(is_same):
        raise _foreign_files(files, [path])
    if not all(is_same):
        kept = path.replace(path.with_name(f"{path.name}.damaged"))
        print_line(f"{path} was damaged and is replaced. The old file is kept as {kept}")


def _waiting_for_others(folder: Path) -> AbstractContextManager[object]:
    """One process downloads, the others wait. After the limit this process downloads as well, which costs time and
    nothing else: on a file system without locks, a computer that failed leaves its lock behind."""
    try:
        return lock_file(folder / ".lock", WAIT)
    except Timeout:
        return nullcontext()


def _read_record(folder: Path) -> dict[str, str]:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write_record(path: Path, md5: str) -> None:
    write_text(path.parent / RECORD, json.dumps(_read_record(path.parent) | {path.name: md5}, indent=2) + "\n")


def _download(files: FileSet, archive: Path, file: DataFile, fault: str) -> None:
    mirrors = files.mirrors
    if mirrors is None:
        mirrors = torchvision_mirrors() if files.files is MNIST_FILES else []
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{archive.name}"
        failure = _download_from(url, archive, file.archive_md5)
        if failure is None:
            return
        failures.append(f"  {url}: {failure}")
    names = ", ".join(known.name for known in files.files.values())
    kind = UserError if _holds_content(files.path / file.name) else DataUnavailable  # no fallback for a damaged file
    raise kind(
        f"{files.name} is not in {archive.parent} and could not be downloaded.\n"
        f"{file.name}: {fault}. The folder must hold {names} (each also as .gz).\n"
        + ("Mirrors tried:\n" + "\n".join(failures) if failures else "No mirror is given (data.mirrors is empty).")
        + "\nPut the four .gz files there yourself, or name a mirror with data.mirrors=[URL] (mnist-lit data fetch: "
        "--mirrors URL)" + (" or the variable MNIST_LIT_MIRRORS" if files.name == "mnist" else "")
    )


def _download_from(url: str, archive: Path, md5: str | None) -> str | None:
    """Download one archive. Returns the reason if the mirror failed; errors of the local disk are raised."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with _open(url) as response, atomic_file(archive) as target, _progress_bar() as bar:
            size = getattr(response, "length", None)  # bytes; None if the server does not tell, or for file://
            task = bar.add_task(archive.name, total=size)
            while chunk := _read(response):
                target.write(chunk)
                digest.update(chunk)
                bar.advance(task, len(chunk))
            received, is_right = target.tell(), md5 in (None, digest.hexdigest())
            if size is not None and received < size and (md5 is None or not is_right):
                raise _MirrorFailed(f"the connection broke after {received:,} of {size:,} bytes")
            if not is_right:
                raise _MirrorFailed(f"its file is not the archive (MD5 {digest.hexdigest()}, expected {md5})")
    except _MirrorFailed as failure:
        return str(failure)
    return None


class _MirrorFailed(Exception):
    pass


def _open(url: str) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(url, timeout=TIMEOUT)
        return response
    except urllib.error.HTTPError as error:
        raise _MirrorFailed(f"HTTP {error.code} {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _MirrorFailed(str(getattr(error, "reason", "") or error) or type(error).__name__) from error


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException, zlib.error) as error:
        raise _MirrorFailed(f"the connection broke: {error or type(error).__name__}") from error


def _progress_bar() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
