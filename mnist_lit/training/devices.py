"""How a run uses the machine: the device, processes, mini-batches per call, threads.

The last two depend on the network and the machine alone, so that equal runs compute alike.
"""

import functools
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.flop_counter import FlopCounterMode

from mnist_lit import process
from mnist_lit.commands import name_program
from mnist_lit.console import plural
from mnist_lit.errors import UserError
from mnist_lit.isolation import restoring_threads
from mnist_lit.models import DigitClassifier
from mnist_lit.models.layers import keeping_modes

BF16_GAIN = 1.5  # bf16-mixed also converts numbers: it needs matrix products that are this much faster than in 32 bits


def check_accelerator(accelerator: str, devices: int, precision: str) -> None:
    """Raises UserError if this machine has no such accelerator, too few of them, or none that computes in
    `precision`; or if a launcher has started several processes, each of which would start `devices` more."""
    if devices > 1 and (launcher := _find_launcher()):
        raise UserError(
            f"trainer.devices={devices}: starts its own processes, and {launcher} has already started some. "
            f"Leave {launcher} out: {name_program('python train.py')} trainer.devices={devices}"
        )
    if precision == "16-mixed" and not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        raise UserError(
            f"trainer.precision=16-mixed: needs a GPU, and torch {torch.__version__} finds none. "
            "Legal here: 32-true or bf16-mixed"
        )
    if accelerator == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"trainer.accelerator=mps: torch {torch.__version__} finds no Apple GPU. {_legal_choices()}")
    kind = device_type(accelerator)
    found = {"cuda": torch.cuda.device_count(), "mps": 1}.get(kind, 0)
    if (accelerator == "gpu" or kind != "cpu") and found < devices:
        raise UserError(
            f"trainer.accelerator={accelerator} trainer.devices={devices}: torch {torch.__version__} finds "
            f"{plural(found, 'GPU')}. {_legal_choices()}; several processes on the CPU with trainer.accelerator=cpu"
        )


def _legal_choices() -> str:
    return "Legal here: trainer=auto or trainer=cpu" + (" or trainer=gpu" if torch.cuda.is_available() else "")


def _find_launcher() -> str | None:
    """The program that has started this process as one of several."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun"
    sizes = {"srun": "SLURM_STEP_NUM_TASKS", "mpirun": "OMPI_COMM_WORLD_SIZE", "mpiexec": "PMI_SIZE"}
    return next((name for name, variable in sizes.items() if os.environ.get(variable, "1") not in ("", "1")), None)


class OneProcess(LightningEnvironment):
    """A run in one process. Lightning itself would take part in the job of any launcher that has set its variables
    (`SLURM_NTASKS`, `RANK`, `LOCAL_RANK`), even if this process only runs inside it."""

    @property
    def creates_processes_externally(self) -> bool:
        return False

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return 0

    def teardown(self) -> None:
        """Lightning's own deletes `WORLD_SIZE`."""


def cluster_environment() -> ClusterEnvironment:
    # Lightning has read it from the same variables.
    rank_zero_only.rank = process.rank or 0  # type: ignore[attr-defined]
    return OneProcess() if process.rank is None else TorchElasticEnvironment()


def device_name(device: torch.device) -> str:
    """For example `cuda (NVIDIA H200)` or `cpu (AMD EPYC, 2 threads)`."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"{device.type} ({_processor_name()}, {plural(threads, 'thread')})"


def explain_device(accelerator: str, device: torch.device) -> str:
    """Why the run uses this device."""
    if accelerator != "auto":
        return f"trainer.accelerator={accelerator}"
    return "found by torch" if device.type != "cpu" else f"torch {torch.__version__} finds no GPU"


class MixedTraining(MixedPrecision):
    """Mixed precision in training alone. Validation, test and prediction compute in 32 bits, so that the accuracy of a
    run is the accuracy of what it exports."""

    @contextmanager
    def val_step_context(self) -> Iterator[None]:
        yield

    test_step_context = predict_step_context = val_step_context


def precision_plugins(precision: str, accelerator: str) -> list[Precision]:
    """For Lightning's Trainer. Empty for 32-true."""
    return [] if precision == "32-true" else [MixedTraining(precision, device_type(accelerator))]  # type: ignore[arg-type]


def device_type(accelerator: str) -> str:
    """cuda, mps or cpu."""
    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return "cuda"
    return "mps" if accelerator != "cpu" and torch.backends.mps.is_available() else "cpu"


def choose_precision(chosen: str, accelerator: str, model: DigitClassifier) -> str:
    """`auto` becomes bf16-mixed where the network gains by it and the device is faster with bf16 numbers."""
    if chosen != "auto":
        return chosen
    return "bf16-mixed" if has_convolutions(model) and is_faster_in_bf16(accelerator) else "32-true"


def explain_precision(chosen: str, used: str, accelerator: str, model: DigitClassifier, *, resumed: bool) -> str:
    """The precision, why `auto` has chosen it, and if `auto` would be faster. A resumed run cannot change it."""
    best = choose_precision("auto", accelerator, model)
    if chosen == "32-true" and best != chosen and not resumed:
        return f"{used} (trainer.precision=auto is faster here: {best})"
    if chosen != "auto":
        return used
    if used != best:
        return f"{used} (chosen by auto when the run began)"
    if not has_convolutions(model):
        return f"{used} (auto: only a network with convolutions gains by bf16)"
    return f"{used} (auto: this device is {'faster' if used == 'bf16-mixed' else 'not faster'} with bf16 numbers)"


def has_convolutions(model: DigitClassifier) -> bool:
    counts = _count_flops(model).get_flop_counts().get("Global", {})  # empty without a product of matrices
    return any("convolution" in str(operation) for operation in counts)


def is_faster_in_bf16(accelerator: str) -> bool:
    """True for an Nvidia GPU since Ampere, and for a CPU that has AVX-512 BF16 or AMX and gains by it. A CPU can have
    the instructions and be slower: on some virtual machines, AMX is switched off and AVX-512 BF16 is slow."""
    match device_type(accelerator):
        case "cuda":
            return torch.cuda.get_device_capability() >= (8, 0)
        case "cpu":
            flags = dict.fromkeys(_read_cpuinfo("flags").split(), True)  # for a torch without get_capabilities
            found: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", lambda: flags)()
            has_instructions = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
            return has_instructions and measure_bf16_gain() >= BF16_GAIN
    return False


@functools.cache
def measure_bf16_gain() -> float:
    """How much faster the CPU multiplies matrices in bf16 than in 32 bits: 0.5 to 7 on processors with instructions for
    it. One thread and the shortest of several times make it nearly the same on a busy machine. Takes about 25 ms."""
    with restoring_threads():
        torch.set_num_threads(1)
        return _shortest_product(torch.float32) / _shortest_product(torch.bfloat16)


def _shortest_product(dtype: torch.dtype) -> float:
    matrix, seconds = torch.ones(512, 512, dtype=dtype), []
    for _ in range(8):
        started = time.perf_counter()
        torch.mm(matrix, matrix)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _processor_name() -> str:
    return _read_cpuinfo("model name") or platform.processor() or platform.machine()


def _read_cpuinfo(name: str) -> str:
    """A value of Linux's /proc/cpuinfo; empty if there is none."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(name))
    except (OSError, StopIteration):
        return ""


def auto_steps_per_execution(model: DigitClassifier, batch_size: int, accelerated: bool = False) -> int:
    """The number of mini-batches for which a call takes about 0.1 s on two cores or on a GPU; at most 100.

    It is computed from the network's size and not measured, so that equal runs cut the epoch alike.
    """
    operations_per_second = 4e12 if accelerated else 160e9
    seconds_per_step = 0.0002 + flops_per_step(model, batch_size) / operations_per_second
    return max(1, min(100, round(0.1 / seconds_per_step)))


def useful_threads(model: DigitClassifier, batch_size: int) -> int:
    """One of torch's threads for each 15 million operations of a step, and at least one. With less work, threads wait
    for each other longer than they work."""
    return max(1, min(torch.get_num_threads(), int(flops_per_step(model, batch_size) / 15e6)))


def flops_per_step(model: DigitClassifier, batch_size: int) -> float:
    """The forward pass, and twice that for the backward pass."""
    return float(3 * _count_flops(model).get_total_flops() * batch_size)


def _count_flops(model: DigitClassifier) -> FlopCounterMode:
    with FlopCounterMode(display=False) as counter, torch.no_grad(), keeping_modes(model):
        model.eval()  # draws nothing for dropout; batch norm takes a batch of one
        model.network(model.example_input_array)
    return counter
