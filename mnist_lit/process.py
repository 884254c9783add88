"""The process: signals, output that nobody reads, settings that must be made before torch is imported, a quick exit."""

import atexit
import ctypes
import functools
import gc
import io
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType, ModuleType
from typing import Any

from mnist_lit import EARLIER_EXIT_FUNCTIONS

# The terminal sends SIGHUP when it is closed. Windows has no such signal.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
# They load libraries into the process that write their results when it ends normally.
INJECTED_LIBRARIES = ("LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "CUDA_INJECTION64_PATH", "NVTX_INJECTION64_PATH")
Handler = Callable[[int, FrameType | None], None]

# libgomp reads this when torch is imported. By default a thread that waits for another one spins 300,000 times. That
# costs nothing when the run has the cores for itself, but it takes the core away from other work. See also waiting.py.
SPIN_COUNT = "10000"
os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h

rank: int | None = None  # of a process that trains one run together with others; set by training/ranks.py
_exit_quickly = False


class RunInterrupted(SystemExit):
    """A signal stopped the run. If nobody catches it, the program ends with 128 + signal and without a traceback.

    It is no Exception, so that `except Exception` does not catch it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum

    def __str__(self) -> str:
        return signal.Signals(self.signum).name


def exit_on_signal(signum: int, frame: FrameType | None) -> None:
    """The handler while there is nothing to clean up. It raises nothing: OmegaConf swallows exceptions in some places,
    and an exception during the import of a C++ library aborts the process."""
    _print_signal(signum)
    os._exit(128 + signum)


def raise_on_signal(signum: int, frame: FrameType | None) -> None:
    """The handler while there is something to clean up."""
    _print_signal(signum)
    raise RunInterrupted(signum)


def set_up_program() -> None:
    """For the programs of this project. An app that imports the package keeps its own settings."""
    drop_unwritable_output()
    os.environ["MPLBACKEND"] = "agg"  # that of a notebook can be imported in its own kernel only


def set_signal_handler(handler: Handler) -> None:
    for signum in handled_signals():
        signal.signal(signum, handler)


def handled_signals() -> list[signal.Signals]:
    """The signals that stop a run. None in a thread: Python sets handlers in the main thread only. `nohup` makes a
    program ignore SIGHUP, and that stays."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return [s for s in STOP_SIGNALS if s in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(s) != signal.SIG_IGN]


@contextmanager
def stopping_with_parent() -> Iterator[None]:
    """For the work of a worker process. When the process that started the worker is gone, even after `kill -9`, the
    work gets SIGTERM, so that a run writes its checkpoint, and the worker ends."""
    _watch_parent()
    try:
        yield
    finally:
        if _parent_is_gone():
            os._exit(1)  # the worker may have more work in its queue


@functools.cache
def _watch_parent() -> None:
    def watch() -> None:
        while not _parent_is_gone():
            time.sleep(1)
        while True:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)  # for the checkpoint

    threading.Thread(target=watch, daemon=True).start()


def _parent_is_gone() -> bool:
    parent = multiprocessing.parent_process()
    return parent is not None and parent.pid != os.getppid()


def raising_signals() -> AbstractContextManager[None]:
    """Inside the block `raise_on_signal` replaces `exit_on_signal`."""
    return handler_replaced(exit_on_signal, raise_on_signal)


def restore_handler(signum: int, handler: Any) -> None:
    """Nothing for None. That is a handler from outside Python, which Python cannot set again."""
    if handler is not None:
        signal.signal(signum, handler)


@contextmanager
def raising_keyboard_interrupt() -> Iterator[None]:
    """In a notebook Ctrl-C is a KeyboardInterrupt. Lightning makes a `sys.exit` of it, and ignores Ctrl-C from then
    on."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        restore_handler(signal.SIGINT, before)
        raise KeyboardInterrupt from None


class LossyOutput(io.FileIO):
    """Drops what cannot be written: the terminal is closed, the reader of the pipe is gone, the disk is full."""

    def write(self, content: Any) -> int:
        with suppress(OSError):
            written = super().write(content)
            if written is not None:  # None: the pipe is full, and does not wait
                return written
        return len(content)


def drop_unwritable_output() -> None:
    """A run goes on if nobody reads its output. A character that the terminal lacks becomes a question mark."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # it was closed; no other file may take its place
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
        elif type(stream) is io.TextIOWrapper:  # another type is a test's or a front end's own
            setattr(sys, name, _to_lossy(stream))


@contextmanager
def importing() -> Iterator[None]:
    """Import torch inside this block.

    The garbage collector ignores what is imported, because that stays. Looking at it would take a sixth of the import
    time, and 0.4 s of a run. A signal ends the program at once. Memory that is freed later is kept, see
    `keep_freed_memory`. Lightning does not see the rank that a launcher has given to this process: it need not even be
    a number.
    """
    hidden = {name: os.environ.pop(name) for name in RANK_VARIABLES if name in os.environ}
    is_first = "lightning" not in sys.modules
    if is_first:
        gc.collect()  # freeze() would keep the garbage of a notebook for ever
    was_enabled = gc.isenabled()
    gc.disable()
    keep_freed_memory()
    try:
        with handler_replaced(raise_on_signal, exit_on_signal):
            if is_first:
                _import_torchmetrics()
            yield
    finally:
        os.environ.update(hidden)
        if is_first:
            gc.freeze()
        if was_enabled:
            gc.enable()


def _import_torchmetrics() -> None:
    """Import torchmetrics without SciPy's signal module. torchmetrics uses this module only to add a name to it, for an
    old package. To import it takes a fifth of the import time. Other code can import it later."""
    if "scipy.signal" in sys.modules:
        return
    sys.modules["scipy.signal"] = stand_in = ModuleType("scipy.signal")
    stand_in.hamming = None  # type: ignore[attr-defined]
    try:
        import torchmetrics  # noqa: F401
    except (ImportError, AttributeError):  # another release uses more of it; the import in the block then loads all
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchmetrics"]:
            del sys.modules[name]
    finally:
        del sys.modules["scipy.signal"]


def keep_freed_memory() -> None:
    """Make glibc keep the memory of one step's tensors for the next step.

    By default it sometimes gives the memory back to the system and takes it again page by page. That costs a small
    network up to a fifth of its time, depending on the processor (`python -m benchmarks tricks`). If the environment
    sets malloc up, nothing changes.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    with suppress(AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)  # the largest value that it accepts
        mallopt(M_TRIM_THRESHOLD, 2**30)


def usable_cores() -> int:
    """The cores that this process may use: in a job of a cluster or a container fewer than the machine has."""
    from joblib import cpu_count  # it knows the limits of containers, too

    return int(cpu_count())


def silence_lightning() -> None:
    """Hide the messages and warnings of Lightning and torch that do not help the user."""
    import lightning.pytorch  # noqa: F401  importing it sets the levels of its loggers, so this comes first

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # a run prints its device itself
    warnings.filterwarnings("ignore", message=".*torch.jit.trace.*is deprecated")  # TensorBoard's graph needs it
    warnings.filterwarnings("ignore", message=".*sync_dist=True")  # all ranks log the same values
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty")  # a resumed run
    warnings.filterwarnings("ignore", message=".*but have no logger configured")  # a validation that is not logged
    warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")  # torch 2.15 with Lightning 2.6


def exit_quickly() -> None:
    """Call this when all work is done. The program then skips Python's own shutdown, which takes a second when torch
    and Lightning are loaded. It does not skip anything that the environment has set to run at the end."""
    global _exit_quickly
    _exit_quickly = not EARLIER_EXIT_FUNCTIONS and not any(os.environ.get(name) for name in INJECTED_LIBRARIES)


def _exit() -> None:
    if _exit_quickly:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:  # the reader of the pipe is gone; Python reports that itself
            return
        os._exit(0)


atexit.register(_exit)  # runs after the functions of libraries: it is registered before they are imported


@contextmanager
def handler_replaced(before: Handler, inside: Handler) -> Iterator[None]:
    """Use the handler `inside`, but only if the current one is `before`; a program's own handlers stay."""
    if before not in map(signal.getsignal, handled_signals()):
        yield
        return
    set_signal_handler(inside)
    try:
        yield
    finally:
        set_signal_handler(before)


def _print_signal(signum: int) -> None:
    with suppress(OSError):  # nobody reads it
        os.write(2, f"stopped by {signal.Signals(signum).name}\n".encode())


def _to_lossy(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    stream.flush()
    raw = getattr(stream.buffer, "raw", stream.buffer)  # `python -u` has no buffer
    if not isinstance(raw, io.FileIO):  # the console of Windows
        stream.reconfigure(errors="replace")
        return stream
    lossy = LossyOutput(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        lossy if raw is stream.buffer else io.BufferedWriter(lossy),
        encoding=stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
