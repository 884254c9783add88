"""Settings of a process before it imports torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.configs import PROJECT

PAGE_FAULTS = """
import resource
from mnist_lit.process import importing
with importing():
    import torch

def steps():
    for _ in range(20):
        several = [torch.zeros(2**20) for _ in range(4)]

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    steps()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

steps()
print(min(faults() for _ in range(8)))  # the heap may still grow in the first ones
"""


def count_page_faults(**environment: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PAGE_FAULTS],
        env=os.environ | environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="malloc is configured only on Linux")
def test_a_step_reuses_the_memory_of_the_step_before() -> None:
    assert count_page_faults() < 100
    assert count_page_faults(MALLOC_MMAP_THRESHOLD_="131072") > 10_000  # the user's own settings are kept


SCIPY_SIGNAL = """
import sys
from mnist_lit.process import importing
with importing():
    import torchmetrics
print("scipy.signal" in sys.modules)
import scipy.signal
print(scipy.signal.find_peaks([0, 1, 0])[0].tolist(), hasattr(torchmetrics, "MeanMetric"))
"""


def test_scipys_signal_module_is_not_imported_for_torchmetrics_and_works() -> None:
    done = subprocess.run([sys.executable, "-c", SCIPY_SIGNAL], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "False\n[1] True\n"


def test_a_torchmetrics_that_needs_scipys_signal_module_gets_it(tmp_path: Path) -> None:
    (tmp_path / "torchmetrics.py").write_text("from scipy.signal import find_peaks\n", encoding="utf-8")
    command = [sys.executable, "-c", SCIPY_SIGNAL]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{PROJECT}"}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "True\n[1] False\n"
