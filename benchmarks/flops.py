"""How much of the machine's matrix-product rate training the CNN uses."""

import time
from statistics import median

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.product import DEFAULTS, config_of, run
from benchmarks.rounds import Row
from mnist_lit.training.build import build_model
from mnist_lit.training.run import threads_restored


def flops(rounds: int, quick: bool) -> list[Row]:
    on_all = share(rounds, "cnn, batch 64: share of this machine's matrix-product rate", 40)
    with threads_restored():
        torch.set_num_threads(1)
        return [on_all, share(rounds, "the same on one thread, against the product on one thread", None)]


def share(rounds: int, what: str, goal: float | None) -> Row:
    per_sample = flops_per_sample()
    shares, ours, machine = [], [], []
    for _ in range(rounds):
        machine.append(matrix_product_rate())
        result = run(*DEFAULTS, "model=cnn", "data.batch_size=64", "trainer.max_epochs=1")
        ours.append(result["train_samples_per_second"] * per_sample)
        shares.append(100 * ours[-1] / machine[-1])
    return Row(
        what,
        median(shares),
        goal,
        at_most=False,
        unit="%",
        detail=f"{per_sample / 1e6:.1f} MFLOP a sample, "
        f"{median(ours) / 1e9:.0f} of {median(machine) / 1e9:.0f} GFLOP/s",
        reason="64 samples make thin matrices: each product reads the linear layer's 4 MB of weights, and each step of "
        "Adam reads and writes them and two more arrays of their size. Two threads share the way to the memory",
    )


def flops_per_sample() -> float:
    """Forward and backward, counted."""
    model = build_model(config_of("model=cnn"), steps_per_epoch=1)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(torch.zeros(64, 1, 28, 28)), torch.zeros(64, dtype=torch.long)).backward()
    return float(counter.get_total_flops() / 64)


def matrix_product_rate() -> float:
    """FLOP/s of torch.mm, 2048³, the median of 10."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    torch.mm(a, b)
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - started)
    return 2 * 2048**3 / median(seconds)
