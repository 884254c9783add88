"""Which accelerators this machine has, and what to call the one in use."""

import platform

import torch

from mnist_lit.errors import UserError


def check_accelerator(accelerator: str, devices: int, precision: str) -> None:
    """Raises UserError if `trainer.accelerator` or that many of it are not there, or cannot compute in `precision`."""
    if precision == "16-mixed" and not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        raise UserError(
            f"trainer.precision=16-mixed: needs a GPU, and torch {torch.__version__} finds none. "
            "Legal here: 32-true or bf16-mixed"
        )
    if accelerator == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"trainer.accelerator=mps: torch {torch.__version__} finds no Apple GPU. {_instead()}")
    if accelerator == "gpu":
        found = torch.cuda.device_count() + int(torch.backends.mps.is_available())
        if found < devices:
            raise UserError(
                f"trainer.accelerator=gpu trainer.devices={devices}: torch {torch.__version__} finds {found} GPUs. "
                f"{_instead()}"
            )


def _instead() -> str:
    return "Legal here: trainer=auto or trainer=cpu" + (" or trainer=gpu" if torch.cuda.is_available() else "")


def device_name(device: torch.device) -> str:
    """Such as `cuda (NVIDIA H200)` or `cpu (AMD EPYC, 2 threads)`."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"{device.type} ({_processor()}, {threads} thread{'s' * (threads > 1)})"


def why_this_device(accelerator: str, device: torch.device) -> str:
    if accelerator != "auto":
        return f"trainer.accelerator={accelerator}"
    return "the accelerator that is there" if device.type != "cpu" else f"torch {torch.__version__} finds no GPU"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def remember_missing_gpu() -> None:
    """Keeps torch from asking for a GPU again and again where there is none.

    Its optimisers ask at every step, and a CUDA build answers by loading the driver's library anew: a sixth of a small
    network's step. The answer cannot change while the process lives.
    """
    if torch.cuda.device_count() == 0:
        torch.cuda._cached_device_count = 0
