"""Settings of a process before it imports torch."""

import os
import subprocess
import sys

import pytest

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
print(min(faults() for _ in range(3)))  # the heap may still grow once
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
