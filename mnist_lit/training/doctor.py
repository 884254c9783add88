"""What `mnist-lit doctor` looks at."""

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mnist_lit.data.files import faults, raw_folder
from mnist_lit.training.result import PACKAGES

BAD_LIGHTNING = ("2.6.2", "2.6.3")


@dataclass(frozen=True)
class Finding:
    what: str
    found: str
    remedy: str | None = None


def examine(root: Path) -> list[Finding]:
    return [_python(), *_packages(), _imports(), *_devices(), _data(root), _disk()]


def _python() -> Finding:
    old = sys.version_info < (3, 11)
    return Finding("python", platform.python_version(), "install Python 3.11 or newer" if old else None)


def _packages() -> list[Finding]:
    return [_package(name) for name in PACKAGES]


def _package(name: str) -> Finding:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, "not installed", "pip install -e .")
    if name == "lightning" and found in BAD_LIGHTNING:
        return Finding(
            name,
            f"{found}, a malicious release",
            "pip install --upgrade lightning, and change your passwords",
        )
    return Finding(name, found)


def _imports() -> Finding:
    try:
        import torch
        import torchvision
    except Exception as error:
        return Finding(
            "torch with torchvision",
            f"{type(error).__name__}: {error}",
            "the two do not fit: pip install --upgrade --force-reinstall torch torchvision",
        )
    return Finding("torch with torchvision", f"{torch.__version__} fits {torchvision.__version__}")


def _devices() -> list[Finding]:
    import torch

    from mnist_lit.training.devices import device_name

    findings = [Finding("cpu", f"{device_name(torch.device('cpu'))} of {os.cpu_count()} cores")]
    findings += [
        Finding(f"gpu {index}", torch.cuda.get_device_name(index)) for index in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        findings.append(Finding("gpu", "Apple (mps)"))
    if len(findings) == 1:
        findings.append(Finding("gpu", "none: runs take the CPU"))
    return findings


def _data(root: Path) -> Finding:
    wrong = faults(root)
    where = str(raw_folder(root))
    if not wrong:
        return Finding("MNIST", f"{where}: four files, checksums right")
    found = "; ".join(f"{name}: {fault}" for name, fault in wrong.items())
    return Finding("MNIST", f"{where}: {found}", "mnist-lit data fetch, or let the next run download it")


def _disk() -> Finding:
    free = shutil.disk_usage(".").free / 1e9
    return Finding("free disk here", f"{free:.1f} GB", "a run takes about 30 MB; make room" if free < 0.5 else None)
