"""The checks of `mnist-lit doctor`."""

import platform
import shutil
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mnist_lit import CHECKOUT
from mnist_lit.console import plural
from mnist_lit.data.files import FileSet, find_faults
from mnist_lit.process import usable_cores
from mnist_lit.run_folder import PACKAGES

BAD_LIGHTNING = ("2.6.2", "2.6.3")


@dataclass(frozen=True)
class Finding:
    """`remedy` says how to repair a problem; None means that there is none."""

    what: str
    found: str
    remedy: str | None = None


def check_installation(root: Path) -> list[Finding]:
    packages = [_check_package(name) for name in PACKAGES]
    if not any(
        finding.remedy for finding in packages
    ):  # what is missing cannot be imported, and a bad release must not
        packages.append(_check_torch())
    devices = [] if any(finding.remedy for finding in packages) else _list_devices()
    return [_check_python(), *packages, *devices, _check_data(root), _check_disk()]


def _check_python() -> Finding:
    old = sys.version_info < (3, 11)
    return Finding("python", platform.python_version(), "install Python 3.11 or newer" if old else None)


def _check_package(name: str) -> Finding:
    try:
        found = version(name)
    except PackageNotFoundError:
        return Finding(name, "not installed", f"pip install {'-e .' if CHECKOUT else 'mnist-lit'}")
    if name == "lightning" and found in BAD_LIGHTNING:
        return Finding(name, f"{found}, a malicious release", "pip install --upgrade lightning; change your passwords")
    return Finding(name, found)


def _check_torch() -> Finding:
    try:
        import torch
        import torchvision
    except Exception as error:
        return Finding(
            "torch with torchvision",
            f"{type(error).__name__}: {error}",
            "their versions may not match: pip install --upgrade --force-reinstall torch torchvision",
        )
    return Finding("torch with torchvision", f"{torch.__version__} works with {torchvision.__version__}")


def _list_devices() -> list[Finding]:
    import torch

    from mnist_lit.training.devices import device_name

    findings = [Finding("cpu", f"{device_name(torch.device('cpu'))}; {usable_cores()} cores")]
    if torch.cuda.is_available():
        gpus = range(torch.cuda.device_count())
        findings += [Finding(f"gpu {index}", torch.cuda.get_device_name(index)) for index in gpus]
    elif found := torch.cuda.device_count():  # the driver answers, and torch cannot work with it
        unusable = f"torch {torch.__version__} cannot use {plural(found, 'GPU')}"
        findings.append(Finding("gpu", unusable, "update the GPU's driver, or install a torch for this driver"))
    if torch.backends.mps.is_available():
        findings.append(Finding("gpu", "Apple (mps)"))
    if len(findings) == 1:
        findings.append(Finding("gpu", "none: runs use the CPU"))
    return findings


def _check_data(root: Path) -> Finding:
    files = FileSet(root=root)
    wrong = find_faults(files)
    if not wrong:
        return Finding("MNIST", f"{files.path}: four files, checksums right")
    found = "; ".join(f"{name}: {fault}" for name, fault in wrong.items())
    try:
        from mnist_lit.commands import fetch_command  # imports Hydra, which may be missing
    except ImportError:
        return Finding("MNIST", f"{files.path}: {found}", "install the packages first")
    return Finding("MNIST", f"{files.path}: {found}", fetch_command("mnist", root))


def _check_disk() -> Finding:
    free = shutil.disk_usage(".").free / 1e9
    return Finding("free disk space", f"{free:.1f} GB", "delete files: a run needs about 30 MB" if free < 0.5 else None)
