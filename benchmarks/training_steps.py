"""Measures training steps: the floating-point rate, and the time of a block of steps."""

import statistics
import time

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.baselines import time_steps_only
from benchmarks.measurement import Row, compute_ratio
from benchmarks.runner import DEFAULTS, run_training
from mnist_lit.build import build_model
from mnist_lit.isolation import restoring_threads
from mnist_lit.training.devices import auto_steps_per_execution
from tests.configs import compose_config

BLOCKS = (("mlp_4x64", 15), ("mlp_4x64", 64), ("mlp_500", 100), ("mlp_500", 4096), ("cnn", 64), ("cnn", 1024),
          ("fast_cnn", 128), ("convnet", 128))  # fmt: skip
DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}  # precision → numbers that are multiplied


def measure_flops(rounds: int, quick: bool) -> list[Row]:
    """CNN training: rate relative to matrix multiplication, in both precisions, with all threads and with one."""
    what = "fraction of this machine's matrix-multiplication rate"
    rows = [
        row for precision in DTYPES for row in compare_rates(rounds, f"cnn, batch 64, {precision}", what, precision, 40)
    ]
    with restoring_threads():
        torch.set_num_threads(1)
        what = "fraction of the matrix-multiplication rate of one thread"
        return rows + compare_rates(rounds, "cnn, batch 64, one thread", what, "32-true", None)


def compare_rates(rounds: int, name: str, what: str, precision: str, goal: float | None) -> list[Row]:
    """Compare a run with matrix multiplication, and its optimizer steps alone."""
    per_sample = count_flops_per_sample()
    overrides = [*DEFAULTS, "model=cnn", "data.batch_size=64", "trainer.max_epochs=1", f"trainer.precision={precision}"]
    runs, steps, machine = [], [], []
    for _ in range(rounds):
        machine.append(measure_matrix_product_rate(DTYPES[precision]))
        result = run_training(*overrides)
        runs.append(result["train_samples_per_second"] * per_sample)
        steps.append(result["data"]["train_size"] * per_sample / time_steps_only(*overrides))
    reason = (
        "the matrices of 64 samples are thin: each multiplication reads the 4 MB of weights of the linear "
        "layer, and each Adam step reads and writes these weights and two more arrays of the same size. The two "
        "threads share the memory bandwidth"
    )
    flops = f"{per_sample / 1e6:.1f} MFLOP per sample, "
    limit = f"upper limit for {name}: the same optimizer steps on one batch, without other work"
    return [
        compute_share(f"{name}: {what}", runs, machine, goal, flops, reason),
        compute_share(limit, steps, machine),
    ]


def compute_share(
    what: str, rates: list[float], machine: list[float], goal: float | None = None, flops: str = "", reason: str = ""
) -> Row:
    rate, of_machine = statistics.median(rates) / 1e9, statistics.median(machine) / 1e9
    detail = f"{flops}{rate:.0f} of {of_machine:.0f} GFLOP/s"
    return Row(what, 100 * compute_ratio(rates, machine), goal, at_most=False, unit="%", detail=detail, reason=reason)


def count_flops_per_sample() -> float:
    """Count the operations of a forward and a backward pass."""
    model = build_model(compose_config("model=cnn"), steps_per_epoch=1)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(torch.zeros(64, 1, 28, 28)), torch.zeros(64, dtype=torch.long)).backward()
    return float(counter.get_total_flops() / 64)


def measure_matrix_product_rate(dtype: torch.dtype) -> float:
    """Return the FLOP/s of torch.mm with 2048 × 2048 matrices, the median of 10 measurements."""
    a, b = torch.randn(2048, 2048, dtype=dtype), torch.randn(2048, 2048, dtype=dtype)
    torch.mm(a, b)
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - started)
    return 2 * 2048**3 / statistics.median(seconds)


def measure_blocks(rounds: int, quick: bool) -> list[Row]:
    """`steps_per_execution=auto`: time of a block of steps."""
    rows = []
    for name, batch_size in BLOCKS[: 1 if quick else None]:
        overrides = [*DEFAULTS, f"model={name}", f"data.batch_size={batch_size}", "trainer.max_epochs=1"]
        steps = auto_steps_per_execution(build_model(compose_config(*overrides), 1), batch_size)
        results = [run_training(*overrides, "data.val_size=40000", "callbacks=none") for _ in range(rounds)]
        seconds = [steps * batch_size / result["train_samples_per_second"] for result in results]
        estimate = "the number of steps comes from the network size, for two cores without other work"
        rows.append(
            Row(
                f"`steps_per_execution=auto`, {name}, batch {batch_size}: time of a block of {steps} steps",
                statistics.median(seconds),
                0.2,
                unit="s",
                detail=f"{min(seconds):.3f} to {max(seconds):.3f} s",
                reason="a single step takes this time" if steps == 1 else estimate,
            )
        )
    return rows
