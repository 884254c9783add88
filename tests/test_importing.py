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

steps()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
steps()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
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
    by_the_user = count_page_faults(MALLOC_MMAP_THRESHOLD_="131072")
    assert by_the_user > 10_000, "the user's own settings are kept"
    assert count_page_faults() < by_the_user / 20  # the heap may grow once more, by the 1024 pages of one tensor
