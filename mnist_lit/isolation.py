"""What a run sets for its process, and gives back to the caller: a notebook goes on with its own settings."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch

SEED_VARIABLES = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")  # Lightning's seed_everything sets them
NumpyState = tuple[str, np.ndarray, int, int, float]


@contextmanager
def isolated_run() -> Iterator[None]:
    """All of the below. Enter it before the process computes: a thread of torch has the setting for denormals of the
    thread that starts it."""
    with float32_on_cpu(), restoring_threads(), restoring_random_numbers(), flushing_denormals():
        yield


@contextmanager
def restoring_threads() -> Iterator[None]:
    """Give the next run in this process all threads again."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def flushing_denormals() -> Iterator[None]:
    """Denormals, the numbers below 1.2e-38, become 0 inside the block.

    Some processors are slow with denormals, and Adam makes many of them. A ReLU that gives 0 for every image has
    gradients of 0. Then Adam's mean of these gradients becomes smaller at each step. It ends as a denormal, not as 0.
    """
    smallest = torch.tensor(torch.finfo(torch.float32).tiny)
    was_flushing = bool(smallest / 2 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_flushing)


@contextmanager
def float32_on_cpu() -> Iterator[None]:
    """New tensors are float32 and on the CPU, and torch computes gradients, whatever the caller has set."""
    dtype, device, grad = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    is_cpu = device.type == "cpu"  # to set the CPU as a default makes each call of torch slower
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    if not is_cpu:
        torch.set_default_device(None)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        if not is_cpu:
            torch.set_default_device(device)


@contextmanager
def restoring_random_numbers() -> Iterator[None]:
    """The caller's random numbers go on as if there had been no run. Else each run would set them to its own seed, and
    a loop that draws a learning rate for each run would draw the same one again and again."""
    state = random_state(cuda=torch.cuda.is_initialized())
    variables = {name: os.environ.get(name) for name in SEED_VARIABLES}
    try:
        yield
    finally:
        set_random_state(state)
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def random_state(cuda: bool) -> dict[str, Any]:
    """The states of the generators of torch, NumPy and Python, as tensors and plain values."""
    _, words, position, has_gauss, gauss = cast(NumpyState, np.random.get_state(legacy=True))
    version, integers, normal = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if cuda else None,
        "numpy": [torch.from_numpy(words.astype(np.int64)), position, has_gauss, gauss],
        "python": [version, torch.tensor(integers), normal],
    }


def set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])  # for this rank's device; all ranks draw alike
    words, position, has_gauss, gauss = state["numpy"]
    np.random.set_state(("MT19937", words.numpy().astype(np.uint32), position, has_gauss, gauss))
    version, integers, normal = state["python"]
    random.setstate((version, tuple(integers.tolist()), normal))
