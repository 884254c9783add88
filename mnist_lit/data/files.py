"""MNIST's four files: found, downloaded, verified and unpacked. Needs torch only to ask torchvision for its mirrors."""

import gzip
import hashlib
import http.client
import shutil
import urllib.error
import urllib.request
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from mnist_lit.durable import whole_file
from mnist_lit.errors import UserError

TIMEOUT = 10  # seconds without a byte before a mirror is given up
CHUNK = 1 << 16


class MNISTFile(NamedTuple):
    name: str
    archive_md5: str
    md5: str


FILES = (
    MNISTFile("train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb"),
    MNISTFile("train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624"),
    MNISTFile("t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea"),
    MNISTFile("t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637"),
)


class MNISTUnavailable(UserError):
    """MNIST is neither in the folder nor to be had from any mirror; the message says where and why."""


def raw_folder(root: str | Path) -> Path:
    """Where torchvision keeps MNIST's files below `root`, so that one download serves both."""
    return Path(root).expanduser() / "MNIST" / "raw"


def faults(root: str | Path) -> dict[str, str]:
    """File name → what is wrong with it, for each of the four unpacked files that cannot be trained on."""
    folder = raw_folder(root)
    found = {file.name: _fault(folder / file.name, file.md5) for file in FILES}
    return {name: fault for name, fault in found.items() if fault}


def ensure_mnist(root: str | Path, mirrors: Sequence[str] | None = None) -> None:
    """Make all four unpacked files present and verified below `root`.

    Several processes may call it at once: one downloads, the others wait for it. Files that are good already are
    not touched, and then neither a lock nor write access is needed.

    Raises:
        MNISTUnavailable: naming the folder, the files, the mirrors tried and why each failed.
    """
    if not faults(root):
        return
    folder = raw_folder(root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            for name, fault in faults(root).items():
                file = next(file for file in FILES if file.name == name)
                _restore(folder, file, fault, torchvision_mirrors() if mirrors is None else mirrors)
    except OSError as error:
        raise MNISTUnavailable(
            f"MNIST cannot be written to {folder}: {error.strerror or error}. "
            "Choose another folder with data.root=FOLDER or the variable MNIST_LIT_DATA"
        ) from error


def torchvision_mirrors() -> list[str]:
    """The mirrors that torchvision itself downloads from."""
    from torchvision.datasets import MNIST

    return list(MNIST.mirrors)


def _fault(path: Path, md5: str) -> str | None:
    try:
        status = path.stat()
        actual = _md5(path, status.st_ino, status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        return "missing"
    except OSError as error:
        return error.strerror or str(error)
    return None if actual == md5 else f"wrong checksum ({path.stat().st_size:,} bytes)"


@cache
def _md5(path: Path, *version: int) -> str:
    """Of a file that stays as it is it is asked for before and after each part of a run, and in each run of a sweep."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def _restore(folder: Path, file: MNISTFile, fault: str, mirrors: Sequence[str]) -> None:
    archive = folder / f"{file.name}.gz"
    if _fault(archive, file.archive_md5):
        _download(archive, file, fault, mirrors)
    with gzip.open(archive) as packed, whole_file(folder / file.name) as unpacked:
        shutil.copyfileobj(packed, unpacked)


def _download(archive: Path, file: MNISTFile, fault: str, mirrors: Sequence[str]) -> None:
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{archive.name}"
        failure = _download_from(url, archive, file.archive_md5)
        if failure is None:
            return
        failures.append(f"  {url}: {failure}")
    raise MNISTUnavailable(
        f"MNIST is not in {archive.parent} and could not be downloaded.\n"
        f"{file.name}: {fault}. The folder must hold {', '.join(f.name for f in FILES)} (each also as .gz).\n"
        + ("Mirrors tried:\n" + "\n".join(failures) if failures else "No mirror is given (data.mirrors is empty).")
        + "\nPut the four .gz files there by hand, or name a mirror: data.mirrors=[URL], or MNIST_LIT_MIRRORS"
    )


def _download_from(url: str, archive: Path, md5: str) -> str | None:
    """Fetch one archive; the reason if that failed. Errors of this machine's disk are raised, not returned."""
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with _open(url) as response, whole_file(archive) as target, _progress_bar() as bar:
            task = bar.add_task(archive.name, total=_announced(response))
            while chunk := _read(response):
                target.write(chunk)
                digest.update(chunk)
                bar.advance(task, len(chunk))
            arrived, announced = target.tell(), _announced(response)
            if digest.hexdigest() != md5 and announced is not None and arrived < announced:
                raise _MirrorFailed(f"the line broke after {arrived:,} of {announced:,} bytes")
            if digest.hexdigest() != md5:
                raise _MirrorFailed(f"what it sent is not the archive (MD5 {digest.hexdigest()}, expected {md5})")
    except _MirrorFailed as failure:
        return str(failure)
    return None


def _announced(response: http.client.HTTPResponse) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


class _MirrorFailed(Exception):
    pass


def _open(url: str) -> http.client.HTTPResponse:
    try:
        return urllib.request.urlopen(url, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        raise _MirrorFailed(f"HTTP {error.code} {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _MirrorFailed(str(getattr(error, "reason", "") or error) or type(error).__name__) from error


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException, zlib.error) as error:
        raise _MirrorFailed(f"the line broke: {error or type(error).__name__}") from error


def _progress_bar() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
