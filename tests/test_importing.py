"""What a process is told before torch is imported."""

import os
import subprocess
import sys

import pytest

PAGES_TAKEN = """
import resource
from mnist_lit.importing import importing
with importing():
    import torch

def steps():
    for _ in range(20):
        several = [torch.zeros(2**20) for _ in range(4)]

steps()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
steps()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_taken_again(**environment: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PAGES_TAKEN], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="malloc is set up on Linux")
def test_a_step_gets_the_memory_that_the_step_before_it_freed() -> None:
    assert pages_taken_again() < 100
    assert pages_taken_again(MALLOC_MMAP_THRESHOLD_="131072") > 10_000  # who sets malloc up himself is left alone
